"""What exporters share: arms and their tasks, names that are safe as files, and the score of an item."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import partition
from analysis.estimates import cluster_mean

if TYPE_CHECKING:
    import pandas as pd

    from analysis.load import Cell
    from analysis.study import Estimate

ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,()-]{0,119}")


@dataclass(frozen=True)
class Task:
    """One cell as another harness's task.

    name : the benchmark, with decoding and seeds behind it where it has several cells. records : checked, with
    whatever columns their file has beside.
    """

    name: str
    cell: Cell
    records: pd.DataFrame

    @property
    def file_name(self) -> str:
        """`name` as part of a file's name."""
        return safe(self.name)

    @property
    def mean(self) -> Estimate:
        """Mean score with its cluster-robust error."""
        first = self.records.groupby("item", sort=False).agg(score=("score", "mean"), cluster=("cluster", "first"))
        return cluster_mean(first["score"].to_numpy(dtype=float), partition(first["cluster"].tolist()))


@dataclass(frozen=True)
class Arm:
    """One model under one accelerator, and its tasks. folder : where it goes below the export's root."""

    model: str
    accel: str
    folder: Path
    tasks: list[Task]


def safe(text: str) -> str:
    """`text` if it may be a file's name as it is, else what may be of it and eight digits of its hash.

    >>> safe("hqq4(group_size=32)"), safe("../x")
    ('hqq4(group_size=32)', 'x-d6b96a97')
    """
    if ALLOWED.fullmatch(text):
        return text
    kept = re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9._+=,()-]+", "_", text))[:80].rstrip("._")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digest}" if kept else digest


def arms_of(cells: Iterable[Cell]) -> list[Arm]:
    """The arms in order of appearance, each with a task for every one of its cells."""
    from analysis.results import records_of

    by_arm: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        by_arm.setdefault((cell.model, cell.accel), []).append(cell)
    every = [cell for own in by_arm.values() for cell in own]
    return [
        Arm(model, accel, Path(safe(model)) / safe(accel), [Task(_name(c, every), c, records_of(c)) for c in own])
        for (model, accel), own in by_arm.items()
    ]


def _name(cell: Cell, every: Sequence[Cell]) -> str:
    """The benchmark, with decoding and seeds in brackets where the benchmark has several."""
    same = [c for c in every if c.benchmark == cell.benchmark]
    parts = [cell.decoding] if len({c.decoding for c in same}) > 1 else []
    same = [c for c in same if c.decoding == cell.decoding]
    parts += [f"seed={cell.seed}"] if len({c.seed for c in same}) > 1 else []
    alike = [c for c in same if (c.model, c.accel, c.seed) == (cell.model, cell.accel, cell.seed)]
    parts += [f"calibration_seed={cell.calibration_seed}"] if len(alike) > 1 else []
    return f"{cell.benchmark}({','.join(parts)})" if parts else cell.benchmark


def write_runs(arms: Sequence[Arm], out: Path) -> Path:
    """runs.csv: folder, model, accel."""
    import pandas as pd

    rows = [(arm.folder.as_posix(), arm.model, arm.accel) for arm in arms]
    path = out / "runs.csv"
    pd.DataFrame(rows, columns=["folder", "model", "accel"]).to_csv(path, index=False, quoting=1)
    return path


def text_of(row: dict[str, object], column: str) -> str:
    """A column of a record as text; empty where the record has none."""
    value = row.get(column)
    return "" if value is None or value is np.nan or value != value else str(value)
