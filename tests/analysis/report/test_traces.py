"""Golden traces: the numbers of every figure against pandas or a hand's calculation, never against pixels."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.analyse import analyse
from analysis.report import mpl, traces, traces_across, traces_flips
from analysis.report.figures import across, all_figures, of_benchmark
from analysis.report.shapes import Forest, Heat, Lines, Mark, Opposed
from analysis.settings import Settings
from analysis.study import Study
from tests.analysis.fake import make_sweep

PER_BENCHMARK = ["interaction", "forest", "shifts", "differences", "categories", "flips", "directions", "groups",
                 "predictions", "power", "cost-memory", "cost-perplexity"]  # fmt: skip


def records(study_root: Path, benchmark: str) -> pd.DataFrame:
    """Every record of a benchmark in a results folder, read by pandas alone."""
    frames = []
    for path in (study_root / "results" / benchmark).rglob("records.parquet"):
        frames.append(pd.read_parquet(path).assign(model=path.parts[-4], accel=path.parts[-3]))
    return pd.concat(frames)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, pd.DataFrame]:
    sweep = make_sweep(tmp_path_factory.mktemp("golden"), models=("alpha", "beta", "gamma"),
                       accels=("hqq4", "wanda50", "placebo_batch"), benchmarks=("one",), n_clusters=10,
                       items_per_cluster=4, interaction=0.6, seed=3)  # fmt: skip
    return analyse(sweep, Settings(n_resamples=199)), records(sweep.parent.parent, "one")


@pytest.fixture(scope="module")
def table(made: tuple[Study, pd.DataFrame]) -> pd.DataFrame:
    """Scores, an item a row, a (model, accel) a column."""
    return made[1].pivot(index="item", columns=["model", "accel"], values="score")


def by(marks: tuple[Mark, ...], *names: str) -> dict[tuple[str, ...], Mark]:
    return {tuple(mark.names[n] for n in names): mark for mark in marks}


def test_interaction_is_the_means_of_the_records(made: Any, table: pd.DataFrame) -> None:
    study = made[0]
    figure = traces.interaction(study, study.benchmarks[0])
    assert figure.categories == ("none", "hqq4", "wanda50", "placebo_batch")
    assert figure.baseline == "none"
    marks = by(figure.marks, "model", "accel")
    assert len(marks) == 12
    for key, mark in marks.items():
        assert mark.value == pytest.approx(table[key].mean(), abs=1e-12)
        assert (mark.n_items, mark.n_clusters, mark.unit) == (40, 10, "log-odds")
        # With clusters of one size the robust interval is the t interval of the cluster means (t of .975 at 9 df).
        means = table[key].groupby(table.index.str[:3]).mean()
        half = 2.262157162740992 * means.std(ddof=1) / math.sqrt(10)
        assert (mark.low, mark.high) == pytest.approx((mark.value - half, mark.value + half), abs=1e-9)


def test_shifts_and_differences_are_paired_means(made: Any, table: pd.DataFrame) -> None:
    study = made[0]
    b = study.benchmarks[0]
    shift = {key: (table[key] - table[key[0], "none"]).mean() for key in table.columns if key[1] != "none"}
    for figure in (traces.shift_heat(study, b), traces.forest(study, b)):
        marks = by(figure.marks, "model", "accel")
        assert {key: mark.value for key, mark in marks.items()} == pytest.approx(shift, abs=1e-12)
    heat = traces.shift_heat(study, b)
    assert heat.limit == pytest.approx(max(map(abs, shift.values())))
    assert {key for key, m in by(heat.marks, "model", "accel").items() if m.strong} == {
        (s.model, s.accel) for s in b.shifts if s.verdict == "changed"
    }
    difference = {}
    for model, accel in shift:
        others = [shift[m, accel] for m in ("alpha", "beta", "gamma") if m != model]
        difference[model, accel] = shift[model, accel] - sum(others) / 2
    marks = by(traces.difference_heat(study, b).marks, "model", "accel")
    assert marks
    assert {key: m.value for key, m in marks.items()} == pytest.approx({k: difference[k] for k in marks}, abs=1e-12)
    assert marks["gamma", "hqq4"].strong  # planted


def test_flips_are_counted_from_the_outcomes(made: Any) -> None:
    study, raw = made
    b = study.benchmarks[0]
    wide = raw.pivot(index="item", columns=["model", "accel"], values="outcome")
    score = raw.pivot(index="item", columns=["model", "accel"], values="score")
    figure = traces_flips.flip_directions(study, b)
    assert isinstance(figure, Opposed)
    for row in figure.rows:
        key = (row.up.names["model"], row.up.names["accel"])
        flipped = wide[key] != wide[key[0], "none"]
        rose = score[key] > score[key[0], "none"]
        up, down = int((flipped & rose).sum()), int((flipped & ~rose).sum())
        assert (row.up.more["flips"], row.down.more["flips"]) == (up, down)
        assert (row.up.value, row.down.value) == pytest.approx((100 * up / 40, 100 * down / 40))
        assert row.net.value == pytest.approx(100 * (up - down) / 40, abs=1e-9)
    heat = traces_flips.flip_heat(study, b)
    assert len(heat.rows) == 6  # placebos have none
    assert heat.strong == ""  # so no legend speaks of marked cells
    marks = by(heat.marks, "model", "accel", "bin")
    surest = score["gamma", "none"].abs().rank()
    flipped = wide["gamma", "hqq4"] != wide["gamma", "none"]
    assert marks["gamma", "hqq4", "1"].value == pytest.approx(100 * flipped[surest <= 4].mean())
    assert marks["gamma", "hqq4", "10"].value == pytest.approx(100 * flipped[surest > 36].mean())


def test_categories_are_the_means_of_their_items(made: Any) -> None:
    study, raw = made
    figure = traces.category_heat(study, study.benchmarks[0], "category")
    assert figure is not None
    score = raw.pivot(index=["category", "item"], columns=["model", "accel"], values="score")
    for (model, accel, name), mark in by(figure.marks, "model", "accel", "category").items():
        part = score.loc[name]
        assert mark.value == pytest.approx((part[model, accel] - part[model, "none"]).mean(), abs=1e-12)
        assert mark.n_items == len(part)
    assert {mark.names["category"] for mark in figure.marks} == {"control", "gender", "religion"}


def test_predictions_and_power_against_closed_forms(made: Any, table: pd.DataFrame) -> None:
    study = made[0]
    b = study.benchmarks[0]
    figure = traces_across.predictions(study, b)
    assert isinstance(figure, Forest)
    for bar in figure.bars:
        accel = bar.point.names["accel"]
        shifts = pd.Series([(table[m, accel] - table[m, "none"]).mean() for m in ("alpha", "beta", "gamma")])
        of_all = sum(table[m, accel] - table[m, "none"] for m in ("alpha", "beta", "gamma")) / 3
        noise = of_all.groupby(of_all.index.str[:3]).mean().var(ddof=1) / 10  # of the mean, from its 10 clusters
        half = 4.302652729911275 * math.sqrt(shifts.var(ddof=1) * (1 + 1 / 3) + noise)  # t of .975 at 2 df
        assert bar.point.value == pytest.approx(shifts.mean(), abs=1e-12)
        assert (bar.point.low, bar.point.high) == pytest.approx((shifts.mean() - half, shifts.mean() + half), abs=1e-9)
    power = traces_across.power_forest(study, b)
    assert isinstance(power, Forest)
    assert power.one_sided
    rows = {(p.model, p.accel): p for p in b.power if p.kind == "shift"}
    for bar in power.bars:
        row = rows[bar.point.names["model"], bar.point.names["accel"]]
        assert (bar.point.value, bar.margin) == (row.detectable, row.margin)
        assert bar.word == f"{100 * row.at_margin:.0f} %"


def test_transfer_is_the_matrix_of_correlations(study: Study) -> None:
    [figure] = across(study)
    assert isinstance(figure.trace, Heat)
    one, two = ([s.estimate.value / s.margin for s in b.shifts if s.verdict != "placebo"] for b in study.benchmarks)
    cells = by(figure.trace.marks, "source", "target")
    assert cells["One", "Two"].value == pytest.approx(pd.Series(one).corr(pd.Series(two)))
    assert cells["One", "One"].reason == "itself"
    assert math.isnan(cells["One", "One"].value)
    assert figure.trace.limit == 1.0


def test_every_kind_of_figure_is_there_and_says_what_it_shows(study: Study) -> None:
    names = [figure.name for figure in all_figures(study)]
    assert names == [*(f"{k:02d}-{kind}" for k in (1, 2) for kind in PER_BENCHMARK), "00-transfer"]
    for figure in all_figures(study):
        assert figure.title
        assert any(c.isdigit() for c in figure.text), figure.name  # the alternative text is made of numbers
        assert figure.note.endswith("."), figure.name
        assert "n = " in figure.note, figure.name


def test_every_mark_is_drawn_with_its_numbers(study: Study) -> None:
    for figure in all_figures(study):
        known = [m for m in figure.trace.marks if math.isfinite(m.value) or isinstance(figure.trace, Heat)]
        assert figure.svg.count('<g class="m" data-tip="') == len(known), figure.name
        assert "nan" not in figure.svg
        rows = figure.numbers
        assert len(rows.rows) == len(figure.trace.marks)
        place = rows.columns.index("value")
        assert [row[place] for row in rows.rows] == pytest.approx([m.value for m in figure.trace.marks], nan_ok=True)


def test_a_tip_names_model_accel_value_interval_n_and_unit(study: Study) -> None:
    b = study.benchmarks[0]
    s = next(s for s in b.shifts if s.accel == "hqq4")
    mark = by(traces.forest(study, b).marks, "model", "accel")[s.model, s.accel]
    first, second, third, *rest = mark.tip.split("\n")
    e = s.estimate
    assert first == f"{s.model} under hqq4"
    assert second == f"{e.value:+.3g} log-odds (95 % interval {e.ci_low:+.3g} to {e.ci_high:+.3g})"
    assert third == "n = 60 items in 12 clusters"
    assert f"verdict {s.verdict}" in rest
    assert any(line.startswith("adjusted p") for line in rest)


def test_the_legend_of_marked_cells_is_right_for_each_heat_map(study: Study) -> None:
    said = {f.kind: f.trace.strong for f in all_figures(study) if isinstance(f.trace, Heat)}
    assert said["flips"] == ""
    assert "margin" in said["shifts"]
    assert "other models" in said["differences"]
    for figure in all_figures(study):
        if isinstance(figure.trace, Heat):
            assert ("and frame:" in figure.svg) == bool(figure.trace.strong)
            assert figure.svg.count('class="frame"') == sum(m.strong for m in figure.trace.marks)


def test_missing_cells_are_said_and_never_drawn_as_numbers(study: Study) -> None:
    b = study.benchmarks[0]
    gone = dataclasses.replace(b.shifts[0].estimate, value=math.nan, ci_low=math.nan, ci_high=math.nan, reason="why")
    less = dataclasses.replace(b, shifts=[dataclasses.replace(b.shifts[0], estimate=gone), *b.shifts[2:]])
    heat = traces.shift_heat(study, less)
    marks = by(heat.marks, "model", "accel")
    assert marks[b.shifts[0].model, b.shifts[0].accel].tip.endswith("why") or "\nwhy\n" in marks[
        b.shifts[0].model, b.shifts[0].accel].tip  # fmt: skip
    assert marks[b.shifts[1].model, b.shifts[1].accel].reason == "not there"
    assert len(heat.marks) == 9


def test_what_cannot_be_given_never_reads_nan(study: Study) -> None:
    b = study.benchmarks[0]

    def gone(e: Any) -> Any:
        return dataclasses.replace(
            e, value=math.nan, se=math.nan, ci_low=math.nan, ci_high=math.nan, reason="no answer"
        )

    for n in (1, len(b.flips)):  # one arm, then all of them
        odd = dataclasses.replace(
            b,
            means=[dataclasses.replace(m, estimate=gone(m.estimate)) for m in b.means[:n]] + b.means[n:],
            shifts=[dataclasses.replace(s, estimate=gone(s.estimate), margin=math.nan) for s in b.shifts[:n]]
            + b.shifts[n:],
            flips=[dataclasses.replace(f, rate=gone(f.rate), net=gone(f.net)) for f in b.flips[:n]] + b.flips[n:],
            flip_profile=[dataclasses.replace(f, rate=gone(f.rate)) for f in b.flip_profile],
            categories=[dataclasses.replace(c, estimate=gone(c.estimate)) for c in b.categories],
        )  # fmt: skip
        figures = of_benchmark(dataclasses.replace(study, benchmarks=[odd]), odd)
        assert {"interaction", "shifts", "flips", "categories"} <= {figure.kind for figure in figures}
        for figure in figures:
            for said in (figure.svg, figure.text, figure.note, *(mark.label for mark in figure.trace.marks)):
                assert "nan" not in said, (figure.name, said[:200])
            assert len(mpl.draw(figure.trace).axes) == 1  # no warning, which would be an error here


def big(study: Study, n_models: int, n_accels: int) -> Study:
    """A study as large as asked, its first benchmark's estimates handed round."""
    b = study.benchmarks[0]
    models = {f"organisation/model-{i:02d}-8b-instruct": "" for i in range(n_models)}
    accels = ["none", *(f"accel{j:02d}(group_size=128)" for j in range(n_accels))]
    cells = [(m, a) for a in accels[1:] for m in models]

    def spread(items: Any, keys: Any) -> list[Any]:
        return [dataclasses.replace(items[k % len(items)], model=m, accel=a) for k, (m, a) in enumerate(keys)]

    profile = [dataclasses.replace(f, model=m, accel=a) for m, a in cells for f in b.flip_profile[:10]]
    wide = dataclasses.replace(
        b, means=spread(b.means, [(m, a) for a in accels for m in models]), shifts=spread(b.shifts, cells),
        differences=spread(b.differences, cells), flips=spread(b.flips, cells), flip_profile=profile,
        power=spread(b.power, cells), categories=[], flip_groups=[], predictability=None,
    )  # fmt: skip
    return dataclasses.replace(study, models=models, accels=accels, benchmarks=[wide], arms=[], transfers=[])


def test_ten_models_by_twenty_accelerators_stay_readable_and_small(study: Study) -> None:
    wide = big(study, 10, 20)
    figures = {f.kind: f for f in of_benchmark(wide, wide.benchmarks[0])}
    assert isinstance(figures["interaction"].trace, Lines)
    assert len(figures["interaction"].trace.marks) == 210
    assert len(figures["shifts"].trace.marks) == 200
    forest = figures["forest"].trace
    assert isinstance(forest, Forest)
    assert len(forest.bars) == 40
    assert "160 cells that moved least in their margins are left out here" in forest.note
    sizes = [abs(s.estimate.value) / s.margin for s in wide.benchmarks[0].shifts]
    assert min(abs(bar.point.value) / bar.margin for bar in forest.bars) == pytest.approx(sorted(sizes)[-40])
    assert len({line.look for line in figures["interaction"].trace.lines}) == 10
    assert sum(len(f.svg) for f in figures.values()) < 750_000  # twelve such benchmarks: 9 MB
    name = wide.accels[1]
    assert f"<title>{name}</title>" in figures["shifts"].svg  # cut where it is drawn, whole on hover
    assert f">{name}</text>" not in figures["shifts"].svg
    # Of a long name and a long accelerator neither hides the other.
    assert {bar.label for bar in forest.bars} >= {"…/model-06-8b-instruct  accel00(gr…size=128)"}
    assert all(bar.point.tip.startswith("organisation/model-") for bar in forest.bars)


def test_figures_of_hostile_names_escape_them(study: Study) -> None:
    bad = '"><script>alert(1)</script>&\n'
    wide = big(study, 1, 1)
    b = wide.benchmarks[0]
    renamed = dataclasses.replace(b, title=bad, means=[dataclasses.replace(m, model=bad) for m in b.means],
                                  shifts=[dataclasses.replace(s, model=bad) for s in b.shifts])  # fmt: skip
    hostile = dataclasses.replace(wide, models={bad: bad}, benchmarks=[renamed])
    figures = all_figures(hostile)
    assert len(figures) > 5
    for figure in figures:
        assert "<script" not in figure.svg
        assert "/" not in figure.name
