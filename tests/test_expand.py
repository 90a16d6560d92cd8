"""Jobs put together from parts equal the jobs that Hydra composes whole, also where words touch a common part."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from biaslab import expand as module
from biaslab.accel.hqq import Hqq
from biaslab.accel.wanda import Wanda
from biaslab.config import Config, ModelConfig
from biaslab.expand import expand
from tests.cli.run import environment

REAL = """
import json, sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from biaslab import expand, sweep
composed = []
inner = ConfigLoaderImpl.load_sweep_config
ConfigLoaderImpl.load_sweep_config = lambda *words: composed.append(1) or inner(*words)
def compare(folder, jobs):
    n_parts = len(composed)
    expand.FEW = 10**9
    whole = expand.job_configs(current[0])
    print(json.dumps({"jobs": len(jobs), "composed": n_parts, "equal": list(jobs) == list(whole)}))
    raise SystemExit(0)
sweep._start = compare
current = []
def start(self, config, **kwargs):
    current.append(config)
    compare(None, expand.job_configs(config))
sweep.SweepCallback.on_multirun_start = start
sys.argv = ["biaslab", *sys.argv[1:]]
from biaslab.__main__ import run_line
run_line()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "most"),
    [
        (["model=tiny_llama,tiny_mistral", "accel=hqq4,hqq8,[wanda50,hqq4],none", "seed=range(0,4)"], 17),
        (["accel=hqq4", "accel.hqq4.group_size=32,64,128", "accel.hqq4.bits=2,3,4", "seed=range(0,3)"], 9),
        (["accel=hqq4,hqq8", "seed=range(0,20)", "limit=null,5", "prompt.system=a,'b c'"], 11),
        (["accel=hqq4", "seed=range(0,12)", "accel.hqq4.bits=2,3", "accel.hqq4={bits:4}"], 24),
        (["accel=hqq4,hqq8", "seed=range(0,6)", "categories=[],[a],[b]"], 17),  # lists are composed whole
    ],
)
def test_real_sweeps_are_planned_as_hydra_runs_them(tmp_path: Path, line: Sequence[str], most: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REAL, "-m", "benchmark=planted", *line], cwd=tmp_path, env=environment(), text=True,
        capture_output=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["equal"]
    assert told["jobs"] >= 24
    assert told["composed"] <= most


def fake(words: tuple[str, ...]) -> Config:
    """A composition in which `a` and `b` touch one part together, and `c` another."""
    values = dict(word.split("=") for word in words)
    bits, size = int(values["a"]), int(values["b"])
    return Config(accel={"hqq4": Hqq(bits=bits, group_size=size)}, seed=int(values["c"]), model=ModelConfig(name="m"))


def jobs(n: int) -> list[tuple[str, ...]]:
    return [(f"a={a}", f"b={b}", f"c={c}") for a, b, c in itertools.product((2, 4), (32, 64), range(n))]


def test_words_that_touch_a_common_part_are_composed_together() -> None:
    calls: list[tuple[str, ...]] = []
    made = expand(jobs(40), lambda words: calls.append(words) or fake(words))  # type: ignore[func-returns-value]
    assert made == [fake(words) for words in jobs(40)]
    assert len(calls) == len(set(calls)) < 60


def test_a_composition_that_is_no_sum_of_its_parts_is_composed_whole() -> None:
    def odd(words: tuple[str, ...]) -> Config:
        config = fake(words)
        if words[0] == "a=4" and words[2] == "c=39":  # only together
            return dataclasses.replace(config, limit=7)
        return config

    assert expand(jobs(40), odd) == [odd(words) for words in jobs(40)]


def test_another_class_with_equal_fields_is_another_part() -> None:
    def swap(words: tuple[str, ...]) -> Config:
        accel = Wanda() if "a=4" in words else Hqq()
        return Config(accel={"x": accel}, seed=int(words[2][2:]))

    assert expand(jobs(20), swap) == [swap(words) for words in jobs(20)]


def test_plain_values_are_set_in_the_first_composition_and_a_sample_is_composed_whole() -> None:
    whole: list[tuple[str, ...]] = []
    varied: list[tuple[str, ...]] = []

    def compose(words: tuple[str, ...]) -> Config:
        whole.append(words)
        return fake(words)

    def vary(base: tuple[str, ...], words: tuple[str, ...]) -> Config:
        assert base == jobs(40)[0]
        varied.append(words)
        return fake(words)

    assert expand(jobs(40), compose, vary) == [fake(words) for words in jobs(40)]
    assert len(whole) <= 1 + module.SAMPLE + 1
    assert len(varied) == len(set(varied))


def test_a_wrong_variation_is_noticed_in_the_sample() -> None:
    def wrong(_base: tuple[str, ...], words: tuple[str, ...]) -> Config:
        return dataclasses.replace(fake(words), limit=3)

    assert expand(jobs(40), fake, wrong) == [fake(words) for words in jobs(40)]


def test_few_jobs_are_composed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_assemble", lambda *_: pytest.fail("not needed"))
    assert len(expand(jobs(5), fake)) == 20
