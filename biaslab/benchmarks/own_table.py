"""A user's own file as a table of columns and rows: csv, tsv, jsonl and parquet, nothing repaired."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biaslab.errors import DataMismatch

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row: where it is in the file ("line 7"), and its values by column."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A file as read: its name, its columns in order, its rows."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, content: bytes) -> Table:
    """Columns and rows of a file's bytes; DataMismatch, in one line, for whatever cannot be read."""
    kind = path.suffix.lower()
    read = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[kind]
    columns, rows = read(path.name, content)
    if not rows:
        raise DataMismatch(f"{path.name}: no rows")
    return Table(path.name, tuple(columns), tuple(rows))


def _decoded(name: str, content: bytes) -> str:
    if b"\0" in content:  # every letter of ASCII has one in UTF-16
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise DataMismatch(f"{name}: line {line}: holds a zero byte, as UTF-16 does; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataMismatch(
            f"{name}: line {line}: not UTF-8 (byte {content[error.start]:#04x}); save it as UTF-8"
        ) from error


def _read_tsv(name: str, content: bytes) -> tuple[list[str], list[Row]]:
    return _read_csv(name, content, "\t")


def _not_separated_otherwise(name: str, columns: Sequence[str], delimiter: str) -> None:
    """Raise DataMismatch for a header that is one column with another separator in it, as a spreadsheet may save it."""
    advice = {",": "save it with commas", "\t": "save it with tabs"}[delimiter]
    if len(columns) != 1:
        return
    for other, words in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if other in columns[0]:
            kinds = {"\t": " or call it .tsv", ",": " or call it .csv"}
            raise DataMismatch(
                f"{name}: line 1: one column {columns[0]!r}: separated by {words}? {advice}{kinds.get(other, '')}"
            )


def _unpadded_columns(place: str, columns: Sequence[str]) -> None:
    for column in columns:
        if column != column.strip():
            raise DataMismatch(f"{place}: the column {column!r} has a blank at an end of its name; take it out")


def _read_csv(name: str, content: bytes, delimiter: str = ",") -> tuple[list[str], list[Row]]:
    reader = csv.reader(io.StringIO(_decoded(name, content), newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    begins = 1
    try:
        columns = next(reader, [])
        _not_separated_otherwise(name, columns, delimiter)
        _unpadded_columns(f"{name}: line 1", [column for column in columns if column.strip()])
        if len(set(columns)) < len(columns) or not all(column.strip() for column in columns):
            raise DataMismatch(f"{name}: line 1: columns need names, each once; they are {', '.join(columns)}")
        begins = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(columns):
                raise DataMismatch(f"{name}: line {begins}: {len(fields)} fields where the header has {len(columns)}")
            if fields:
                rows.append(Row(f"line {begins}", dict(zip(columns, fields, strict=True))))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataMismatch(f"{name}: line {begins}: {error}") from error
    return columns, rows


def _read_jsonl(name: str, content: bytes) -> tuple[list[str], list[Row]]:
    rows: list[Row] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(_decoded(name, content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_once)
        except ValueError as error:
            raise DataMismatch(f"{name}: line {number}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise DataMismatch(f"{name}: line {number}: an object {{...}} is needed, not {type(values).__name__}")
        columns |= dict.fromkeys(values)
        rows.append(Row(f"line {number}", values))
    _unpadded_columns(name, list(columns))
    return list(columns), rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError for a key that comes twice, of which Python would keep the last."""
    if twice := [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]:
        raise ValueError(f"the key {twice[0]!r} comes twice")
    return dict(pairs)


def _read_parquet(name: str, content: bytes) -> tuple[list[str], list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # No threads of Arrow's: one that still holds a Python object when the interpreter ends, as it does right after
        # the one line about a wrong file, aborts the process (apache/arrow#34314).
        table = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataMismatch(f"{name}: not a parquet file ({' '.join(str(error).split())[:120]})") from error
    _unpadded_columns(name, table.column_names)
    rows = [Row(f"row {number}", values) for number, values in enumerate(table.to_pylist(), 1)]
    return list(table.column_names), rows


def plain(text: str) -> str:
    r"""A text without what no reader sees: composed as Unicode's NFC, one blank for any run of them.

    >>> plain("a \n b") == plain("a b"), plain("e\u0301") == plain("\u00e9")
    (True, True)
    """
    return " ".join(unicodedata.normalize("NFC", text).split())
