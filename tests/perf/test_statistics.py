"""What a study costs: a large one, an ordinary one, and the kernel against pingouin. `make perf` prints the table."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.fake import make_sweep
from tests.cli.run import environment

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1800)]

BUSY = 2.5  # load above which this machine is not the test's own
# In a process of its own, so that memory and processor time are the study's.
MEASURE = """
import resource, sys, time
import numpy, pandas, scipy.special, scipy.stats, pingouin, pyarrow.parquet  # what every analysis imports once
from analysis.analyse import analyse
from analysis.settings import Settings
wall, cpu = time.perf_counter(), time.process_time()
study = analyse(sys.argv[1], Settings(n_resamples=9999))
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
assert study.benchmarks[0].omnibus.n_resamples == 9999, study.benchmarks[0].omnibus
print(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(sweep: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds, peak MiB of one analysis on 2 threads; on 1 where others are busy.

    Threads that wait for a processor spin, and would be counted as work.
    """
    threads = "1" if os.getloadavg()[0] > BUSY else "2"
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(sweep)],
        capture_output=True, text=True, env=environment(OMP_NUM_THREADS=threads), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wall, cpu, memory = map(float, done.stdout.split())
    return wall, cpu, memory


def within(wall: float, cpu: float, limit: float) -> bool:
    """The limit is for 2 processors of one's own. Where others are busy, the time of one thread stands for it:

    two take about two thirds of it, because most of a large study is products of matrices, which they share.
    """
    return wall < limit or (os.getloadavg()[0] > BUSY and cpu < 1.5 * limit)


def arms(models: int, accels: int) -> dict[str, tuple[str, ...]]:
    return {"models": tuple(f"m{i}" for i in range(models)), "accels": tuple(f"a{i}" for i in range(accels - 1))}


@pytest.mark.parametrize(("clusters", "per"), [(6000, 10), (60_000, 1)])
def test_60000_items_of_10_models_under_20_accelerators(tmp_path: Path, clusters: int, per: int) -> None:
    sweep = make_sweep(tmp_path, **arms(10, 20), n_clusters=clusters, items_per_cluster=per, notes={}, source="hub")
    wall, cpu, memory = measure(sweep)
    print(f"\n{clusters} clusters of {per}: wall {wall:.1f} s, processor {cpu:.1f} s, peak {memory:.0f} MiB")
    assert within(wall, cpu, 60)
    assert memory < 4096


def test_1500_items_of_3_models_under_8_accelerators(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, **arms(3, 8), n_clusters=1500, items_per_cluster=1, notes={}, source="hub")
    wall, cpu, memory = measure(sweep)
    print(f"\n1,500 items x 3 x 8: wall {wall:.2f} s, processor {cpu:.2f} s, peak {memory:.0f} MiB")
    assert within(wall, cpu, 2)


@pytest.mark.parametrize("shape", [(1500, 3, 8), (60_000, 10, 20)])
def test_not_slower_than_pingouin_on_the_same_table(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The omnibus with its flips against rm_anova alone; both get the scores as they need them."""
    from analysis import kernel
    from analysis.anova import rm_anova
    from analysis.clusters import partition
    from analysis.contrasts import apply_contrasts, difference_weights, interaction_basis
    from analysis.resampling import interaction_test

    n, models, accels = shape
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(n, 1)) + rng.normal(size=(n, models * accels))
    grid = [(f"m{i}", "none" if j == 0 else f"a{j}") for i in range(models) for j in range(accels)]
    seconds = {}

    def timed(name: str, run: object) -> None:
        start = time.process_time()
        run()  # type: ignore[operator]
        seconds[name] = time.process_time() - start

    import pingouin  # noqa: F401

    timed("kernel", lambda: kernel.rm_anova2(scores.reshape(shape)))
    monkeypatch.setattr(kernel, "FROM_CELLS", 10**12)
    timed("pingouin", lambda: rm_anova(scores, grid, unit="items"))
    clusters = partition([f"{i:05d}" for i in np.arange(n) // 10])

    def omnibus() -> None:
        contrasts, weights = interaction_basis(grid), difference_weights(grid)[1]
        values = apply_contrasts(scores, contrasts), apply_contrasts(scores, weights)
        interaction_test(*values, clusters, rng=np.random.default_rng(0))

    timed("omnibus with 9,999 flips", omnibus)
    print(f"\n{n} x {models} x {accels}: " + ", ".join(f"{k} {v:.2f} s" for k, v in seconds.items()))
    assert seconds["kernel"] < seconds["pingouin"]
    if n > 10_000:
        assert seconds["omnibus with 9,999 flips"] < seconds["pingouin"]


def test_a_table_of_10_million_rows(tmp_path: Path) -> None:
    """Of somebody else's: 50,000 items of 10 models under 20 accelerators, one parquet file of 170 MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, rng, file = 50_000, np.random.default_rng(0), tmp_path / "big.parquet"
    item, cluster = ([f"{name} {i // size:05d}" for i in range(n)] for name, size in (("item", 1), ("template", 10)))
    base, writer = rng.normal(size=n), None
    for model in range(10):
        for accel in range(20):
            score = base + (rng.normal(0.1, 0.3, n) if accel else 0.0)
            labels = {"model": [f"m{model}"] * n, "accel": [f"a{accel}" if accel else "none"] * n}
            table = pa.table(labels | {"item": item, "cluster": cluster, "score": score})
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
    assert writer is not None
    writer.close()
    wall, cpu, memory = measure(file)
    print(f"\n10,000,000 rows of a table: wall {wall:.1f} s, processor {cpu:.1f} s, peak {memory:.0f} MiB")
    assert memory < 4096  # 2,943 measured, all of it while reading
