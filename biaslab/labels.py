"""What was changed of a config, in the letters a label may have: "(group_size=32)"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

KEPT = re.compile(r"[^A-Za-z0-9._]+")


def changed(now: Mapping[str, Any], before: Mapping[str, Any], aside: Set[str] = frozenset()) -> str:
    """The fields of `now` that are not as in `before`, in brackets; "" where all are. aside : fields not to show.

    >>> changed({"bits": 4, "calibration": {"length": 64, "seed": 1}}, {"bits": 4, "calibration": {"length": 32}})
    '(calibration.length=64,calibration.seed=1)'
    """
    known = dict(_flat(before))
    parts = [
        f"{key}={_word(value)}"
        for key, value in _flat(now)
        if key not in aside and (key not in known or known[key] != value)
    ]
    return f"({','.join(parts)})" if parts else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _word(value: Any) -> str:
    """A value in the letters a folder's name may have: of a path only its last part."""
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return KEPT.sub("-", text.rstrip("/").rsplit("/", 1)[-1]).strip("-") or "empty"
