"""Every part of a benchmark's result from fake sweeps: it is there, it is right, and it says what cannot be had."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.analyse import analyse
from analysis.equivalence import equivalence
from analysis.frame import make_frames
from analysis.load import load
from analysis.power import power_of
from analysis.report import terminal, write_all
from analysis.settings import Margins, Settings
from analysis.study import BenchmarkResult, Study, to_json
from analysis.verdict import within
from tests.analysis.fake import make_sweep

FAST = Settings(n_resamples=199)
THREE = {"models": ("a", "b", "c"), "accels": ("hqq4", "wanda50", "placebo_batch"), "notes": {}}


@pytest.fixture(scope="module")
def holey(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three models, an interaction, and 5 % refusals in every cell."""
    sweep = make_sweep(tmp_path_factory.mktemp("h"), **THREE, interaction=0.6, missing=0.05, n_clusters=16)  # type: ignore[arg-type]
    return analyse(sweep, FAST)


def only(root: Path, settings: Settings = FAST, **options: object) -> BenchmarkResult:
    return analyse(make_sweep(root, **{**THREE, **options}), settings).benchmarks[0]  # type: ignore[arg-type]


def test_every_part_is_there_and_survives_json(holey: Study) -> None:
    b = holey.benchmarks[0]
    empty = [
        name
        for name in ("simple_effects", "interaction_contrasts", "assumptions", "flips", "flip_profile", "flip_groups",
                     "power", "equivalence", "adjusted", "bounds", "refusals")
        if not getattr(b, name)
    ]  # fmt: skip
    assert empty == []
    text = json.dumps(to_json(holey), allow_nan=False)
    for part in ("p_mcnemar", "share_naive", "detectable_family", "smallest_margin", "refusal_omnibus", "rank_r"):
        assert part in text


def test_power_and_equivalence_are_those_of_the_shift(holey: Study) -> None:
    b = holey.benchmarks[0]
    shifts = {(s.model, s.accel): s for s in b.shifts if s.verdict != "placebo"}
    rows = {(p.model, p.accel): p for p in b.power if p.kind == "shift"}
    assert rows.keys() == shifts.keys()
    tests = {(q.model, q.accel): q for q in b.equivalence if q.kind == "shift"}
    for arm, s in shifts.items():
        p, df = rows[arm], s.estimate.dof
        assert power_of(p.detectable, se=s.estimate.se, df=df) == pytest.approx(0.8, abs=1e-6)
        at_family = power_of(p.detectable_family, se=s.estimate.se, df=df, alpha=0.05 / 6)
        assert at_family == pytest.approx(0.8, abs=1e-6)
        assert p.at_margin == pytest.approx(power_of(s.margin, se=s.estimate.se, df=df))
        assert tests[arm].equivalent == within(s.estimate, s.margin, 0.05)
        assert tests[arm].smallest_margin == p.smallest_margin
    assert len(b.power) == 2 * len(rows)


def test_power_is_a_setting(tmp_path: Path) -> None:
    b = only(tmp_path, replace(FAST, power=0.95))
    p, s = b.power[0], b.shifts[0]
    assert power_of(p.detectable, se=s.estimate.se, df=s.estimate.dof) == pytest.approx(0.95, abs=1e-6)


def test_refusals_change_the_test_not_what_it_asks(holey: Study) -> None:
    b = holey.benchmarks[0]
    assert b.listwise is not None
    assert b.omnibus.n_items > b.listwise.n_items == b.n_items
    assert b.omnibus.p <= 0.05
    assert b.verdict == "interaction"
    assert b.refusal_omnibus is not None
    assert b.refusal_omnibus.p > 0.05  # refused at random


def test_without_missing_answers_there_is_one_test(tmp_path: Path) -> None:
    b = only(tmp_path)
    assert (b.listwise, b.refusal_omnibus, b.adjusted, b.bounds, b.refusals) == (None, None, [], [], [])


def test_a_yes_or_no_score_is_tested_on_two_scales(tmp_path: Path) -> None:
    b = only(tmp_path, score_kind="rate", interaction=1.0, n_clusters=40, noise=0.6)
    assert b.scales is not None
    assert math.isfinite(b.scales.p_logit)
    assert b.scales.word in ("robust", "removable", "crossover")
    assert len(b.scales.differences) == 6
    plain = only(tmp_path / "b", interaction=0.6)
    assert plain.scales is not None
    assert math.isnan(plain.scales.p_logit)


def test_repeats_and_seeds_have_their_own_variance(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, repeats=5, seeds=(0, 1, 2), n_clusters=12)
    b = analyse(sweep, FAST).benchmarks[0]
    frame = make_frames(load(sweep).cells)[0]
    for v in b.variances:
        assert (v.n_repeats, v.n_seeds) == (15, 3)
        scores = frame.score(v.model, v.accel)
        assert v.items + v.repeats / 15 == pytest.approx(float(np.var(scores, ddof=1)))
        assert v.seed_sd == pytest.approx(float(np.std(frame.seed_means[v.model, v.accel], ddof=1)))
        assert 0 < v.share < 1
    assert only(tmp_path / "b").variances == []


def test_the_floor_knows_the_placebos_interaction(tmp_path: Path) -> None:
    b = only(tmp_path)
    frame = make_frames(load(tmp_path / "outputs" / "sweeps" / "fake").cells)[0]
    means = np.array([np.nanmean(frame.shift(m, "placebo_batch")) for m in "abc"])
    expected = max(abs(means[i] - np.delete(means, i).mean()) for i in range(3))
    assert b.floor["interaction"] == pytest.approx(expected)
    assert "interaction" not in only(tmp_path / "b", models=("a",)).floor


def test_quantile_of_the_floor_is_a_setting(tmp_path: Path) -> None:
    one, half = (only(tmp_path / str(q), replace(FAST, floor_quantile=q)).floor["item"] for q in (0.95, 0.5))
    assert 0 < half < one


@pytest.mark.parametrize(
    "options",
    [
        {"models": ("a",)},
        {"accels": ("hqq4",), "models": ("a", "b")},
        {"n_clusters": 1, "items_per_cluster": 1},
        {"n_clusters": 1, "items_per_cluster": 8},
        {"n_clusters": 2, "items_per_cluster": 2},
        {"missing": 1.0},
        {"missing": 0.6, "n_clusters": 5, "items_per_cluster": 2},
        {"inert": ("hqq4", "wanda50")},
        {"shift": 0.0, "noise": 0.0},
        {"failed": (("a", "none"), ("b", "hqq4"))},
        {"failed": (("a", "none"), ("b", "none"), ("c", "none"))},
        {"score_kind": "rate", "n_clusters": 3, "items_per_cluster": 3},
        {"repeats": 2, "n_clusters": 4, "items_per_cluster": 2, "missing": 0.3},
    ],
)
def test_degenerate_studies_have_words_not_tracebacks(tmp_path: Path, options: dict[str, object]) -> None:
    study = analyse(make_sweep(tmp_path, **{**THREE, **options}), FAST)  # type: ignore[arg-type]
    paths = write_all(study, tmp_path / "report")
    for text in (paths["md"].read_text(), terminal.render(study)):
        assert not re.search(r"\bnan\b|\binf\b", text)
    assert study.predictable


def test_an_equivalence_by_hand(tmp_path: Path) -> None:
    b = only(tmp_path)
    frame = make_frames(load(tmp_path / "outputs" / "sweeps" / "fake").cells)[0]
    row = b.equivalence[0]
    theirs = equivalence(frame.shift(row.model, row.accel), frame.clusters, margin=row.margin)
    assert (row.p, row.ci_low, row.ci_high, row.equivalent) == (
        theirs.p,
        theirs.ci_low,
        theirs.ci_high,
        theirs.equivalent,
    )


def test_methods_say_what_was_run(holey: Study, tmp_path: Path) -> None:
    for words in ("item under every model", "McNemar", "under 50%", "80% power", "noncentral F;", "new models"):
        assert words in holey.methods
    plain = analyse(make_sweep(tmp_path, **THREE), FAST)  # type: ignore[arg-type]
    assert "item under every model" not in plain.methods
    assert "log-odds (generalized" not in plain.methods
    rate = analyse(make_sweep(tmp_path / "r", **THREE, score_kind="rate", noise=0.8), FAST)  # type: ignore[arg-type]
    assert "log-odds (generalized estimating equations" in rate.methods


def test_missing_answers_that_could_change_a_verdict_are_a_caution(holey: Study) -> None:
    b = holey.benchmarks[0]
    could = [x for x in b.bounds if x.changes]
    text = next((c for c in b.cautions if c.startswith("Missing answers could change the verdict of")), "")
    assert bool(text) == bool(could)
    assert all(f"{x.accel} of {x.model}" in text for x in could[:6])


def test_a_change_in_refusals_is_a_caution(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, **THREE, n_clusters=20)  # type: ignore[arg-type]
    for path in (tmp_path / "outputs" / "results" / "planted" / "a" / "hqq4").rglob("records.parquet"):
        records = pd.read_parquet(path)
        refuses = np.arange(len(records)) % 4 == 0
        records.loc[refuses, ["score", "outcome", "refused"]] = [math.nan, "refused", True]
        records.to_parquet(path, index=False)
    b = analyse(sweep, FAST).benchmarks[0]
    assert "The share of refused answers changed: hqq4 of a (0.0% to 25.0%)." in b.cautions
    assert b.refusal_omnibus is not None
    assert b.refusal_omnibus.p <= 0.05
    assert not any(c.startswith("The share of refused") for c in only(tmp_path / "b").cautions)


def test_an_arm_whose_answers_no_item_pairs_is_left_out_and_said_so(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, models=("a", "b"), accels=("hqq4", "wanda50"), n_clusters=20, notes={})
    for accel, half in (("hqq4", 0), ("none", 1), ("wanda50", 1)):
        for path in (tmp_path / "outputs" / "results" / "planted" / "a" / accel).rglob("records.parquet"):
            records = pd.read_parquet(path)
            records.loc[np.arange(len(records)) % 2 == half, ["score", "outcome"]] = [math.nan, "refused"]
            records.to_parquet(path, index=False)
    b = analyse(sweep, FAST).benchmarks[0]
    assert "No item is answered in hqq4 of a and its baseline: no test holds it." in b.cautions
    assert b.omnibus.n_contrasts == 1  # wanda50 of both models
    assert 0 < b.omnibus.p <= 1


def test_what_is_no_larger_than_a_placebo_is_said(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, **THREE, n_clusters=30, noise=0.01, shift=0.02)  # type: ignore[arg-type]
    for path in (tmp_path / "outputs" / "results" / "planted").glob("*/placebo_batch/*/records.parquet"):
        records = pd.read_parquet(path)
        records["score"] += 0.5
        records.to_parquet(path, index=False)
    margins = Margins(log_odds_sd=0.001)
    b = analyse(sweep, replace(FAST, margins=margins)).benchmarks[0]
    assert any(s.verdict == "changed" for s in b.shifts)
    assert any(c.startswith("No larger than a placebo's shift (0.5") for c in b.cautions)
    assert not any(c.startswith("No larger") for c in only(tmp_path / "b", replace(FAST, margins=margins)).cautions)
