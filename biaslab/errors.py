"""The errors a user can meet. Each message is one line: what was given, what is allowed, what to do."""

from __future__ import annotations

from typing import ClassVar


class BiaslabError(Exception):
    """Anything biaslab refuses or fails at by name; `exit_code` is what the process ends with."""

    exit_code: ClassVar[int] = 3


class ConfigError(BiaslabError):
    """The request is wrong: a key, a value, a combination. Nothing was loaded."""

    exit_code = 2


class Unsupported(ConfigError):
    """A pair (accelerator, model, device, benchmark) that cannot run here, with the reason and what can."""


class DataUnavailable(ConfigError):
    """A benchmark's or a model's file is neither here nor fetchable; says where to put it by hand."""


class DataMismatch(ConfigError):
    """A file is not the one that was pinned, or cannot be read as what it claims to be."""


class CellFailed(BiaslabError):
    """A cell could not be finished (NaN logits, out of memory, ...): recorded, and the sweep goes on."""


class StoreError(BiaslabError):
    """A results folder cannot be read or written; what was complete stays as it was."""
