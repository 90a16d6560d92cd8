"""A user's own file as a benchmark: reading csv, jsonl and parquet, columns mapped by the config.

Everything that can be wrong with a file is said in one line that names the file, the line and the column:
nothing is repaired, skipped or guessed. Cells are known by the file's bytes, not by where it lies.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric
from biaslab.benchmarks.metrics import cluster_mean
from biaslab.errors import DataMismatch, DataUnavailable
from biaslab.models.base import ModelInfo

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
#: Columns any kind of file may have: used if they are there under these names, or mapped by the config.
COMMON = ("id", "cluster", "category", "group")
SEPARATOR = "|"
MOST_KEPT = 8
#: Items of the files read last, by everything they depend on: an edited file or another mapping is read anew.
_ITEMS: dict[tuple[Any, ...], tuple[Item, ...]] = {}


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


@dataclass
class Columns:
    """Which columns say what any benchmark can use; null: the column of that very name, if there is one.

    id : names an item across cells (default: its row number). cluster : rows that depend on each other, such
    as those made from one template (default: every row its own). category, group : for parts of the metrics.
    """

    id: str | None = None
    cluster: str | None = None
    category: str | None = None
    group: str | None = None


@dataclass
class OwnData(Benchmark):
    """Base of the benchmarks over a user's file.

    file : a csv, tsv, jsonl or parquet file. title, licence : for reports (default: the file's name, "not
    stated"). content_warning : whether reports should warn of its texts.
    """

    file: str = ""
    title: str = ""
    licence: str = "not stated"
    content_warning: bool = False
    columns: Columns = field(default_factory=Columns)

    kind: ClassVar[str]  # what the file holds, in words

    def label(self) -> str:
        """The benchmark's name with the file's: two files never share a folder of results."""
        stem = re.sub(r"[^A-Za-z0-9._+=-]", "_", Path(self.file).stem)[:60]
        return f"{self.name}({stem})" if stem else self.name

    def identity(self) -> dict[str, Any]:
        """The config without the file's path, for which `data_sha256` stands, and without words for reports."""
        aside = ("file", "title", "licence", "content_warning")
        return {key: value for key, value in super().identity().items() if key not in aside}

    def description(self) -> Meta:
        """What `meta` says of any file, with this file's name, title and licence."""
        if not self.file:
            return self.meta
        name = Path(self.file).name
        return dataclasses.replace(
            self.meta,
            title=self.title or f"{name} ({self.kind})",
            source=f"the user's own file {name}",
            licence=self.licence,
            content_warning=self.content_warning,
        )

    def check(self) -> str | None:
        """Names a missing file name or a kind of file that is not read."""
        if not self.file:
            return f"file=: name your file, benchmark.{self.name}.file=my.csv ({', '.join(SUFFIXES)})"
        if Path(self.file).suffix.lower() not in SUFFIXES:
            return f"file={self.file}: must end in {', '.join(SUFFIXES)}"
        return None

    def data_sha256(self) -> str:
        """Hash of the file's bytes, after reading every row, so that a wrong one is named before a model loads."""
        path = self._path()
        self._rows()
        return _content(str(path), *_stamp(path))[1]

    def items(self, model: ModelInfo) -> Sequence[Item]:
        """One item a row, in the file's order."""
        return self._rows()

    @abstractmethod
    def item_data(self, reader: Reader, row: Row) -> dict[str, Any]:
        """What the benchmark needs of a row; DataMismatch, made by `reader`, where it is not there."""

    def _path(self) -> Path:
        path = Path(self.file).expanduser()
        if not path.is_file():
            raise DataUnavailable(f"benchmark.{self.name}.file={self.file}: no such file")
        return path

    def _rows(self) -> tuple[Item, ...]:
        path = self._path()
        key = (self.name, str(path), *_stamp(path), json.dumps(dataclasses.asdict(self), sort_keys=True))
        if key not in _ITEMS:
            if len(_ITEMS) >= MOST_KEPT:
                _ITEMS.clear()
            table = read_table(path, _content(str(path), *_stamp(path))[0])
            reader = Reader(table, dataclasses.asdict(self.columns), f"benchmark.{self.name}.columns")
            _ITEMS[key] = tuple(_make(self, reader))
        return _ITEMS[key]


class Reader:
    """Reads the values of a table's rows under a config's mapping of columns.

    option : the config's path of the mapping ("benchmark.pairs.columns"), for messages.
    """

    def __init__(self, table: Table, mapping: Mapping[str, str | None], option: str) -> None:
        self.table = table
        self.mapping = mapping
        for key, column in mapping.items():
            if column is not None and column not in table.columns:
                raise DataMismatch(
                    f"{option}.{key}={column}: {table.name} has no such column; it has {', '.join(table.columns)}"
                )

    def column(self, key: str) -> str | None:
        """The file's column for `key`: the mapped one, else one of that very name, else None."""
        return self.mapping.get(key) or (key if key in self.table.columns else None)

    def fail(self, row: Row, words: str) -> DataMismatch:
        """The error that names the file and the row."""
        return DataMismatch(f"{self.table.name}: {row.place}: {words}")

    def text(self, row: Row, key: str) -> str:
        """A text that must be there and not be blank."""
        column = self.column(key)
        value = row.values.get(column) if column else None
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.fail(row, f"column {column!r} is empty")
        if not isinstance(value, str):
            raise self.fail(row, f"column {column!r} holds {type(value).__name__} {value!r}, not a text")
        return self._unpadded(row, column, value)

    def optional(self, row: Row, key: str) -> str | None:
        """A word that may be missing; numbers are taken as their text."""
        column = self.column(key)
        value = row.values.get(column) if column else None
        return None if value is None or not str(value).strip() else self._unpadded(row, column, str(value))

    def texts(self, row: Row, key: str) -> list[str]:
        """A list of texts: a list, a JSON list, or texts with | (and blanks, if any) between them; [] for nothing."""
        column = self.column(key)
        value = row.values.get(column) if column else None
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise self.fail(row, f"column {column!r} begins like a JSON list and is none ({error})") from error
        if isinstance(value, str):
            value = [part.strip() for part in value.split(SEPARATOR)] if value.strip() else []
        if not all(isinstance(part, str) and part.strip() for part in value or ()):
            raise self.fail(row, f"column {column!r} must hold texts, not {value!r}")
        return [self._unpadded(row, column, part) for part in value or ()]

    def _unpadded(self, row: Row, column: str | None, value: str) -> str:
        """`value`, unless it has a blank at an end: one that is scored is another text, one in a name another name."""
        if value == value.strip():
            return value
        where, blank = ("begins", value[0]) if value[0].isspace() else ("ends", value[-1])
        shown = value if len(value) <= 60 else f"{value[:28]}...{value[-28:]}"
        raise self.fail(row, f"column {column!r} {where} with a blank ({blank!r} in {shown!r}); take it out")


def _make(benchmark: OwnData, reader: Reader) -> Iterator[Item]:
    first: dict[str, str] = {}
    _all_or_none(reader)
    for number, row in enumerate(reader.table.rows):
        name = _identified(reader, row) or f"row-{number:05d}"
        if name in first:
            raise reader.fail(row, f"id {name!r} is already that of {first[name]}")
        first[name] = row.place
        cluster = reader.optional(row, "cluster") or name
        category = reader.optional(row, "category") or "all"
        yield Item(name, cluster, category, reader.optional(row, "group") or "", benchmark.item_data(reader, row))


def _all_or_none(reader: Reader) -> None:
    """Raise DataMismatch for a row that has no cluster, category or group where another row has one.

    Its default would not look like one: a category "all" beside named ones, a group "", a cluster of its own.
    """
    for key in ("cluster", "category", "group"):
        named = [(row, reader.optional(row, key)) for row in reader.table.rows]
        there = next(((row, name) for row, name in named if name is not None), None)
        lacking = next((row for row, name in named if name is None), None)
        if there is not None and lacking is not None:
            has = f"{there[0].place} has {there[1]!r} there"
            raise reader.fail(
                lacking, f"column {reader.column(key)!r} is empty, and {has}; fill it in every row or in none"
            )


def _identified(reader: Reader, row: Row) -> str | None:
    name = reader.optional(row, "id")
    if name is None and reader.column("id"):
        raise reader.fail(row, f"column {reader.column('id')!r} is empty")
    return name


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4)
def _content(path: str, size: int, mtime_ns: int) -> tuple[bytes, str]:
    """Bytes and sha256 of a file; size and time are there so that an edited file is read again."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataUnavailable(f"{path}: cannot be read ({error.strerror})") from error
    return content, hashlib.sha256(content).hexdigest()


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


def by_part(records: pd.DataFrame, make: Callable[[pd.DataFrame], Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics of all records, and of each category and group if there are several."""
    found = dict(make(records))
    taken = set(records["category"])
    for column in ("category", "group"):
        parts = list(records.groupby(column))
        for value, part in ((str(name), part) for name, part in parts if len(parts) > 1):
            shown = f"group={value}" if column == "group" and value in taken else value
            found |= {f"{name}/{shown}": metric for name, metric in make(part).items()}
    return found


def mean_of(records: pd.DataFrame, values: pd.Series, unit: str) -> Metric:
    """Cluster mean of some values of the records, with the missing answers counted."""
    return cluster_mean(values, records["cluster"], unit=unit, outcomes=records["outcome"])


def example(name: str) -> str:
    """Path of an example file that ships with the package."""
    return str(Path(__file__).parent / "examples" / name)
