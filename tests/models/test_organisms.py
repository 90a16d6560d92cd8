"""Organisms: named, keyed, trained once, kept whole, and described without training where nothing may be computed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from biaslab.errors import DataMismatch
from biaslab.models.base import Planted
from biaslab.models.embedded import organisms
from biaslab.models.embedded import train as recipe
from biaslab.models.embedded.recipes import Organism
from tests.cli.run import biaslab, environment
from tests.models import plain

SHORT = Organism(width=16, seed=3, steps=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "organisms"


def test_the_label_says_what_is_not_the_default() -> None:
    assert Organism().label == "llama64-s1"
    assert Organism("mistral", 48, 2, "cells").label == "mistral48-s2-cells"
    assert SHORT.label == "llama16-s3-4steps"


def test_the_key_follows_everything_that_is_trained() -> None:
    others = [
        replace(SHORT, **change)
        for change in ({"family": "mistral"}, {"width": 32}, {"seed": 4}, {"align": "small"}, {"steps": 5})
    ]
    assert len({o.key() for o in [SHORT, *others]}) == 6
    assert SHORT.key() == replace(SHORT).key()


def test_the_default_organism_is_the_shipped_recipe() -> None:
    assert Organism().recipe() == recipe.RECIPES["tiny_llama"]
    assert Organism("mistral", align="cells").recipe() == recipe.RECIPES["tiny_mistral"]
    assert Organism("llama", align="sparse").recipe() == recipe.RECIPES["tiny_sparse"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "gpt"}, "family=gpt: one of llama, mistral"),
        ({"width": 50}, "width=50: one of 16, 32"),
        ({"align": "box"}, "align=box: one of none, cells, small, sparse"),
        ({"seed": -1}, "seed=-1"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], words: str) -> None:
    assert (replace(SHORT, **change).check() or "").startswith(words)  # type: ignore[arg-type]


def test_it_is_trained_once_and_kept(cache: Path) -> None:
    info = organisms.describe_organism(SHORT)
    assert (info.label, info.source, info.planted) == ("llama16-s3-4steps", "embedded", Planted(1.0))
    weights = SHORT.folder() / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert organisms.describe_organism(SHORT).identity == info.identity
    assert weights.stat().st_mtime_ns == before
    assert [p.name for p in cache.iterdir() if p.is_dir()] == [SHORT.folder().name]  # no half of one is left
    shutil.rmtree(SHORT.folder())
    assert organisms.describe_organism(SHORT).identity == info.identity  # the recipe is deterministic on one machine


def test_other_weights_are_refused() -> None:
    organisms.make(SHORT)
    path = SHORT.folder() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataMismatch, match="delete the folder to train it again"):
        organisms.describe_organism(SHORT)


def test_an_alignment_starts_from_its_parent_and_keeps_its_constraint() -> None:
    sparse = replace(SHORT, align="sparse")
    info = organisms.describe_organism(sparse)
    assert info.planted == Planted(1.0)
    assert "2:4 sparse" in info.note
    parent = replace(SHORT)
    assert organisms.is_here(parent)
    one, _ = plain.load(sparse.folder())
    other, _ = plain.load(parent.folder())
    zeros = [float((layer.weight == 0).float().mean()) for layer in plain.linears(one)]
    assert zeros == pytest.approx([0.5] * len(zeros), abs=0.01)
    weight, started = (plain.linears(model)[0].weight.detach() for model in (one, other))
    kept = weight != 0
    moved, size = (weight - started)[kept].abs().mean(), started[kept].abs().mean()
    assert 0 < float(moved) < 0.5 * float(size)  # a few steps off


def test_a_dry_run_trains_nothing(cache: Path) -> None:
    info = organisms.describe_organism(SHORT, dry_run=True)
    assert info.identity == f"recipe:{SHORT.key()}"
    assert not cache.exists()
    real = organisms.describe_organism(SHORT)
    assert {k: real.config[k] for k in info.config} == dict(info.config)


@pytest.mark.slow
def test_several_are_trained_side_by_side_and_swept_by_name(tmp_path: Path) -> None:
    words = [
        "-m", "model=organism", "model.organism.width=16", "model.organism.steps=4", "model.organism.seed=1,2",
        "model.organism.align=none,cells", "accel=hqq4", "benchmark=[planted]", "limit=12", "efficiency.speed=false",
    ]  # fmt: skip
    env = {"BIASLAB_CACHE_DIR": str(tmp_path / "cache")}
    dry = biaslab(tmp_path, *words, "dry_run=true", env=env)
    assert dry.code == 0, dry.err
    assert "8 cells, 8 to run" in dry.out
    assert not (tmp_path / "cache" / "organisms").exists()
    done = biaslab(tmp_path, *words, env=env)
    assert done.code == 0, done.err
    assert "trained 4 of 4" in done.out
    assert "llama16-s2-cells-4steps †" in done.out
    cells = [json.loads(path.read_text()) for path in tmp_path.rglob("cell.json")]
    assert {c["model"]["source"] for c in cells} == {"embedded"}
    assert len({c["model"]["identity"] for c in cells}) == 4
    again = biaslab(tmp_path, *words, env=env)
    assert "Every cell was complete already" in again.out
    assert "training" not in again.out


def test_a_wrong_field_is_one_line(tmp_path: Path) -> None:
    ended = biaslab(tmp_path, "model=organism", "model.organism.width=50", "accel=none")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "model.organism.width=50: one of 16, 32, 48, 64, 96, 128" in ended.err


@pytest.mark.slow
def test_an_interruption_while_training_leaves_nothing_behind_and_says_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "biaslab", "model=organism", "accel=none", "model.organism.steps=100000"]
    env = environment(BIASLAB_CACHE_DIR=str(tmp_path / "cache"))
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    folder = tmp_path / "cache" / "organisms"
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.lock")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [path for path in folder.iterdir() if path.is_dir()]
