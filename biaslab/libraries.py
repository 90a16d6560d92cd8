"""Importing libraries that are slow, noisy or optional."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

#: Loggers that speak at import or at every forward of what is no news here: optional kernels that are not
#: built for this machine, casts that the accelerator's own documentation states.
NOISY = ("torchao", "bitsandbytes", "torch.utils._pytree", "torch.fx._symbolic_trace")


def import_hqq() -> Any:
    """The module hqq.core.quantize, or None where hqq is not installed.

    hqq decorates methods that biaslab never calls with torch.compile, and that loads torch's whole compiler:
    3 s, and a deprecation warning of torch's own. So the decorator does nothing meanwhile. transformers
    imports hqq wherever it is installed, so call this before the first use of transformers.
    """
    for name in NOISY:  # transformers imports these as well
        logging.getLogger(name).setLevel(logging.ERROR)
    if find_spec("hqq") is None:
        return None
    from unittest.mock import patch

    import torch

    with patch.object(torch, "compile", lambda *_args, **_options: lambda method: method):
        import hqq.core.quantize
    return hqq.core.quantize


def missing(modules: Sequence[str], extra: str) -> str | None:
    """Why modules cannot be imported, with the line that installs their extra (or them), or None."""
    absent = [name for name in modules if find_spec(name) is None]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    line = f"'biaslab[{extra}]'" if extra else " ".join(absent)
    return f"{', '.join(absent)} {verb} not installed: pip install {line}"
