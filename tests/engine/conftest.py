"""Tiny loaded models, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_local, load
from tests.models.make import make_folder

MakeModel = Callable[..., LoadedModel]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """make_model(kind, **options of make_folder): the model, loaded as biaslab loads it; do not change it."""
    made: dict[Any, LoadedModel] = {}

    def make(kind: str, **options: Any) -> LoadedModel:
        key = (kind, *sorted(options.items()))
        if key not in made:
            folder = make_folder(tmp_path_factory.mktemp(kind), kind, **options)
            made[key] = load(describe_local(str(folder)), device="cpu", dtype="float32")
        return made[key]

    return make
