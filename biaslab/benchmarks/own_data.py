"""A user's own file as a benchmark: one item a row, columns mapped by the config.

Everything that can be wrong with a file is said in one line that names the file, the line and the column:
nothing is repaired, skipped or guessed. Cells are known by the file's bytes, not by where it lies.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric
from biaslab.benchmarks.metrics import cluster_mean
from biaslab.benchmarks.own_table import SUFFIXES, Row, Table, read_table
from biaslab.errors import DataMismatch, DataUnavailable
from biaslab.models.base import ModelInfo

if TYPE_CHECKING:
    import pandas as pd

#: Columns any kind of file may have: used if they are there under these names, or mapped by the config.
COMMON = ("id", "cluster", "category", "group")
SEPARATOR = "|"
MOST_KEPT = 8
#: Items of the files read last, by everything they depend on: an edited file or another mapping is read anew.
_ITEMS: dict[tuple[Any, ...], tuple[Item, ...]] = {}


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
    asked: dict[str, tuple[str, str]] = {}
    _all_or_none(reader)
    for number, row in enumerate(reader.table.rows):
        name = _identified(reader, row) or f"row-{number:05d}"
        if name in first:
            raise reader.fail(row, f"id {name!r} is already that of {first[name]}")
        first[name] = row.place
        cluster = reader.optional(row, "cluster") or name
        category = reader.optional(row, "category") or "all"
        data = benchmark.item_data(reader, row)
        place, other = asked.setdefault(json.dumps(data, sort_keys=True, default=str), (row.place, cluster))
        if other != cluster:  # two answers that are one would count as two
            raise reader.fail(row, f"asks what {place} asks; take it out, or give the two one cluster")
        yield Item(name, cluster, category, reader.optional(row, "group") or "", data)


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
