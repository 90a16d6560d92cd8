"""What the quickstart costs, and how much of it is the framework's own: `make perf` prints the table."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.run import environment

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1200)]

# Runs the typed line with a stopwatch around everything that is neither model work nor analysis.
STOPWATCH = """
import sys, time
from biaslab import job, plan, sweep
from biaslab.results import store
spent = {}
def watch(owner, name, label):
    inner = getattr(owner, name)
    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[label] = spent.get(label, 0.0) + time.perf_counter() - start
    setattr(owner, name, timed)
watch(store.Store, 'write', 'store'); watch(store.Store, 'attempts', 'store'); watch(store.Store, 'is_locked', 'store')
watch(sweep.Sweep, 'write', 'ledger'); watch(sweep.Sweep, 'collect', 'ledger'); watch(job._Job, '_describe', 'describe')
watch(sweep, 'job_configs', 'compose'); watch(sweep, '_plan', 'plan')
sys.argv = ['biaslab', *sys.argv[1:]]
from biaslab.__main__ import main
start = time.perf_counter()
try:
    main()
finally:
    import json
    print('SPENT', json.dumps(spent | {'wall': time.perf_counter() - start}), file=sys.stderr)
"""


def test_the_quickstart_is_quick_small_and_mostly_model_work(tmp_path: Path) -> None:
    env = environment()
    env.pop("OMP_NUM_THREADS")
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", STOPWATCH, "experiment=quickstart"],
        cwd=tmp_path, capture_output=True, text=True, env=env, timeout=1000,
    )  # fmt: skip
    wall = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = json.loads(next(line for line in done.stderr.splitlines() if line.startswith("SPENT"))[6:])
    total = spent.pop("wall")
    share = sum(spent.values()) / total
    cells = [json.loads(p.read_text())["timings"] for p in (tmp_path / "outputs/results").rglob("cell.json")]
    print(f"\nquickstart, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"  whole process wall        {wall:8.1f} s   processor {usage.ru_utime + usage.ru_stime:.1f} s")
    print(f"  peak memory               {usage.ru_maxrss / 1024:8.0f} MiB")
    print(f"  cells                     {len(cells):8d}     asking models {sum(c['engine_s'] for c in cells):.1f} s")
    for name, seconds in sorted(spent.items()):
        print(f"  {name:24}  {seconds:8.2f} s")
    print(f"  framework's share         {100 * share:8.1f} %")
    assert len(cells) == 30
    assert usage.ru_utime + usage.ru_stime < 180
    assert usage.ru_maxrss / 1024 < 2048
    assert share < 0.05
