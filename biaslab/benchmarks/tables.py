"""Reading a benchmark's csv file, with one line for whatever is wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from biaslab.errors import DataMismatch


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a UTF-8 csv in file order; DataMismatch where one of `columns` is empty, or nothing is there.

    A byte order mark is skipped.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataMismatch(f"{path}: not a UTF-8 csv file ({error})") from error
    for i, row in enumerate(rows):
        if any(not row.get(column) for column in columns):
            raise DataMismatch(f"{path}: row {i} lacks one of {', '.join(columns)}; is the file truncated?")
    if not rows:
        raise DataMismatch(f"{path}: no rows")
    return rows
