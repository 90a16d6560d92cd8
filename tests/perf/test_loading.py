"""What loading a benchmark and building its requests costs, each in a process of its own: `make perf` prints it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run import environment

pytestmark = [pytest.mark.perf, pytest.mark.data]

# The time of checksums and items after imports, the growth of the peak memory, requests and scores a second.
MEASURE = """
import json, resource, sys, time
import pandas, scipy.stats
from biaslab.benchmarks import registry
from biaslab.engine.requests import GenerateResponse
from biaslab.models.base import ModelInfo
name, config = sys.argv[1], json.loads(sys.argv[2])
model = ModelInfo('m', 'local', 'sha256:0', '', 'LlamaForCausalLM', {})
benchmark = registry()[name](**config)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
benchmark.data_sha256()
items = benchmark.items(model)
load_s, mib = time.perf_counter() - start, peak() - before
start = time.perf_counter()
n = sum(len(benchmark.requests(item)) for item in items)
requests_per_s = n / (time.perf_counter() - start)
found = {'items': len(items), 'load_s': load_s, 'mib': mib, 'requests_per_s': requests_per_s}
if benchmark.generates:
    words = 'she said that the man and his friend were not able to work with her in the city'.split()
    texts = [' '.join(words[(i + k) % len(words)] for k in range(30)) for i in range(2000)]
    some = [items[i * len(items) // 2000] for i in range(2000)]
    start = time.perf_counter()
    for item, text in zip(some, texts):
        benchmark.score(item, [GenerateResponse(text, 'length', 32, 9)])
    found['scores_per_s'] = 2000 / (time.perf_counter() - start)
print(json.dumps(found))
"""
AT_HAND = [
    "Age", "Disability_status", "Gender_identity", "Nationality", "Physical_appearance", "Religion",
    "Sexual_orientation",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config", "items"),
    [
        ("bbq", {"categories": AT_HAND}, 17612),
        ("bold", {}, 23674),
        ("holisticbias", {}, 23760),
        ("winobias", {}, 1582),
        ("redditbias", {}, 1216),
    ],
)
def test_loading_is_quick_and_small(
    name: str, config: dict[str, object], items: int, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = environment(BIASLAB_DATA_DIR=str(data_dir))
    line = [sys.executable, "-c", MEASURE, name, json.dumps(config)]
    done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\n{name}: {found}")
    assert found["items"] == items
    assert found["load_s"] < 2
    assert found["mib"] < 500
    assert found["requests_per_s"] > 50_000
    assert found.get("scores_per_s", 5_000) >= 2_000


def test_a_large_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("more,less\n")
        file.writelines(f"The {i}th sentence says she.,The {i}th sentence says he.\n" for i in range(50_000))
    line = [sys.executable, "-c", MEASURE, "pairs", json.dumps({"file": str(path)})]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\npairs, 50,000 rows: {found}")
    assert found["items"] == 50_000
    assert found["load_s"] < 2
    assert found["mib"] < 500
    assert found["requests_per_s"] > 50_000
