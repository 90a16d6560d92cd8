"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "name", ["aggregates", "clusters", "contrasts", "effects", "estimates", "exporters.arms", "results", "words"]
)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write a file
    result = doctest.testmod(importlib.import_module(f"analysis.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)
