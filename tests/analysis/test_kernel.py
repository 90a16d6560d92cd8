"""The matrix form of the ANOVA against pingouin, which it stands in for on large tables."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import anova, kernel
from analysis.anova import rm_anova

GRIDS = [(12, 2, 2), (30, 2, 3), (40, 3, 4), (200, 4, 5)]


def scores(shape: tuple[int, int, int]) -> np.ndarray:
    """A table with effects of every source, correlated conditions and unequal variances."""
    rng = np.random.default_rng(shape)
    n, m, a = shape
    data = rng.normal(size=(n, 1, 1)) + rng.normal(size=(n, m, a)) * rng.uniform(0.2, 2, (1, m, a))
    return np.asarray(data + rng.normal(size=(1, m, 1)) * 0.2 + rng.normal(size=(1, m, a)) * 0.2).reshape(n, m * a)


@pytest.mark.parametrize("shape", GRIDS)
def test_every_column_equals_pingouins(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    data = scores(shape)
    grid = [(f"m{i}", f"a{j}") for i in range(shape[1]) for j in range(shape[2])]
    by_pingouin = rm_anova(data, grid, unit="items")
    monkeypatch.setattr(kernel, "FROM_CELLS", 0)
    monkeypatch.setattr(anova, "_pingouin", None)  # so that it cannot have been asked
    by_kernel = rm_anova(data, grid, unit="items")
    assert len(by_kernel.rows) == len(by_pingouin.rows) == 3
    for own, peer in zip(by_kernel.rows, by_pingouin.rows, strict=True):
        assert own.source == peer.source
        for name, value in vars(peer).items():
            if name != "source":
                assert getattr(own, name) == pytest.approx(value, rel=1e-9, nan_ok=True), (own.source, name)
    assert by_pingouin.reason == ""
    assert "matrix form" in by_kernel.reason


def test_it_takes_over_only_where_size_demands() -> None:
    assert kernel.FROM_CELLS > 500_000  # pingouin does half a million rows in a quarter of a second
