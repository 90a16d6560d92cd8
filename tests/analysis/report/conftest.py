from __future__ import annotations

from pathlib import Path

import pytest

from analysis.analyse import analyse
from analysis.settings import Settings
from analysis.study import Study
from tests.analysis.fake import make_sweep

HOSTILE = "<script>alert(1)</script>&\"'|`*_ $x$ \u202eevil\u202c \U0001f600 " + "w" * 200


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A real analysis of a fake sweep: three models, a placebo, a planted interaction."""
    folder = make_sweep(
        tmp_path_factory.mktemp("fake"), models=("alpha", "beta", "gamma"), accels=("hqq4", "wanda50", "placebo_batch"),
        benchmarks=("one", "two"), n_clusters=12, items_per_cluster=5, interaction=0.6, seed=1,
    )  # fmt: skip
    return analyse(Path(folder), Settings(n_resamples=199))
