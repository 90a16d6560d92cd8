"""The two-way repeated-measures ANOVA in matrix form, for tables that a long frame would not fit.

pingouin takes a row for every unit, model and accelerator: 12 million rows cost it 9 s and 2.1 GB. The same
figures come from three products with orthonormal contrasts, in a tenth of both. tests/analysis/test_kernel.py
holds this file to pingouin's own output, column by column.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.clusters import Floats

#: Cells of units x models x accels from which this kernel stands in for pingouin.
FROM_CELLS = 1_000_000


def rm_anova2(cube: Floats) -> list[dict[str, float]]:
    """Rows model, accel, model x accel with the columns of pingouin.rm_anova.

    cube : (n_units, n_models, n_accels), no NaN, at least 2 of each.
    For orthonormal contrasts Y = X C of an effect, SS = n |mean Y|^2 and its error is sum |Y|^2 - SS; the
    Greenhouse-Geisser epsilon and Mauchly's W come from the covariance of Y (Anderson 2003, section 10.7).
    """
    n, m, a = cube.shape
    flat = cube.reshape(n, m * a)
    one_m, one_a = np.full((m, 1), m**-0.5), np.full((a, 1), a**-0.5)
    effects = [np.kron(_helmert(m), one_a), np.kron(one_m, _helmert(a)), np.kron(_helmert(m), _helmert(a))]
    found = [_effect(flat @ c, m * a) for c in effects]
    unit_means = flat.mean(axis=1)
    residual = m * a * float(((unit_means - unit_means.mean()) ** 2).sum()) + sum(f["ss_error"] for f in found)
    return [f | {"ng2": f["SS"] / (f["SS"] + residual)} for f in found]


def _effect(contrasts: Floats, n_conditions: int) -> dict[str, float]:
    from scipy.special import fdtrc

    n, d = contrasts.shape
    mean = contrasts.mean(axis=0)
    centred = contrasts - mean
    covariance = centred.T @ centred / (n - 1)
    ss, ss_error = n * float(mean @ mean), (n - 1) * float(np.trace(covariance))
    if ss_error == 0:  # nothing to test against: the caller names such an effect instead of its F
        return {"SS": ss, "ddof1": float(d), "ddof2": float(d * (n - 1)), "ss_error": 0.0}
    ms, df2 = ss / d, float(d * (n - 1))
    f = ms / (ss_error / df2)
    eps = 1.0 if d == 1 else min(1.0, float(np.trace(covariance) ** 2 / (d * (covariance**2).sum())))
    w, p_w = _mauchly(covariance, n - 1, n_conditions)
    return {
        "SS": ss, "ddof1": float(d), "ddof2": df2, "MS": ms, "F": f, "p_unc": float(fdtrc(d, df2, f)),
        "p_GG_corr": float(fdtrc(eps * d, eps * df2, f)), "eps": eps, "W_spher": w, "p_spher": p_w,
        "ss_error": ss_error,
    }  # fmt: skip


def _mauchly(covariance: Floats, df: int, k: int) -> tuple[float, float]:
    """Mauchly's W and its p with the second-order term, `k` conditions in it as R's mauchly.test has them."""
    from scipy.special import chdtrc

    d = len(covariance)
    if d == 1:
        return math.nan, 1.0
    sign, logdet = np.linalg.slogdet(covariance)
    log_w = float(logdet) - d * math.log(float(np.trace(covariance)) / d) if sign > 0 else -math.inf
    f = 1 - (2 * d**2 + d + 2) / (6 * d * df)
    w2 = (d + 2) * (d - 1) * (d - 2) * (2 * d**3 + 6 * d**2 + 3 * k + 2) / (288 * (df * d * f) ** 2)
    chi2, ddof = -df * f * log_w, d * (d + 1) / 2 - 1
    p1, p2 = float(chdtrc(ddof, chi2)), float(chdtrc(ddof + 4, chi2))
    return math.exp(log_w), p1 + w2 * (p2 - p1)


def _helmert(k: int) -> Floats:
    """(k, k - 1) orthonormal contrasts."""
    rows = np.tril(np.ones((k, k)), -1)[1:] - np.diag(np.arange(k))[1:]
    out: Floats = (rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))).T
    return out
