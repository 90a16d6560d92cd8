"""Accelerators: one file a family, found by importing the modules of this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from biaslab.accel.base import Accelerator


@cache
def families() -> dict[str, type[Accelerator]]:
    """Family name -> class of every accelerator in this package, sorted; importing them brings no torch.

    A module that does not import raises, and so do two classes that claim one family.
    """
    found: dict[str, type[Accelerator]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for cls in vars(module).values():
            if not (inspect.isclass(cls) and issubclass(cls, Accelerator)) or inspect.isabstract(cls):
                continue
            if cls.__module__ != module.__name__:
                continue
            if cls.family in found:
                other = found[cls.family].__module__
                raise TypeError(f"{cls.__module__} and {other} both claim the family {cls.family!r}")
            found[cls.family] = cls
    return dict(sorted(found.items()))
