"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["clusters", "contrasts", "estimates", "words"])
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"analysis.{name}"))
    assert (result.failed, result.attempted > 0) == (0, True)
