"""One value a cell: held to R, to statsmodels, to closed forms and to tables whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.paper.twoway import least_deviation, rounding, tukey, two_way

#: Penicillin yields (5 blends x 4 treatments), Box, Hunter and Hunter 2005, Table 4.4.
PENICILLIN = np.array(
    [[89, 88, 97, 94], [84, 77, 92, 79], [81, 87, 87, 85], [87, 92, 89, 84], [79, 81, 80, 88]], dtype=float
)
#: Cotton strength (3 blocks x 5 amounts of potash), Cochran and Cox.
COTTON = np.array([[7.62, 8.14, 7.76, 7.17, 7.46], [8, 8.15, 7.73, 7.57, 7.68], [7.93, 7.87, 7.74, 7.8, 7.21]])


def test_textbook_tables_as_r_has_them() -> None:
    fit = two_way(PENICILLIN)  # the book prints 264, 70 and 226 on 4, 3 and 12 degrees of freedom
    assert (fit.ss_row, fit.ss_column, fit.ss_rest, fit.df_rest) == pytest.approx((264, 70, 226, 12))
    one = tukey(PENICILLIN)  # R 4: lm(y ~ blend + treatment + fitted^2), anova
    assert one.df == 11
    assert (one.f, one.p) == pytest.approx((0.09827, 0.759782), rel=1e-4)
    other = tukey(COTTON)
    assert other.df == 7
    assert (other.f, other.p) == pytest.approx((0.29626, 0.603137), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_tukeys_test_is_the_product_term_of_least_squares(seed: int) -> None:
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(seed)
    table = rng.normal(size=(3, 1)) + rng.normal(size=(1, 6)) + 0.3 * rng.normal(size=(3, 6))
    rows, columns = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "r": rows.ravel(), "c": columns.ravel()})
    first: Any = ols("y ~ C(r) + C(c)", frame).fit()
    frame["q"] = np.asarray(first.fittedvalues) ** 2
    both: Any = anova_lm(ols("y ~ C(r) + C(c) + q", frame).fit())
    found = tukey(table)
    assert (found.f, found.p) == pytest.approx((both.loc["q", "F"], both.loc["q", "PR(>F)"]), rel=1e-8)
    plain: Any = anova_lm(first)
    fit = two_way(table)
    assert (fit.ss_row, fit.ss_column, fit.ss_rest) == pytest.approx(tuple(plain["sum_sq"]), rel=1e-10)


def test_effects_that_multiply_are_found_and_gone_on_logs() -> None:
    rng = np.random.default_rng(1)
    table = np.exp(np.array([[0.0], [1.0], [2.0]]) + np.linspace(0, 2, 6) + rng.normal(0, 0.02, (3, 6)))
    assert tukey(table).p < 1e-6
    assert tukey(np.log(table)).p > 0.05


def test_an_additive_table_is_all_common_and_has_no_test() -> None:
    table = np.add.outer([1.0, 2.0, 4.0], [0.0, 1.0, 5.0, 2.0])
    assert two_way(table).common == pytest.approx(1)
    assert least_deviation(table) == pytest.approx(0, abs=1e-9)
    assert np.isnan(tukey(table[:, :2][:2]).p)  # 2 x 2 leaves no degree of freedom
    assert np.isnan(two_way(np.ones((2, 3))).common)


def test_the_least_deviation_of_two_by_two_is_a_quarter_of_the_interaction() -> None:
    table = np.array([[1.0, 2.0], [4.0, 9.0]])
    assert least_deviation(table) == pytest.approx(abs(1 - 2 - 4 + 9) / 4)


@pytest.mark.parametrize("seed", range(4))
def test_what_rounding_made_is_within_half_a_unit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    exact = np.add.outer(rng.random(3), rng.random(6))
    printed = np.round(exact, 2)
    found = rounding(printed, 0.005)
    assert least_deviation(printed) <= 0.005 + 1e-9  # the exact table is additive and prints so
    assert found.least == least_deviation(printed)
    assert found.common_low < two_way(exact).common < found.common_high + 0.01
    moved = printed.copy()
    moved[0, 0] += 0.5
    assert rounding(moved, 0.005).least > 0.005


def test_the_expected_square_of_rounding_is_what_rounding_makes() -> None:
    rng = np.random.default_rng(0)
    exact = rng.random((2000, 3, 1)) + rng.random((2000, 1, 6))
    made = float(np.mean([two_way(table).ss_rest for table in np.round(exact, 2)]))
    assert rounding(np.round(exact[0], 2), 0.005).expected == pytest.approx(made, rel=0.05)
