"""Where a file or folder is made before it takes the place of an earlier one, whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from analysis.errors import AnalysisError


def staging_of(path: Path, key: str) -> Path:
    """A new hidden name beside `path`; AnalysisError, naming `key`, for a path without a name, such as "." or "/"."""
    if path.name in ("", ".."):
        raise AnalysisError(f"{key}={path}: has no name of its own; give a name that may be written anew")
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
