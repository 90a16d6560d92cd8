"""The power verb: what it plans is what a simulated study then finds."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestPower

from analysis.__main__ import main
from tests.analysis.fake import make_sweep


def pilot(path: Path, *, n: int = 40, per: int = 1, sd: float = 1.0, seed: int = 0) -> Path:
    """One model under q: shifts of standard deviation `sd`, scaled to have it exactly."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(size=n)
    shift = sd * (shift - shift.mean()) / shift.std(ddof=1)
    base = rng.normal(size=n)
    rows = [("m", a, f"i{i}", base[i] + (a == "q") * shift[i], f"c{i // per}") for i in range(n) for a in ("none", "q")]
    file = path / "pilot.csv"
    pd.DataFrame(rows, columns=["model", "accel", "item", "score", "cluster"]).to_csv(file, index=False)
    return file


def test_the_plan_is_statsmodels_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", f"results={pilot(tmp_path)}", "effect=0.3"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    needed = int(np.ceil(TTestPower().solve_power(effect_size=0.3, alpha=0.05, power=0.8)))
    detectable = TTestPower().solve_power(nobs=40, alpha=0.05, power=0.8)
    assert re.search(rf" 40 clusters of 1 .* {detectable:.3g} +{needed} ", line), line


def test_a_curve_as_text_and_as_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "curve.svg"
    assert main(["power", f"results={pilot(tmp_path)}", "effect=0.5", f"svg={file}"]) == 0
    out = capsys.readouterr().out
    assert out.count("<- needed") == 1
    root = ET.parse(file).getroot()
    points = root.findall(".//{http://www.w3.org/2000/svg}g[@class='m']")
    assert len(points) == len(re.findall(r"[#.]{40}", out))
    assert "34 clusters: 0.8" in root.attrib["aria-label"]


def test_differences_of_models_and_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4", "placebo_batch"), repeats=3)
    assert main(["power", f"results={sweep}", "effect=0.02", "models=tiny_llama"]) == 0
    out = capsys.readouterr().out
    assert "placebo" not in out
    assert "not known" not in out  # repeats were measured
    assert main(["power", f"results={sweep}", "of=difference"]) == 0
    assert "not known" in capsys.readouterr().out


def test_cells_that_say_nothing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, inert=("hqq4",), accels=("hqq4", "wanda50"), failed=[("tiny_llama", "none")])
    assert main(["power", f"results={sweep}"]) == 3
    out = capsys.readouterr().out
    assert "no baseline" in out
    assert "every item of the pilot moved alike" in out
    one = make_sweep(tmp_path / "1", n_clusters=1)
    assert main(["power", f"results={one}"]) == 3
    assert "fewer than 2 clusters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RESULTS", "effect=0"], "effect=0: give the size"),
        (["RESULTS", "effect=big"], "effect=big: must be a number"),
        (["RESULTS", "of=mean"], "of=mean: choose one of shift, difference"),
        (["RESULTS", "cells=x"], "no cell of the pilot has a baseline and was asked for"),
    ],
)
def test_wrong_requests(tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = pilot(tmp_path)
    assert main(["power", *[w.replace("RESULTS", f"results={file}") for w in words]]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
