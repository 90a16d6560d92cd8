"""From files to a Study: the planted interaction is found, and what cannot be said is not said."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.analyse import adjust_over_benchmarks, analyse, answer
from analysis.errors import AnalysisError
from analysis.report import markdown
from analysis.report.html import matrix
from analysis.report.terminal import render
from analysis.settings import Margins, Settings
from analysis.study import BenchmarkResult, Difference, Shift, Study, to_json
from tests.analysis.fake import make_sweep, two_decodings

FAST = Settings(n_resamples=999)


def study(root: Path, settings: Settings = FAST, **options: Any) -> Study:
    return analyse(make_sweep(root, **options), settings)


def shifts(result: BenchmarkResult) -> dict[tuple[str, str], Shift]:
    return {(s.model, s.accel): s for s in result.shifts}


def differences(result: BenchmarkResult) -> dict[tuple[str, str], Difference]:
    return {(d.model, d.accel): d for d in result.differences}


def records(sweep: Path, model: str, accel: str) -> pd.DataFrame:
    (path,) = (sweep.parents[1] / "results" / "planted" / model / accel).glob("*/records.parquet")
    return pd.read_parquet(path)


def test_a_planted_interaction_is_found_where_it_was_planted(tmp_path: Path) -> None:
    result = study(tmp_path, interaction=0.5).benchmarks[0]
    assert result.verdict == "interaction"
    assert "under hqq4 the shift of tiny_mistral differs" in result.sentence
    found = differences(result)
    assert found["tiny_mistral", "hqq4"].estimate.value == pytest.approx(0.5, abs=0.15)
    assert found["tiny_mistral", "hqq4"].estimate.p_adjusted <= 0.05
    assert found["tiny_mistral", "wanda50"].estimate.p_adjusted > 0.05
    assert result.omnibus.n_contrasts == 2
    assert [t.unit for t in result.anova] == ["items", "cluster means"]
    assert [row.source for row in result.anova[0].rows] == ["model", "accel", "model x accel"]


def test_figures_are_those_of_the_files(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, interaction=0.3, missing=0.1)
    result = analyse(sweep, FAST).benchmarks[0]
    score = {
        (m, a): records(sweep, m, a).set_index("item")["score"]
        for m in ("tiny_llama", "tiny_mistral")
        for a in ("none", "hqq4", "wanda50")
    }
    own = score["tiny_mistral", "hqq4"] - score["tiny_mistral", "none"]
    other = score["tiny_llama", "hqq4"] - score["tiny_llama", "none"]
    shift = shifts(result)["tiny_mistral", "hqq4"].estimate
    assert (shift.value, shift.n_items) == (pytest.approx(own.mean()), own.count())
    did = differences(result)["tiny_mistral", "hqq4"].estimate
    assert (did.value, did.n_items) == (pytest.approx((own - other).mean()), (own - other).count())
    assert result.n_items == pd.DataFrame(score).notna().all(axis=1).sum()
    assert result.anova[0].n == result.n_items < result.n_items_all == 120
    assert shifts(result)["tiny_mistral", "hqq4"].margin == pytest.approx(0.1 * score["tiny_mistral", "none"].std())
    means = {(m.model, m.accel): m for m in result.means}
    assert means["tiny_llama", "none"].estimate.value == pytest.approx(score["tiny_llama", "none"].mean())
    assert any("of 120 items" in c for c in result.cautions)


def test_no_interaction_is_not_claimed_from_a_large_p(tmp_path: Path) -> None:
    result = study(tmp_path, seed=2, noise=0.6).benchmarks[0]
    assert result.omnibus.p > 0.05
    assert result.verdict == "undecided"


def test_equivalence_makes_it_additive(tmp_path: Path) -> None:
    result = study(tmp_path, noise=0.1, icc=0.0, seed=4).benchmarks[0]
    assert result.omnibus.p > 0.05
    assert result.verdict == "additive"
    assert {s.verdict for s in result.shifts} == {"changed", "placebo"}


def test_placebos_set_the_floor_and_are_never_tested(tmp_path: Path) -> None:
    result = study(tmp_path).benchmarks[0]
    assert result.accels == ["none", "hqq4", "wanda50"]
    assert shifts(result)["tiny_llama", "placebo_batch"].verdict == "placebo"
    assert math.isnan(shifts(result)["tiny_llama", "placebo_batch"].estimate.p_adjusted)
    assert ("tiny_llama", "placebo_batch") not in differences(result)
    assert 0 < result.floor["item"] < 0.1
    with pytest.raises(AnalysisError, match="accels=placebo_batch: a placebo sets the noise floor"):
        study(tmp_path / "b", Settings(accels=["placebo_batch"]))


def test_a_stack_is_shown_beside_the_omnibus_until_it_is_named(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    result = analyse(sweep, FAST).benchmarks[0]
    stack = shifts(result)["tiny_mistral", "wanda50+hqq4"]
    assert not stack.tested
    assert stack.verdict in ("changed", "unchanged", "inconclusive")
    assert math.isfinite(stack.estimate.p_adjusted)
    assert not differences(result)["tiny_mistral", "wanda50+hqq4"].tested
    assert any("wanda50+hqq4: a stack" in c and "name it in accels" in c for c in result.cautions)
    named = analyse(sweep, replace(FAST, accels=["wanda50+hqq4", "hqq4"])).benchmarks[0]
    assert named.accels == ["none", "hqq4", "wanda50+hqq4"]
    assert shifts(named)["tiny_mistral", "wanda50+hqq4"].tested
    assert not shifts(named)["tiny_mistral", "wanda50"].tested


def test_a_stack_alone_is_what_was_asked_for(tmp_path: Path) -> None:
    result = study(tmp_path, accels=("wanda50+hqq4",)).benchmarks[0]
    assert result.accels == ["none", "wanda50+hqq4"]
    assert 0 < result.omnibus.p <= 1
    assert any("Only stacks were measured" in c for c in result.cautions)


def test_an_unknown_accelerator_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"accels=hqq5: no cell has it; choose from hqq4, wanda50"):
        study(tmp_path, Settings(accels=["hqq5"]))


def test_inert_arms_are_named_and_left_out(tmp_path: Path) -> None:
    whole = study(tmp_path, inert=("wanda50",))
    result = whole.benchmarks[0]
    assert shifts(result)["tiny_llama", "wanda50"].verdict == "inert"
    assert shifts(result)["tiny_llama", "wanda50"].estimate.value == 0
    assert result.accels == ["none", "hqq4"]
    assert result.omnibus.n_contrasts == 1
    assert any("changed no logit" in c for c in result.cautions)
    assert {a.accel: a.inert for a in whole.arms}["wanda50"]


def test_a_step_of_a_stack_that_moved_nothing_is_named(tmp_path: Path) -> None:
    def active(idle: float) -> dict[str, Any]:
        steps = [{"step": "wanda50", "max_logit_change": idle}, {"step": "hqq4", "max_logit_change": 1.0}]
        return {"active": {"max_logit_change": 1.0, "mean_logit_change": 0.1, "n_prompts": 16, "steps": steps}}

    arms = {("tiny_llama", "wanda50+hqq4"): active(0.0), ("tiny_mistral", "wanda50+hqq4"): active(0.5)}
    whole = study(tmp_path, accels=("hqq4", "wanda50+hqq4"), overrides=arms)
    (said,) = [text for text in whole.cautions if "moved no logit" in text]
    assert said == (
        "wanda50, a step of wanda50+hqq4, moved no logit in the active check (tiny_llama on planted): what was "
        "measured there is the stack without wanda50."
    )


def test_an_arm_inert_in_one_model_leaves_a_hole_not_an_accelerator(tmp_path: Path) -> None:
    inert = {"max_logit_change": 0.0, "mean_logit_change": 0.0, "n_prompts": 16}
    result = study(
        tmp_path, models=("a", "b", "c"), accels=("hqq4", "wanda50"), notes={},
        overrides={("a", "hqq4"): {"active": inert}},
    ).benchmarks[0]  # fmt: skip
    assert result.omnibus.n_contrasts == 3
    assert ("a", "hqq4") not in differences(result)
    assert ("b", "hqq4") in differences(result)
    assert "left out, because the grid must be full" in result.anova[0].reason
    assert any("the check or the determinism" in c for c in result.cautions)  # its scores moved all the same


def test_a_lossless_accelerator_is_exactly_unchanged(tmp_path: Path) -> None:
    change = {"max_logit_change": 1e-3, "mean_logit_change": 1e-4, "n_prompts": 16}
    arms = [(m, a) for m in ("tiny_llama", "tiny_mistral") for a in ("hqq4", "wanda50")]
    result = study(
        tmp_path,
        accels=("hqq4", "wanda50"),
        inert=("hqq4", "wanda50"),
        overrides={a: {"active": change} for a in arms},
    ).benchmarks[0]
    assert {s.verdict for s in result.shifts} == {"exactly unchanged"}
    assert (result.verdict, result.omnibus.p) == ("additive", 1.0)
    assert "exactly 0" in result.omnibus.reason
    assert [row.source for row in result.anova[0].rows] == ["model"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": ("tiny_llama",)}, "only one model"),
        ({"accels": ("placebo_batch",)}, "no accelerated arm"),
        ({"accels": ()}, "no accelerated arm"),
        ({"n_clusters": 1, "items_per_cluster": 1}, "1 cluster"),
        ({"n_clusters": 1, "items_per_cluster": 30}, "1 cluster"),
        ({"n_clusters": 5}, "5 clusters: no sign-flip test at 5% exists"),
        ({"missing": 1.0}, "no accelerated arm has answers to compare with a baseline's"),
    ],
)
def test_what_cannot_be_tested_is_said_and_the_rest_goes_on(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    whole = study(tmp_path, **options)
    result = whole.benchmarks[0]
    assert result.verdict == "cannot be tested"
    assert words in result.sentence
    assert whole.answer
    assert whole.methods
    for table in result.anova:
        assert table.rows or table.reason
    for estimate in [s.estimate for s in result.shifts] + [m.estimate for m in result.means]:
        assert math.isfinite(estimate.se) or estimate.reason
    json.dumps(to_json(whole), allow_nan=False)


def test_everything_refused(tmp_path: Path) -> None:
    result = study(tmp_path, missing=1.0).benchmarks[0]
    assert all(not c.valid and c.n_refused == c.n_items and c.n_valid == 0 for c in result.coverage)
    assert {s.verdict for s in result.shifts} == {"missing"}


def test_a_missing_cell_is_listed_and_the_rest_analysed(tmp_path: Path) -> None:
    whole = study(tmp_path, models=("a", "b", "c"), failed=[("b", "hqq4")], notes={})
    result = whole.benchmarks[0]
    gone = shifts(result)["b", "hqq4"]
    assert (gone.verdict, gone.valid) == ("missing", False)
    assert "logits hold NaN" in gone.sentence
    assert whole.missing[0].state == "failed"
    assert any("1 cell of this study not there (b hqq4 planted)" in c for c in whole.cautions)
    assert result.omnibus.n_contrasts == 3
    assert result.anova[0].rows
    assert differences(result)["a", "hqq4"].estimate.n_items == 120


def test_an_arm_with_one_of_its_seeds_missing_is_no_missing_arm(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, seeds=(0, 1))
    ledger = json.loads((sweep / "sweep.json").read_text())
    gone = next(c for c in ledger["cells"] if c["accel"] == "hqq4")
    for file in (sweep.parents[1] / "results" / gone["path"]).iterdir():
        file.unlink()
    whole = analyse(sweep, FAST)
    assert [m.accel for m in whole.missing] == ["hqq4"]
    assert "missing" not in {s.verdict for s in whole.benchmarks[0].shifts}


def test_a_model_without_a_baseline_has_no_shift(tmp_path: Path) -> None:
    result = study(tmp_path, failed=[("tiny_llama", "none")]).benchmarks[0]
    assert "no baseline" in shifts(result)["tiny_llama", "hqq4"].sentence
    assert (result.verdict, "only one model" in result.sentence) == ("cannot be tested", True)


def test_thin_coverage_and_degenerate_text_mark_the_arm(tmp_path: Path) -> None:
    result = study(tmp_path, missing=0.3).benchmarks[0]
    assert not any(c.valid for c in result.coverage)
    assert "of the answers are there, the threshold is 80%" in shifts(result)["tiny_llama", "hqq4"].sentence
    still = study(tmp_path / "a", missing=0.3, shift=0.0, noise=0.01, n_clusters=40)
    assert {s.verdict for s in still.benchmarks[0].shifts} == {"inconclusive", "placebo"}
    sentence = shifts(still.benchmarks[0])["tiny_llama", "hqq4"].sentence
    assert re.match(r"Inconclusive: only \d.* the threshold is 80%; .* what is there is unchanged: ", sentence), (
        sentence
    )
    assert "6 are undecided" in still.answer
    broken = {("tiny_mistral", "hqq4"): {"efficiency": {"perplexity": 99.0}}}
    result = study(tmp_path / "b", interaction=2.0, overrides=broken).benchmarks[0]
    marked = shifts(result)["tiny_mistral", "hqq4"]
    assert (marked.valid, marked.verdict) == (False, "changed")
    assert "perplexity is 7.92 times the baseline's" in marked.sentence
    (caution,) = [c for c in result.cautions if c.startswith("Marked cells")]
    assert "verdict is 'interaction'; the omnibus without them: p =" in caution
    assert float(caution.rsplit("=", 1)[1].rstrip(".")) > 0.05


def test_arms_that_differ_apart_from_what_was_asked_are_named(tmp_path: Path) -> None:
    gpu = {
        "device": "cuda",
        "device_name": "a gpu",
        "versions": {"torch": "2.14.0", "transformers": "5.17.0"},
    }
    overrides = {
        ("tiny_llama", "hqq4"): {"environment": gpu, "dtype": "bfloat16"},
        ("tiny_llama", "placebo_batch"): {"dtype": "float16"},
    }
    text = " ".join(study(tmp_path, overrides=overrides).cautions)
    assert "differ in dtype: float32 in" in text
    assert "bfloat16 in tiny_llama hqq4" in text
    assert "float16 in tiny_llama placebo" not in text
    assert "differ in device: cpu in" in text
    assert "differ in version of torch: 2.13.0 in" in text
    assert "transformers" not in text
    assert "differ in" not in " ".join(study(tmp_path / "same").cautions)


def test_a_positive_control_is_flagged(tmp_path: Path) -> None:
    whole = study(tmp_path)
    assert any("tiny_mistral is no ordinary model: positive control" in c for c in whole.cautions)
    assert whole.models["tiny_mistral"].startswith("positive control")


def test_embedded_and_other_models_are_analysed_apart(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, sweep_id="a")
    make_sweep(tmp_path, sweep_id="b", models=("big", "large"), source="hub", notes={}, interaction=1.0)
    whole = analyse(sweep.parents[1] / "results", FAST)
    assert {(b.pool, b.title) for b in whole.benchmarks} == {
        ("embedded", "Planted (embedded models)"),
        ("other", "Planted (other models)"),
    }
    assert any("never pooled" in c for c in whole.cautions)
    assert all(set(b.models) != {"tiny_llama", "big"} for b in whole.benchmarks)


def test_benchmarks_are_adjusted_for_one_another(tmp_path: Path) -> None:
    from statsmodels.stats.multitest import multipletests

    result = study(tmp_path).benchmarks[0]
    p = [0.001, 0.04, 0.03, math.nan, 0.5]
    plain = replace(result.omnibus, p_holm=math.nan, p_bh=math.nan)
    found = adjust_over_benchmarks([replace(result, omnibus=replace(plain, p=x)) for x in p])
    known = [i for i, x in enumerate(p) if x == x]
    for name, method in [("p_holm", "holm"), ("p_bh", "fdr_bh")]:
        expected = multipletests([p[i] for i in known], method=method)[1]
        assert [getattr(found[i].omnibus, name) for i in known] == pytest.approx(list(expected))
        assert math.isnan(getattr(found[3].omnibus, name))


def test_rates_have_their_own_margin(tmp_path: Path) -> None:
    result = study(tmp_path, Settings(n_resamples=999, margins=Margins(rate=0.07)), score_kind="rate").benchmarks[0]
    assert {s.margin for s in result.shifts} == {0.07}
    assert (
        "7 points for rates"
        in study(tmp_path / "b", Settings(n_resamples=999, margins=Margins(rate=0.07)), score_kind="rate").methods
    )


def test_the_same_seed_gives_the_same_study_and_order_of_cells_does_not_matter(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, n_clusters=17)
    one = analyse(sweep, FAST)
    assert to_json(analyse(sweep, FAST)) == to_json(one)
    ledger = json.loads((sweep / "sweep.json").read_text())
    ledger["cells"].reverse()
    (sweep / "sweep.json").write_text(json.dumps(ledger))
    other = analyse(sweep, FAST).benchmarks[0]
    assert other.omnibus.p == one.benchmarks[0].omnibus.p
    mine, theirs = shifts(one.benchmarks[0]), shifts(other)
    assert all(theirs[arm].estimate == mine[arm].estimate for arm in mine)


def test_swapping_every_pair_flips_every_sign(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, interaction=0.4, seed=3)
    one = analyse(sweep, FAST).benchmarks[0]
    for path in (sweep.parents[1] / "results").glob("*/*/*/*/records.parquet"):
        rows = pd.read_parquet(path)
        rows.assign(score=-rows["score"]).to_parquet(path, index=False)
    other = analyse(sweep, FAST).benchmarks[0]
    assert other.omnibus.p == one.omnibus.p
    for arm, shift in shifts(one).items():
        assert shifts(other)[arm].estimate.value == pytest.approx(-shift.estimate.value)
        assert (shifts(other)[arm].flips_up, shifts(other)[arm].flips_down) == (
            shift.flips_down,
            shift.flips_up,
        )


SETTINGS: list[tuple[Callable[[Settings], Settings], str]] = [
    (lambda s: replace(s, alpha=0.5), "alpha=0.5: must be above 0 and below 0.5"),
    (lambda s: replace(s, alpha=math.nan), "alpha=nan"),
    (lambda s: replace(s, n_resamples=98), "n_resamples=98: must be at least 99"),
    (lambda s: replace(s, alpha=0.0001), r"n_resamples=999: must be at least 1/alpha - 1 \(9999\)"),
    (lambda s: replace(s, coverage=1.1), "coverage=1.1"),
    (lambda s: replace(s, perplexity_ratio=1.0), "perplexity_ratio=1.0: must be above 1"),
    (lambda s: replace(s, repetition=0.0), "repetition=0.0: must be above 0 and at most 1"),
    (lambda s: replace(s, power=0.05), "power=0.05: must be above alpha and below 1"),
    (lambda s: replace(s, predictable_share=1.0), "predictable_share=1.0: must be above 0 and below 1"),
    (lambda s: replace(s, floor_quantile=0.0), "floor_quantile=0.0: must be above 0 and below 1"),
    (
        lambda s: replace(s, margins=Margins(by_benchmark={"planted": 0.0})),
        "margins.by_benchmark.planted=0.0: must be above 0",
    ),
    (lambda s: replace(s, margins=Margins(rate=0)), "margins.rate=0"),
    (lambda s: replace(s, margins=Margins(log_odds_sd=-1)), "margins.log_odds_sd=-1"),
    (lambda s: replace(s, seed=-1), "seed=-1"),
]


@pytest.mark.parametrize(("change", "match"), SETTINGS)
def test_settings_out_of_range(tmp_path: Path, change: Callable[[Settings], Settings], match: str) -> None:
    with pytest.raises(AnalysisError, match=match):
        analyse(tmp_path, change(FAST))


def test_categories_add_up(tmp_path: Path) -> None:
    result = study(tmp_path, interaction=0.5).benchmarks[0]
    rows = [c for c in result.categories if (c.model, c.accel, c.level) == ("tiny_mistral", "hqq4", "category")]
    assert sorted(c.name for c in rows) == ["control", "gender", "religion"]
    n = np.array([c.estimate.n_items for c in rows])
    value = np.array([c.estimate.value for c in rows])
    assert n.sum() == 120
    assert (n @ value) / 120 == pytest.approx(shifts(result)["tiny_mistral", "hqq4"].estimate.value)
    assert all(0 < c.estimate.p_adjusted <= 1 for c in rows)
    assert {c.level for c in result.categories} == {"category", "group"}


def test_provenance_comes_from_the_files(tmp_path: Path) -> None:
    whole = study(tmp_path, seeds=(0, 1), benchmarks=("planted", "planted_choices"))
    assert whole.provenance["counts"] == {"cells": 40, "missing": 0, "records": 40 * 120}
    assert whole.provenance["seeds"] == [0, 1]
    assert whole.provenance["commands"] == [whole.command]
    assert whole.provenance["dtypes"] == ["float32"]
    assert whole.provenance["run_versions"] == [{"torch": "2.13.0", "transformers": "5.17.0"}]
    assert len(whole.provenance["cells"]) == 40
    assert len(whole.arms) == 10
    assert "Repeats and seeds of an arm were averaged first" in whole.methods
    row = next(r for r in whole.benchmarks[0].published if (r["model"], r["accel"]) == ("tiny_llama", "hqq4"))
    assert (row["metric"], row["n"], row["unit"]) == ("mean_score", 120, "log-odds")
    assert row["value"] == pytest.approx(0.2, abs=2)


def test_the_answer_counts_what_the_tables_hold(tmp_path: Path) -> None:
    whole = study(tmp_path, interaction=0.5, benchmarks=("planted", "planted_choices"))
    judged = [s for b in whole.benchmarks for s in b.shifts if s.verdict != "placebo"]
    n_changed = sum(s.verdict == "changed" for s in judged)
    assert f"Of {len(judged)} accelerated cells {n_changed} changed" in whole.answer
    largest = max(b.omnibus.p_holm for b in whole.benchmarks)
    assert f"depends on the model on both benchmarks (largest Holm-adjusted p = {largest:.2g})" in whole.answer
    most = next(s for b in whole.benchmarks for s in b.shifts if f"{s.estimate.value:+.3g} log-odds [" in whole.answer)
    assert f"(most: {most.model} † under {most.accel} on " in whole.answer  # the fake's tiny_mistral is a control
    assert len(whole.answer) < 240
    only = study(tmp_path / "b", accels=("placebo_batch",))
    assert only.answer.startswith("It cannot be told")


def test_the_answer_says_that_its_p_is_adjusted(tmp_path: Path) -> None:
    whole = study(tmp_path, interaction=0.06, noise=0.05, benchmarks=("planted", "pairs", "third"))
    found = [replace(b, verdict="undecided", omnibus=replace(b.omnibus, p=p)) for b, p in
             zip(whole.benchmarks, (0.04, 0.2, 0.3), strict=True)]  # fmt: skip
    found[0] = replace(found[0], verdict="interaction")
    text = answer(adjust_over_benchmarks(found), {})
    assert "depends on the model on Planted (Holm-adjusted p = 0.12)" in text
    assert "on 2 of 3 benchmarks (smallest Holm-adjusted p = 0.4)" in text
    assert "Planted (p = 0.04)" in answer(adjust_over_benchmarks(found[:1]), {})


def test_a_baseline_without_spread_has_no_margin_and_an_answer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(m, a, f"i{i}", 0.5 + (a == "q") * (size + rng.normal() / 10)) for m, size in (("a", 1), ("b", 2))
            for a in ("none", "q") for i in range(30)]  # fmt: skip
    pd.DataFrame(rows, columns=["model", "accel", "item", "score"]).to_csv(tmp_path / "t.csv", index=False)
    whole = analyse(tmp_path / "t.csv", Settings(n_resamples=199))
    assert {s.margin for s in whole.benchmarks[0].shifts} == {0.0}
    assert whole.answer.startswith("Of 2 accelerated cells 2 changed (most: b under q, +2")


def test_a_missing_cell_is_shown_under_its_own_decoding(tmp_path: Path) -> None:
    whole = analyse(two_decodings(tmp_path, sampled_fails=[("a", "none"), ("a", "hqq4")]), FAST)
    greedy, sampled = whole.benchmarks
    assert shifts(greedy)["a", "hqq4"].verdict == "unchanged"
    assert shifts(sampled)["a", "hqq4"].verdict == "missing"
    found = matrix(whole)
    assert found is not None
    assert [m.word for m in found.rows[0].cells[0]] == ["unchanged", "failed"]
    assert render(whole).startswith("! a none planted (sampled): failed.")
    assert "a hqq4 planted (sampled)" in " ".join(whole.cautions)
    assert "a under hqq4, planted (sampled): failed" in markdown.render(whole).replace("\\", "")


def test_a_margin_of_a_benchmark_that_is_not_there_is_refused(tmp_path: Path) -> None:
    one = replace(FAST, margins=Margins(by_benchmark={"planted": 0.7}))
    result = study(tmp_path, one)
    assert {s.margin for s in result.benchmarks[0].shifts} == {0.7}
    assert "inside the margin (0.7 log-odds for Planted)" in result.methods
    with pytest.raises(AnalysisError, match=r"by_benchmark\.crows: no such benchmark here; choose from planted"):
        study(tmp_path / "b", replace(FAST, margins=Margins(by_benchmark={"crows": 0.1})))


@pytest.mark.parametrize(("base", "own", "marked"), [(0.05, 0.3, True), (0.05, 0.2, False), (0.4, 0.3, False)])
def test_an_arm_that_repeats_itself_is_marked(tmp_path: Path, base: float, own: float, marked: bool) -> None:
    written = {
        ("tiny_llama", "none"): {"efficiency": {"perplexity": 12.5, "repetition": base}},
        ("tiny_llama", "hqq4"): {"efficiency": {"perplexity": 12.5, "repetition": own}},
    }
    shift = shifts(study(tmp_path, FAST, overrides=written).benchmarks[0])["tiny_llama", "hqq4"]
    assert shift.valid != marked
    assert ("30% of the 4-grams it writes are repeated (5% of the baseline's)" in shift.sentence) == marked


def test_answers_none_of_which_changed_are_no_proof_in_a_few_items(tmp_path: Path) -> None:
    """A rate whose answers stayed as they were: bounds by the items, twice as far for a difference of models."""
    found = {}
    for n, verdict in ((12, "inconclusive"), (160, "exactly unchanged")):
        sweep = make_sweep(tmp_path / str(n), accels=("hqq4",), score_kind="rate", n_clusters=n, items_per_cluster=1,
                           shift=0.0, noise=0.0, notes={})  # fmt: skip
        result = analyse(sweep, FAST).benchmarks[0]
        assert {s.verdict for s in result.shifts} == {verdict}, result.shifts[0]
        shift, difference = result.shifts[0].estimate, result.differences[0].estimate
        assert (shift.value, difference.value) == (0.0, 0.0)
        assert difference.ci_high == pytest.approx(2 * shift.ci_high)
        found[n] = shift.ci_high
    assert found[12] > 10 * found[160]


def test_a_title_stands_as_it_is_where_nothing_can_be_tested(tmp_path: Path) -> None:
    """And of several benchmarks none can be."""
    names = ("small_talk", "two", "three")
    for n, words in ((1, "on Small talk."), (2, "on either benchmark."), (3, "on any of the 3 benchmarks.")):
        sweep = make_sweep(tmp_path / str(n), benchmarks=names[:n], accels=("hqq4",), n_clusters=4, notes={})
        said = analyse(sweep, FAST).answer
        assert said.endswith(f"dependence on the model cannot be tested {words}"), said


def test_a_part_of_a_benchmark_is_said(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, n_clusters=5, items_per_cluster=6)
    assert not any("A part of" in c for c in analyse(sweep, FAST).benchmarks[0].cautions)
    for path in (tmp_path / "outputs" / "results").rglob("cell.json"):
        content = json.loads(path.read_text())
        content["benchmark"]["limit"] = 30
        path.write_text(json.dumps(content))
    assert "A part of the benchmark was asked (limit=30): 30 items." in analyse(sweep, FAST).benchmarks[0].cautions


def test_variants_of_one_title_are_told_apart(tmp_path: Path) -> None:
    make_sweep(tmp_path, benchmarks=("bbq",), n_clusters=8)
    make_sweep(tmp_path, benchmarks=("bbq+chat",), n_clusters=8, sweep_id="chat")
    for path in (tmp_path / "outputs" / "results").rglob("cell.json"):
        content = json.loads(path.read_text())
        content["benchmark"]["meta"]["title"] = "BBQ"
        path.write_text(json.dumps(content))
    found = analyse(tmp_path / "outputs" / "results", FAST)
    assert [b.title for b in found.benchmarks] == ["BBQ (bbq)", "BBQ (bbq+chat)"]
