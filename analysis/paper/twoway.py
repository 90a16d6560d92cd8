"""What a table with one value a cell allows: no error term, so the interaction and the noise are one thing.

With y_ij = m + r_i + c_j + e_ij and no replication, e holds interaction and noise together and nothing here can part
them. What can be had: how much of the variation between conditions all models share; Tukey's one-degree-of-freedom
test, which asks whether e has the form k r_i c_j (as it has when effects multiply) against the rest of e; and what the
rounding of the printed values can and cannot have made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.clusters import Floats

DRAWS = 4000


@dataclass(frozen=True)
class TwoWay:
    """An additive fit of a (models x conditions) table.

    ss_row, ss_column, ss_rest : sums of squares of models, of conditions, and of what is left. common : ss_column /
    (ss_column + ss_rest), the share of the variation between conditions that is the same for all models.
    """

    ss_row: float
    ss_column: float
    ss_rest: float
    df_rest: int

    @property
    def common(self) -> float:
        """NaN where nothing varies between conditions."""
        total = self.ss_column + self.ss_rest
        return self.ss_column / total if total > 0 else math.nan


@dataclass(frozen=True)
class Tukey:
    """Tukey's one-degree-of-freedom test for non-additivity: F on 1 and `df` degrees of freedom; NaN without any."""

    f: float
    df: int
    p: float


@dataclass(frozen=True)
class Rounding:
    """What rounding does to the figures: 95 % ranges over tables that print alike.

    common_low, common_high : of TwoWay.common. significant : share of those tables in which Tukey's p is under alpha.
    least : the smallest largest deviation from additivity that any additive table has from the printed one; at most
    half a unit: rounding alone can have made the whole interaction. expected : ss_rest that rounding alone makes of
    an additive table, on average.
    """

    common_low: float
    common_high: float
    significant: float
    least: float
    expected: float


def two_way(table: Floats) -> TwoWay:
    """Additive fit of a complete table (I, J), I and J at least 2."""
    rows, columns, rest = _parts(table)
    n, m = table.shape
    return TwoWay(float(m * (rows**2).sum()), float(n * (columns**2).sum()), float((rest**2).sum()), (n - 1) * (m - 1))


def tukey(table: Floats) -> Tukey:
    """Tukey 1949 (Biometrics 5): the product r_i c_j fitted to the residuals, against what then is left."""
    f, p, df = _tukey(table[None])
    return Tukey(float(f[0]), df, float(p[0]))


def rounding(table: Floats, half: float, *, alpha: float = 0.05, seed: int = 0) -> Rounding:
    """What could stand behind a table printed to within `half`: each cell uniform within it, independently."""
    rng = np.random.default_rng(seed)
    tables = table + rng.uniform(-half, half, (DRAWS, *table.shape))
    _, columns, rest = _parts(tables)
    n, m = table.shape
    ss_column, ss_rest = n * (columns**2).sum((1, 2)), (rest**2).sum((1, 2))
    low, high = np.quantile(ss_column / (ss_column + ss_rest), [0.025, 0.975])
    _, p, _ = _tukey(tables)
    expected = (n - 1) * (m - 1) * (2 * half) ** 2 / 12
    return Rounding(float(low), float(high), float((p < alpha).mean()), least_deviation(table), expected)


def least_deviation(table: Floats) -> float:
    """Smallest possible largest |deviation| of the table from r_i + c_j, by linear programming.

    If it is over half a printed unit, no additive table prints like this one.
    """
    from scipy.optimize import linprog

    n, m = table.shape
    design = np.zeros((n * m, n + m))
    design[np.arange(n * m), np.repeat(np.arange(n), m)] = 1
    design[np.arange(n * m), n + np.tile(np.arange(m), n)] = 1
    ones, y = np.ones((n * m, 1)), table.ravel()
    above, below = np.hstack([design, -ones]), np.hstack([-design, -ones])
    found = linprog(
        np.r_[np.zeros(n + m), 1.0], A_ub=np.vstack([above, below]), b_ub=np.r_[y, -y],
        bounds=[(None, None)] * (n + m) + [(0, None)],
    )  # fmt: skip
    assert found.fun is not None  # such a fit always exists
    return float(found.fun)


def _parts(tables: Floats) -> tuple[Floats, Floats, Floats]:
    """Row effects (..., I, 1), column effects (..., 1, J) and residuals (..., I, J)."""
    grand = tables.mean((-2, -1), keepdims=True)
    rows, columns = tables.mean(-1, keepdims=True) - grand, tables.mean(-2, keepdims=True) - grand
    return rows, columns, tables - grand - rows - columns


def _tukey(tables: Floats) -> tuple[Floats, Floats, int]:
    """F, p and the second degrees of freedom for tables (B, I, J)."""
    from scipy.stats import f as fisher

    rows, columns, rest = _parts(tables)
    n, m = tables.shape[1:]
    df = (n - 1) * (m - 1) - 1
    product = rows * columns
    scale = (product**2).sum((1, 2))
    total = (rest**2).sum((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        one = (product * rest).sum((1, 2)) ** 2 / scale
        ratio = np.where(scale > 0, one / np.maximum(total - one, 0.0) * df, np.nan)
    if df < 1:
        ratio = np.full(len(tables), np.nan)
    return ratio, np.asarray(fisher.sf(ratio, 1, max(df, 1))), df
