"""What benchmarks cost apart from the model: loading, requests, parsing; `make perf` prints the table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from biaslab.benchmarks.discrim_eval import DiscrimEval
from biaslab.benchmarks.global_opinion_qa import GlobalOpinionQA
from biaslab.models.base import ModelInfo
from tests.benchmarks.parser_errors import CASES, PARSERS
from tests.cli.run import environment

pytestmark = [pytest.mark.perf, pytest.mark.data]
MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})

LOAD = """
import json, resource, sys, time
from biaslab.benchmarks import registry
from biaslab.models.base import ModelInfo
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
benchmark = registry()[sys.argv[1]]()
items = benchmark.items(ModelInfo("m", "local", "x", "/x", "LlamaForCausalLM", {}))
n = len(items) + len(benchmark.references(items, None))
wall = time.perf_counter() - start
print(json.dumps([n, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@pytest.mark.parametrize("name", ["discrim_eval", "global_opinion_qa"])
def test_loading_the_largest(data_dir: Path, name: str) -> None:
    env = environment(BIASLAB_DATA_DIR=str(data_dir))
    done = subprocess.run([sys.executable, "-c", LOAD, name], capture_output=True, text=True, env=env, check=True)
    n, wall, peak = json.loads(done.stdout)
    print(f"\n{name}: {n} items in {wall:.2f} s, the process at its peak {peak:.0f} MiB")
    assert wall < 2
    assert peak < 500


@pytest.mark.parametrize("benchmark", [DiscrimEval(), GlobalOpinionQA()], ids=lambda b: b.name)
def test_building_requests(data_dir: Path, benchmark: DiscrimEval | GlobalOpinionQA) -> None:
    items = list(benchmark.items(MODEL))
    start = time.perf_counter()
    n = sum(len(benchmark.requests(item)) for item in items)
    rate = n / (time.perf_counter() - start)
    print(f"\n{benchmark.name}: {rate:,.0f} requests a second")
    assert rate > 50_000


def test_parsing() -> None:
    for name, (ours, published) in PARSERS.items():
        texts = [case["text"] for case in CASES if case["parser"] == name] * 50
        for word, rule in (("default", ours), ("published", published)):
            start = time.perf_counter()
            for text in texts:
                rule(text)
            rate = len(texts) / (time.perf_counter() - start)
            print(f"\n{name}, {word}: {rate:,.0f} answers a second")
            assert rate > 2_000
