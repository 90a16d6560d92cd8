"""The short form of the calibration: few studies, tolerances from the binomial, and a script that can fail.

False-alarm probability of each bound: 1 in 10,000 or less for a test exactly at its level.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from biaslab.benchmarks.ranges import GroupTotals
from tests.calibration.__main__ import (
    BEGIN,
    DOCS,
    END,
    PARTS,
    PARTS_BEGIN,
    PARTS_END,
    Part,
    table,
    unsafe,
    write,
)
from tests.calibration.designs import ALONE, MISSING, NULLS, TENS, Design
from tests.calibration.measure import Rate, of_estimates, of_flips, of_tests, rates
from tests.calibration.parts import of_ties, ties

STUDIES = 250
FEWER = 120  # of the parts of a report
MOST, LEAST = (float(stats.binom.ppf(q, STUDIES, 0.05)) / STUDIES for q in (0.9999, 0.0001))
ALIVE = ("interaction", "interaction on log-odds", "interaction of refusals", "accel within a model")
BY_NAME = {d.name: d for d in (*NULLS, *MISSING)}
SHORT = [
    "independent, unequal variances by cell",
    "clusters of 10, ICC .3",
    "clusters of 10, ICC .3, binary p .45",
    "20 unequal clusters (2-40), ICC .3",
    "one cluster of 100 and 19 of 3, ICC .3",
    "9 clusters of 33, ICC .1",
]


@pytest.mark.parametrize("name", [*SHORT, "clusters of 10, ICC .3, hard items refused in a cell"])
def test_the_default_tests_hold_their_level(name: str) -> None:
    found = rates(BY_NAME[name], of_tests, range(STUDIES))
    assert found["combined"].value <= MOST
    assert found["any false difference"].value <= MOST
    assert found["combined"].value >= LEAST  # and the test is alive


@pytest.mark.parametrize("name", SHORT)
def test_the_default_intervals_cover_and_no_claim_is_too_bold(name: str) -> None:
    found = rates(BY_NAME[name], of_estimates, range(STUDIES))
    assert found["coverage of shifts"].value >= 1 - MOST
    assert found["coverage of differences"].value >= 1 - MOST
    assert found["level of the shift test"].value <= MOST
    assert "false equivalence" not in found or found["false equivalence"].value <= MOST


@pytest.mark.parametrize("part", PARTS, ids=[p.measure.__name__ for p in PARTS])
@pytest.mark.parametrize("which", ["clusters of 10", "one cluster of 100"])
def test_the_parts_of_a_report_hold_their_levels_and_cover(part: Part, which: str) -> None:
    design = next(d for d in part.designs if which in d.name and "ICC .3" in d.name)
    found = rates(design, part.measure, range(FEWER))
    most, least = (float(stats.binom.ppf(q, FEWER, 0.05)) / FEWER for q in (0.9999, 0.0001))
    for column in part.levels:
        assert column not in found or found[column].value <= most, column
    if part.measure is of_ties:
        assert found["p withheld"].value > 0.8
        return
    for column in part.coverages:
        assert found[column].value >= 1 - most, column
    assert all(found[column].value > least for column in part.levels if column in ALIVE)


def test_net_flips_hold_their_level_where_mcnemar_does_not() -> None:
    found = rates(BY_NAME["one cluster of 100 and 19 of 3, ICC .3"], of_flips, range(STUDIES))
    assert found["cluster sign flip"].value <= MOST
    assert found["cluster t of the net flips"].value <= MOST
    assert found["exact McNemar"].value > MOST


def test_a_gentle_accelerator_is_found_by_the_combination_alone() -> None:
    design = Design("", TENS, icc=0.3, hetero=True, effect=("gentle", 0.05))
    found = rates(design, of_tests, range(60))
    assert found["combined"].value > 0.8 > 0.3 > found["ANOVA on cluster means"].value


def test_the_suite_sees_a_test_that_is_off() -> None:
    """The classic ANOVA, which ignores clusters, stands for a default gone wrong."""
    found = {"row": rates(BY_NAME["clusters of 10, ICC .3"], of_tests, range(60))}
    assert unsafe(found, ["combined"], 0.05, high_is_bad=True) == []
    assert unsafe(found, ["ANOVA on items"], 0.05, high_is_bad=True)
    assert "**" in table(found, ["ANOVA on items"], nominal={"ANOVA on items": 0.05})


@pytest.mark.parametrize("apart", [0.0, 0.05, 3.0])
def test_ties_are_those_that_the_metric_of_a_cell_sees(apart: float) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    totals, counts = rng.normal(size=(20, 4, 12)), rng.integers(1, 4, (20, 4, 12)).astype(float)
    totals += apart * counts * np.arange(4)[:, None]
    expected = [GroupTotals(totals[:, :, j], counts[:, :, j]).ties() for j in range(12)]
    assert ties(totals, counts).tolist() == expected
    assert any(expected) == (apart < 3)


def test_simulated_studies_are_what_they_are_called() -> None:
    import numpy as np

    drawn = Design("", TENS, icc=0.3).draw(np.random.default_rng(0)).reshape(300, 3, 5)
    noise = drawn[:, 0, 3] - drawn[:, 0, 0] - 0.4  # difference of two cells' noise: variance 2, 30 % of it shared
    means = noise.reshape(30, 10).mean(axis=1)
    assert noise.mean() == pytest.approx(0, abs=4 * (2 * 0.37 / 30) ** 0.5)
    assert means.var() == pytest.approx(2 * (0.3 + 0.07), rel=0.8)
    assert np.isnan(Design("", ALONE, missing="mcar").draw(np.random.default_rng(0))).mean() == pytest.approx(
        0.05, abs=0.02
    )


def test_tables_are_written_between_the_markers_only(tmp_path: Path) -> None:
    docs = tmp_path / "x.md"
    docs.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(docs, table({"row": {"a": Rate(0.051, 0.004)}}, ["a", "b"], nominal={}))
    assert docs.read_text() == f"before\n{BEGIN}\n\n| data | a |\n|---|---|\n| row | 5.1 |\n\n{END}\nafter\n"
    docs.write_text("no markers")
    with pytest.raises(ValueError, match="no calibration markers"):
        write(docs, "")


def test_the_page_holds_the_tables_of_every_design() -> None:
    page = DOCS.read_text(encoding="utf-8")
    tables = page.split(BEGIN)[1].split(END)[0]
    assert all(f"| {name} |" in tables for name in BY_NAME)
    rest = page.split(PARTS_BEGIN)[1].split(PARTS_END)[0]
    for part, following in zip(PARTS, [*PARTS[1:], None], strict=True):
        block, rest = rest.split(part.title)[1], rest.split(part.title)[1]
        block = block.split(following.title)[0] if following else block
        assert all(f"| {design.name} |" in block for design in part.designs), part.title
