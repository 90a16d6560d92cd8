"""Importing libraries that are slow or noisy to import."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def import_hqq() -> Any:
    """The module hqq.core.quantize, or None where hqq is not installed.

    hqq decorates methods that biaslab never calls with torch.compile, and that loads torch's whole compiler:
    3 s, and a deprecation warning of torch's own. So the decorator does nothing meanwhile. transformers
    imports hqq wherever it is installed, so call this before the first use of transformers.
    """
    if find_spec("hqq") is None:
        return None
    from unittest.mock import patch

    import torch

    with patch.object(torch, "compile", lambda *_args, **_options: lambda method: method):
        import hqq.core.quantize
    return hqq.core.quantize
