"""Tidy frames: one row an item, one column an arm, for each benchmark under one decoding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.clusters import Clusters, Floats, partition
from analysis.contrasts import BASELINE, ArmKey
from analysis.errors import AnalysisError
from analysis.load import NO_ANSWER, Cell, read_records
from analysis.study import Coverage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Frame:
    """The scores of one benchmark under one decoding, over models that may be compared.

    cells : arm -> its cells, more than one if it was run with several seeds.
    items : index item, sorted; columns cluster, category, group.
    scores : index item, one column an arm: mean over repeats and seeds, NaN where there is no answer at all.
    outcomes : same shape, the most frequent outcome (the first of the alphabet in a tie), "" where not asked.
    truth : index item, one column a model: the planted score, NaN where nothing was planted.
    repeat_sd : arm -> standard deviation between repeats of one item (pooled), NaN with one repeat.
    coverage : arm -> what became of its items (`valid` is set by the analysis).
    """

    benchmark: str
    decoding: str
    pool: str
    cells: Mapping[ArmKey, list[Cell]]
    items: pd.DataFrame
    scores: pd.DataFrame
    outcomes: pd.DataFrame
    truth: pd.DataFrame
    repeat_sd: Mapping[ArmKey, float]
    coverage: Mapping[ArmKey, Coverage]

    @property
    def arms(self) -> list[ArmKey]:
        """(model, accel) of every arm that is there, in order."""
        return list(self.cells)

    @property
    def models(self) -> list[str]:
        """Models in order."""
        return list(dict.fromkeys(m for m, _ in self.cells))

    @property
    def accels(self) -> list[str]:
        """Accels in order, the baseline first."""
        rest = [a for _, a in self.cells if a != BASELINE]
        return list(dict.fromkeys([BASELINE, *rest]))

    @property
    def clusters(self) -> Clusters:
        """The partition of all items."""
        return partition(self.items["cluster"].tolist())

    @property
    def meta(self) -> Mapping[str, Any]:
        """The benchmark's own description."""
        meta: Mapping[str, Any] = self.first.content["benchmark"]["meta"]
        return meta

    @property
    def first(self) -> Cell:
        """Any cell: what it says of the benchmark, all say."""
        return next(iter(self.cells.values()))[0]

    def score(self, model: str, accel: str) -> Floats:
        """(n_items,) scores of one arm, all NaN if the arm is not there."""
        if (model, accel) not in self.cells:
            return np.full(len(self.items), math.nan)
        column: Floats = self.scores[model, accel].to_numpy(dtype=float)
        return column

    def shift(self, model: str, accel: str) -> Floats:
        """(n_items,) score minus that of the same model's baseline, NaN where either has no answer."""
        return self.score(model, accel) - self.score(model, BASELINE)

    def matrix(self, arms: Iterable[ArmKey]) -> Floats:
        """(n_items, n_arms) scores."""
        columns = [self.score(*arm) for arm in arms]
        return np.column_stack(columns) if columns else np.zeros((len(self.items), 0))


def make_frames(cells: Iterable[Cell]) -> list[Frame]:
    """One frame for each benchmark, decoding and pool of models, in the order of `cells`.

    Raises AnalysisError where the files of two cells disagree about an item's cluster, category or group.
    """
    groups: dict[tuple[str, str, str], dict[ArmKey, list[Cell]]] = {}
    for cell in cells:
        arms = groups.setdefault((cell.benchmark, cell.decoding, cell.pool), {})
        arms.setdefault((cell.model, cell.accel), []).append(cell)
    return [_make_frame(*place, arms) for place, arms in groups.items()]


def _make_frame(benchmark: str, decoding: str, pool: str, cells: dict[ArmKey, list[Cell]]) -> Frame:
    import pandas as pd

    parts = {arm: _read_arm(replicates) for arm, replicates in cells.items()}
    items = _items(parts)
    scores = {arm: _mean_scores(part) for arm, part in parts.items()}
    outcomes = {arm: _modal(part) for arm, part in parts.items()}
    truth: dict[str, pd.Series[Any]] = {}
    for (model, _), part in parts.items():
        truth.setdefault(model, part.drop_duplicates("item").set_index("item")["truth"])
    columns = pd.MultiIndex.from_tuples(list(cells), names=["model", "accel"])

    def table(by_arm: Mapping[ArmKey, pd.Series[Any]]) -> pd.DataFrame:
        aligned = {arm: s.reindex(items.index) for arm, s in by_arm.items()}
        return pd.DataFrame(aligned).set_axis(columns, axis=1)

    return Frame(
        benchmark,
        decoding,
        pool,
        cells,
        items,
        table(scores),
        table(outcomes).fillna(""),
        pd.DataFrame({model: s.reindex(items.index) for model, s in truth.items()}),
        {arm: _repeat_sd(part) for arm, part in parts.items()},
        {arm: _coverage(arm, part) for arm, part in parts.items()},
    )


def _read_arm(replicates: Iterable[Cell]) -> pd.DataFrame:
    """Records of an arm's cells, one below the other; `repeat` made unique over seeds."""
    import pandas as pd

    parts = [read_records(cell).assign(replicate=i) for i, cell in enumerate(replicates)]
    return pd.concat(parts, ignore_index=True)


def _items(parts: Mapping[ArmKey, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    columns = ["item", "cluster", "category", "group"]
    every = pd.concat([p[columns].assign(arm=" ".join(arm)) for arm, p in parts.items()])
    every = every.astype({c: str for c in columns})
    unique = every.drop_duplicates(columns)
    twice = unique.duplicated("item", keep=False)
    if twice.any():
        rows = unique[twice].sort_values("item").iloc[:2]
        column = next(c for c in columns[1:] if rows[c].iloc[0] != rows[c].iloc[1])
        a, b = rows[column]
        first, second = rows["arm"]
        raise AnalysisError(
            f"item {rows['item'].iloc[0]}: its {column} is {a!r} in {first} and {b!r} in {second}; "
            "items with one id must be one item: run the older cells again"
        )
    return unique.set_index("item")[columns[1:]].sort_index()


def _mean_scores(part: pd.DataFrame) -> pd.Series[float]:
    """The mean score of each item over the repeats that have an answer."""
    if not part["item"].duplicated().any():
        return part.set_index("item")["score"]
    return part.groupby("item")["score"].mean()


def _modal(part: pd.DataFrame) -> pd.Series[str]:
    """The most frequent outcome of each item."""
    if not part["item"].duplicated().any():
        return part.set_index("item")["outcome"].astype(str)
    counts = part.groupby(["item", "outcome"]).size().rename("n").reset_index()
    counts = counts.sort_values(["item", "n", "outcome"], ascending=[True, False, True])
    return counts.drop_duplicates("item").set_index("item")["outcome"].astype(str)


def _repeat_sd(part: pd.DataFrame) -> float:
    """Pooled standard deviation between the repeats of one item: sqrt of the mean within-item variance."""
    if not part["item"].duplicated().any():
        return math.nan
    return math.sqrt(float(part.groupby("item")["score"].var().mean()))


def _coverage(arm: ArmKey, part: pd.DataFrame) -> Coverage:
    """Counts of items: valid with at least one answer, else by the most frequent reason for having none."""
    answered = _mean_scores(part).notna()
    reasons = _modal(part[part["item"].isin(answered.index[~answered])]).value_counts()
    refused, unparsed, too_long = (int(reasons.get(reason, 0)) for reason in NO_ANSWER)
    share = float(part["score"].notna().mean())
    n, n_valid = len(answered), int(answered.sum())
    return Coverage(*arm, n, n_valid, refused, unparsed, too_long, valid=True, share=share)
