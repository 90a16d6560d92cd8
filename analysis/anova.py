"""The classic layer: two-way repeated-measures ANOVA (model x accel within items), by pingouin.

It takes items as independent. Where items share templates that is wrong, and measured so: a true null was
rejected in 22 to 94 % of simulated studies. So it runs on cluster means too, and gives no verdict.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from analysis import kernel
from analysis.clusters import Clusters, Floats
from analysis.contrasts import ArmKey
from analysis.effects import eta_interval
from analysis.study import Anova, AnovaRow

SOURCES = ("model", "accel", "model x accel")
ROUNDING = 1e-12  # variation under this share of the largest score is rounding


def anova_tables(scores: Floats, grid: Sequence[ArmKey], clusters: Clusters, *, alpha: float = 0.05) -> list[Anova]:
    """The table on items and, where items share clusters, on cluster means.

    scores : (n_items, n_arms), no NaN, columns as in `grid`.
    grid : a full grid of (model, accel), every model with the same accels.
    clusters : of the items.
    """
    tables = [rm_anova(scores, grid, unit="items", alpha=alpha)]
    if not clusters.singletons:
        tables.append(rm_anova(clusters.means(scores), grid, unit="cluster means", alpha=alpha))
    return tables


def rm_anova(scores: Floats, grid: Sequence[ArmKey], *, unit: str, alpha: float = 0.05) -> Anova:
    """pingouin.rm_anova over `scores` (n_units, n_arms), or the reason why it cannot run.

    Sources without an effect in any unit, or with the same effect in all of them, have no F: they are left
    out of `rows` and named in `reason`.
    """
    models, accels = list(dict.fromkeys(m for m, _ in grid)), list(dict.fromkeys(a for _, a in grid))
    n = len(scores)
    if reason := _impossible(n, models, accels, unit):
        return Anova(unit, n, reason=reason)
    assert len(grid) == len(models) * len(accels), "the grid has holes"
    order = [grid.index((m, a)) for m in models for a in accels]
    cube = scores[:, order].reshape(n, len(models), len(accels))
    untestable = _degenerate(cube)
    if len(untestable) == len(SOURCES):
        return Anova(unit, n, reason=_say(untestable))
    try:
        table, noted = _table(cube)
    except ZeroDivisionError:  # pingouin 0.7.0's Mauchly test, with hardly more units than contrasts
        return Anova(unit, n, reason=f"{n} complete {unit} are too few for pingouin's test of sphericity")
    kept = [_row(s, table[s], n, alpha) for s in SOURCES if s not in untestable]
    spherical = ", ".join(row.source for row in kept if row.df1 > n - 1)
    few = f"{spherical}: no Mauchly test with fewer {unit} than contrasts" if spherical else ""
    noted = "" if untestable and noted.startswith("pingouin") else noted  # it warns of what is left out
    return Anova(unit, n, kept, "; ".join(filter(None, [_say(untestable), few, noted])))


def _impossible(n: int, models: Sequence[str], accels: Sequence[str], unit: str) -> str:
    for count, what in ((len(models), "model"), (len(accels), "level of accel, the baseline included")):
        if count < 2:
            return f"{count} {what}: the ANOVA needs at least 2"
    return f"{n} complete {unit}: the ANOVA needs at least 2" if n < 2 else ""


def _degenerate(cube: Floats) -> dict[str, str]:
    """Sources with no effect at all, or with no variance between units to test it against, and why."""
    centred = cube - cube.mean(axis=(1, 2), keepdims=True)
    model = centred.mean(axis=2, keepdims=True)
    accel = centred.mean(axis=1, keepdims=True)
    effects = dict(zip(SOURCES, (model, accel, centred - model - accel), strict=True))
    limit = ROUNDING * float(np.abs(cube).max())
    out = {}
    for source, effect in effects.items():
        if np.abs(effect).max() <= limit:
            out[source] = "no effect in any unit"
        elif np.abs(effect - effect.mean(axis=0)).max() <= limit:
            out[source] = "exactly the same effect in every unit, so no error to test it against"
    return out


def _say(untestable: dict[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for source, reason in untestable.items():
        by_reason.setdefault(reason, []).append(source)
    return "; ".join(f"{', '.join(sources)}: {reason}" for reason, sources in by_reason.items())


def _table(cube: Floats) -> tuple[dict[str, dict[str, object]], str]:
    """The table by source, and a note: by pingouin, or in matrix form where its long frame would not fit."""
    if cube.size < kernel.FROM_CELLS:
        return _pingouin(cube)
    rows: list[dict[str, object]] = [dict(row) for row in kernel.rm_anova2(cube)]
    note = f"{cube.size:,} scores: computed in matrix form (the figures are pingouin's)"
    return dict(zip(SOURCES, rows, strict=True)), note


def _pingouin(cube: Floats) -> tuple[dict[str, dict[str, object]], str]:
    """Pingouin's table by source, and what it warned of."""
    import pandas as pd

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import pingouin

        n, m, a = cube.shape
        unit, model, accel = (index.ravel() for index in np.indices((n, m, a)))
        long = pd.DataFrame({"unit": unit, "model": model, "accel": accel, "score": cube.ravel()})
        long = long.astype({c: "category" for c in ("unit", "model", "accel")})
        within = ["model", "accel"]
        table = pingouin.rm_anova(long, dv="score", within=within, subject="unit", correction=True, effsize="ng2")
    noted = sorted({str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)})
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    return dict(zip(SOURCES, rows, strict=True)), "; ".join(f"pingouin: {text}" for text in noted)


def _row(source: str, values: dict[str, object], n: int, alpha: float) -> AnovaRow:
    names = ("SS", "ddof1", "ddof2", "MS", "F", "p_unc", "p_GG_corr", "eps", "W_spher", "p_spher", "ng2")
    ss, df1, df2, ms, f, p, p_gg, eps, w, p_sphericity, generalized = (_number(values.get(n)) for n in names)
    partial = f * df1 / (f * df1 + df2)  # SS / (SS + SS of its error), from the definition of F
    df1_gg, df2_gg = eps * df1, eps * df2
    ends = [
        *eta_interval(partial, df1_gg, df2_gg, alpha=alpha),
        *eta_interval(generalized, df1_gg, df2_gg, alpha=alpha),
    ]
    if df1 > n - 1:  # the covariance of the contrasts is singular: W says nothing
        w = p_sphericity = math.nan
    error = ms / f * df2
    return AnovaRow(
        source, ss, df1, df2, ms, f, p, p_gg, eps, w, p_sphericity, partial, generalized, error, df1_gg, df2_gg, *ends
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else math.nan
