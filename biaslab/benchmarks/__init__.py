"""Bias benchmarks: one file each, found by importing the modules of this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from biaslab.benchmarks.base import Benchmark


@cache
def registry() -> dict[str, type[Benchmark]]:
    """Name -> class of every benchmark in this package. A module that does not import raises."""
    found: dict[str, type[Benchmark]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for cls in vars(module).values():
            if not (inspect.isclass(cls) and issubclass(cls, Benchmark)) or inspect.isabstract(cls):
                continue
            if cls.__module__ == module.__name__:
                found[cls.name] = cls
    return dict(sorted(found.items()))
