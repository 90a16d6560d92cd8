"""The cache of accelerated weights: the same bits, never a stale one, bounded, safe for two processes."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.accel.active import reference_logits
from biaslab.accel.base import Accelerator
from biaslab.accel.cache import WeightCache
from biaslab.accel.calibration import Calibration
from biaslab.accel.hqq import Hqq
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.wanda import Wanda
from biaslab.models.base import LoadedModel
from tests.accel import tiny
from tests.cli.run import biaslab, environment

SMALL = Calibration(samples=4, length=16)
WANDA = {"wanda50": Wanda(calibration=SMALL)}


@pytest.fixture
def applications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every step that was really computed."""
    computed: list[str] = []
    plain = Wanda.apply

    def counted(self: Wanda, model: LoadedModel, name: str) -> LoadedModel:
        computed.append(name)
        return plain(self, model, name)

    monkeypatch.setattr(Wanda, "apply", counted)
    return computed


def run(root: Path, accels: Mapping[str, Accelerator], gib: float = 1.0, **make: Any) -> LoadedModel:
    return WeightCache(root, gib * 2**30).apply(tiny.make(**({"architecture": "llama"} | make)), accels)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_hit_has_the_same_bits_and_the_same_facts(
    tmp_path: Path, applications: list[str], architecture: str, tied: bool
) -> None:
    first, second = (run(tmp_path, WANDA, architecture=architecture, tied=tied) for _ in range(2))
    assert applications == ["wanda50"]
    assert torch.equal(reference_logits(first), reference_logits(second))
    for (name, a), b in zip(first.module.named_parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b), name
    (before,), (after,) = first.facts, second.facts
    assert (before.step, before.method) == (after.step, after.method)
    assert {**before.values, "from_cache": True} == after.values
    if tied:
        assert second.module.get_input_embeddings().weight is second.module.get_output_embeddings().weight


def test_what_follows_a_dear_step_is_applied_to_what_was_kept(tmp_path: Path, applications: list[str]) -> None:
    stack = {**WANDA, "hqq4": Hqq()}
    first, second = run(tmp_path, stack), run(tmp_path, stack)
    assert applications == ["wanda50"]
    assert torch.equal(reference_logits(first), reference_logits(second))
    assert [fact.step for fact in second.facts] == ["wanda50", "hqq4"]
    assert [fact.values["active"] for fact in second.facts] == [fact.values["active"] for fact in first.facts]
    assert all(fact.values["active"]["max_logit_change"] > 1e-3 for fact in second.facts)
    run(tmp_path, {"mine": WANDA["wanda50"], "hqq8": Hqq(bits=8)})  # the same step under another name
    assert applications == ["wanda50"]


def test_a_dear_step_behind_a_cheap_one_is_not_kept(tmp_path: Path, applications: list[str]) -> None:
    stack = {"magnitude50": Magnitude(), **WANDA}
    run(tmp_path, stack)
    run(tmp_path, stack)
    assert applications == ["wanda50"] * 2
    assert WeightCache(tmp_path, 1).entries() == []


def test_anything_that_could_change_a_bit_is_another_entry(
    tmp_path: Path, applications: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "mine.txt"
    text.write_text(" ".join(f"word{i}" for i in range(100)))
    own = dataclasses.replace(SMALL, source=str(text))
    plain = tiny.make

    def other_weights(*args: Any, **kwargs: Any) -> LoadedModel:
        model = plain(*args, **kwargs)
        return dataclasses.replace(model, info=dataclasses.replace(model.info, identity="sha256:1"))

    for accels, make in [
        (WANDA, {}),
        ({"w": Wanda(calibration=dataclasses.replace(SMALL, seed=1))}, {}),
        ({"w": Wanda(calibration=SMALL, sparsity=0.25)}, {}),
        ({"w": Wanda(calibration=own)}, {}),
        (WANDA, {"dtype": torch.bfloat16}),
    ]:
        run(tmp_path, accels, **make)
    assert len(applications) == 5
    text.write_text(" ".join(f"other{i}" for i in range(100)))
    run(tmp_path, {"w": Wanda(calibration=own)})
    monkeypatch.setattr(tiny, "make", other_weights)
    run(tmp_path, WANDA)
    monkeypatch.setattr(tiny, "make", plain)
    monkeypatch.setattr("biaslab.accel.cache._code", lambda: "changed")
    run(tmp_path, WANDA)
    monkeypatch.setattr("biaslab.accel.cache._versions", lambda: {"torch": "0"})
    run(tmp_path, WANDA)
    assert len(applications) == 9
    assert len(WeightCache(tmp_path, 1).entries()) == 9


@pytest.mark.parametrize("damage", ["bit", "short", "json", "gone"])
def test_a_damaged_entry_is_dropped_and_computed_again(
    tmp_path: Path, applications: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = run(tmp_path, WANDA)
    (entry,) = WeightCache(tmp_path, 1).entries()
    weights = entry.folder / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    if damage == "bit":
        raw[-5] ^= 1
        weights.write_bytes(raw)
    elif damage == "short":
        weights.write_bytes(raw[:-100])
    elif damage == "json":
        (entry.folder / "entry.json").write_text('{"format": ')
    else:
        weights.unlink()
    again = run(tmp_path, WANDA)
    assert applications == ["wanda50"] * 2
    assert torch.equal(reference_logits(first), reference_logits(again))
    assert "dropped from the cache of weights" in caplog.text
    run(tmp_path, WANDA)
    assert applications == ["wanda50"] * 2


def test_an_entry_that_lost_its_label_is_replaced(tmp_path: Path, applications: list[str]) -> None:
    """As a process leaves it that is killed while it drops an entry."""
    first = run(tmp_path, WANDA)
    (entry,) = WeightCache(tmp_path, 1).entries()
    (entry.folder / "entry.json").unlink()
    again, third = run(tmp_path, WANDA), run(tmp_path, WANDA)
    assert applications == ["wanda50"] * 2
    assert torch.equal(reference_logits(first), reference_logits(again))
    assert torch.equal(reference_logits(first), reference_logits(third))


def test_what_a_killed_writer_left_is_removed_unless_it_still_writes(tmp_path: Path) -> None:
    run(tmp_path, WANDA)
    cache = WeightCache(tmp_path, 2**30)
    (entry,) = cache.entries()
    (entry.folder / "entry.json").unlink()
    own, dead, busy = (tmp_path / f".{key}.1.abc" for key in (entry.key, "dead", "busy"))
    for left in (own, dead, busy):
        left.mkdir()
        (left / "weights.safetensors").write_bytes(b"half")
    with cache._lock("busy"):
        run(tmp_path, WANDA)
        assert [left.exists() for left in (own, dead, busy)] == [False, False, True]
    cache.prune()
    assert not busy.exists()
    assert [kept.key for kept in cache.entries()] == [entry.key]


def test_a_full_disk_costs_the_entry_and_not_the_cell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The system refuses a file longer than 1,000 bytes: the library's own error for it, not a made-up one."""
    model = tiny.make(architecture="llama")
    cache = WeightCache(tmp_path, 2**30)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        cache._keep(model, "key", "tiny wanda50")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "tiny wanda50: not kept in the cache of weights" in caplog.text
    assert "too large" in caplog.text
    assert cache.entries() == []
    assert list(tmp_path.iterdir()) == []


def test_the_longest_unused_are_dropped_when_it_is_full(tmp_path: Path, applications: list[str]) -> None:
    steps = [{"w": Wanda(calibration=dataclasses.replace(SMALL, seed=seed))} for seed in range(3)]
    run(tmp_path, steps[0])
    (entry,) = WeightCache(tmp_path, 1).entries()
    gib = 2.5 * entry.size_bytes / 2**30
    run(tmp_path, steps[1], gib)
    for age, seed in enumerate((1, 0)):  # seed 0 was used last
        run(tmp_path, steps[seed], gib)
        for found in WeightCache(tmp_path, 1).entries():
            os.utime(found.folder / "entry.json", (found.used - 100 * (2 - age),) * 2) if age == 0 else None
    run(tmp_path, steps[2], gib)
    assert len(WeightCache(tmp_path, 1).entries()) == 2
    n_before = len(applications)
    run(tmp_path, steps[0], gib)
    assert len(applications) == n_before, "seed 0 was used last and is still there"
    run(tmp_path, steps[1], gib)
    assert len(applications) == n_before + 1


def test_an_entry_in_use_is_never_dropped(tmp_path: Path) -> None:
    run(tmp_path, WANDA)
    cache = WeightCache(tmp_path, 1)
    (entry,) = cache.entries()
    with cache._lock(entry.key):
        assert cache.prune(0) == []
    assert [dropped.key for dropped in cache.prune(0)] == [entry.key]
    assert cache.entries() == []


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, WANDA, gib=1e-6)
    assert WeightCache(tmp_path, 1).entries() == []
    assert "larger than the whole cache of weights" in caplog.text


TWO = """
import sys, time
from pathlib import Path
from tests.accel.test_cache import WANDA, run
from biaslab.accel.wanda import Wanda
plain = Wanda.apply
def slow(self, model, name):
    time.sleep(1.0)
    print('COMPUTED')
    return plain(self, model, name)
Wanda.apply = slow
from biaslab.accel.active import reference_logits
print('SUM', repr(float(reference_logits(run(Path(sys.argv[1]), WANDA)).double().sum())))
"""


@pytest.mark.slow
def test_two_processes_compute_once_and_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", TWO, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        for _ in range(2)
    ]
    outs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    said = "".join(out for out, _ in outs).splitlines()
    assert said.count("COMPUTED") == 1
    sums = [line for line in said if line.startswith("SUM")]
    assert len(sums) == 2
    assert len(set(sums)) == 1


def test_an_entry_says_what_it_is(tmp_path: Path) -> None:
    run(tmp_path, WANDA)
    (entry,) = WeightCache(tmp_path, 1).entries()
    assert entry.label == "llama wanda50"
    content = json.loads((entry.folder / "entry.json").read_text())
    assert content["facts"][0]["step"] == "wanda50"
    assert {path.name for path in entry.folder.iterdir()} == {"entry.json", "weights.safetensors"}


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gptq", "awq"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_packed_layers_come_back_bit_by_bit(tmp_path: Path, architecture: str, family: str) -> None:
    pytest.importorskip("llmcompressor")
    from biaslab.accel import families

    accels = {"it": families()[family](**families()[family].test_config())}
    first, second = (run(tmp_path, accels, architecture=architecture) for _ in range(2))
    assert second.facts[0].values["from_cache"] is True
    assert torch.equal(reference_logits(first), reference_logits(second))
    state = second.module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.module.state_dict().items())


@pytest.mark.slow
def test_a_second_sweep_calibrates_nothing_and_the_verb_shows_and_empties_it(tmp_path: Path) -> None:
    line = ("accel=wanda50", "benchmark=planted", "limit=30", "analysis=skip")
    assert biaslab(tmp_path, *line).code == 0
    again = biaslab(tmp_path, *line, "seed=1")
    assert again.code == 0
    cells = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "results").rglob("cell.json")]
    facts = sorted(bool(f["values"].get("from_cache")) for c in cells for f in c["accel"]["facts"])
    assert facts == [False, True]
    listed = biaslab(tmp_path, "cache", "list")
    assert listed.code == 0
    assert "tiny_llama wanda50" in listed.out
    assert listed.out.splitlines()[-1].startswith("1 entries, ")
    kept = biaslab(tmp_path, "cache", "prune", "gib=1")
    assert kept.out.startswith("0 entries, 0 B dropped, ")
    assert biaslab(tmp_path, "cache", "prune").out.splitlines()[-1].endswith("dropped, 0 B left")
    assert not list((tmp_path / "outputs" / "accel_cache").glob("*/entry.json"))
    off = biaslab(tmp_path, *line, "seed=2", "accel_cache=off")
    assert off.code == 0
    assert not list((tmp_path / "outputs" / "accel_cache").glob("*/entry.json"))


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    for words in (["cache"], ["cache", "empty"], ["cache", "list", "nowhere"], ["cache", "prune", "gib=x"]):
        ended = biaslab(tmp_path, *words)
        assert ended.code == 2
        assert ended.err.startswith("biaslab: cache")
        assert ended.err.count("\n") == 1
    assert "accel_cache_gib=0.0: must be above 0" in biaslab(tmp_path, "accel_cache_gib=0").err
