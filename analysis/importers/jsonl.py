"""JSON lines, read as data and never evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError


def objects(path: Path) -> list[Mapping[str, Any]]:
    """The objects of a JSON lines file, empty lines skipped.

    Raises AnalysisError, naming file and line, for a line that is no JSON object, and for a file without any.
    """
    out: list[Mapping[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise AnalysisError(f"{path}, line {number}: no JSON object")
                    out.append(value)
    except (OSError, ValueError, RecursionError) as error:
        raise AnalysisError(f"{path}, line {len(out) + 1}: cannot be read as JSON ({error})") from error
    if not out:
        raise AnalysisError(f"{path}: holds no lines")
    return out
