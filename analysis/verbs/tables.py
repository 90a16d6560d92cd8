"""Plain tables on a terminal, and files written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from analysis.errors import AnalysisError
from analysis.staging import staging_of
from analysis.words import visible


def render(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, as wide as their longest text; control characters made visible.

    >>> print(render(["a", "long"], [["xyz", "1"]]))
    a    long
    ---  ----
    xyz  1
    """
    head, cells = [visible(text) for text in head], [[visible(text) for text in row] for row in rows]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = [head, ["-" * w for w in widths], *cells]
    return "\n".join("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def write_text(path: Path, text: str, *, key: str) -> None:
    """Write `text`, replacing an earlier file only when all of it is written.

    Raises AnalysisError, naming `key`, where it cannot be written.
    """
    staging = staging_of(path, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.write_text(text, encoding="utf-8")
        staging.replace(path)
    except OSError as error:
        raise AnalysisError(f"{key}={path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # what it would say was said above
            staging.unlink(missing_ok=True)
