"""Tidy frames: one row an item, one column an arm, for each benchmark under one decoding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
    refused, unanswered : shaped as scores: share of an item's repeats that were refused, or had no answer for any
        reason; NaN where the item was not asked.
    positive : shaped as scores: share of an item's answered repeats whose score is above 0, NaN without an answer.
    seed_means : arm -> mean score of each of its cells, one a seed.
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
    refused: pd.DataFrame
    unanswered: pd.DataFrame
    positive: pd.DataFrame
    seed_means: Mapping[ArmKey, list[float]] = field(default_factory=dict)

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

    @cached_property
    def clusters(self) -> Clusters:
        """The partition of all items."""
        return partition(self.items["cluster"].tolist())

    @cached_property
    def reach(self) -> float:
        """How far an answer that changes can move a score where few may: a rate's scale, at least 1; else 0."""
        if self.meta["score_kind"] != "rate" or self.scores.isna().all(axis=None):
            return 0.0
        return max(1.0, float(np.nanmax(self.scores)) - float(np.nanmin(self.scores)))

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


@dataclass(frozen=True)
class _Arm:
    """What is kept of an arm's records: one row an item, in the order of `labels`."""

    labels: pd.DataFrame  # index item; columns cluster, category, group
    score: Floats
    outcome: NDArray[np.object_]
    truth: Floats
    repeat_sd: float
    coverage: Coverage
    refused: Floats
    unanswered: Floats
    positive: Floats
    seed_means: list[float]


def _make_frame(benchmark: str, decoding: str, pool: str, cells: dict[ArmKey, list[Cell]]) -> Frame:
    import pandas as pd

    arms: dict[ArmKey, _Arm] = {}
    for arm, replicates in cells.items():
        arms[arm] = _summary(arm, _read_arm(replicates), [known.labels for known in arms.values()])
    items = _items(arms)
    distinct = {id(a.labels): a.labels.index for a in arms.values()}
    rows = {key: index.get_indexer(items.index) for key, index in distinct.items()}
    truth: dict[str, Floats] = {}
    for (model, _), a in arms.items():
        truth.setdefault(model, _aligned(a.truth, rows[id(a.labels)], math.nan))
    columns = pd.MultiIndex.from_tuples(list(cells), names=["model", "accel"])

    def table(by_arm: Mapping[ArmKey, NDArray[Any]], absent: Any) -> pd.DataFrame:
        aligned = {k: _aligned(v, rows[id(arms[k].labels)], absent) for k, v in by_arm.items()}
        frame = pd.DataFrame(aligned, index=items.index, dtype=object if absent == "" else float)
        return frame.set_axis(columns, axis=1)

    return Frame(
        benchmark,
        decoding,
        pool,
        cells,
        items,
        table({k: a.score for k, a in arms.items()}, math.nan),
        table({k: a.outcome for k, a in arms.items()}, ""),
        pd.DataFrame(truth, index=items.index),
        {k: a.repeat_sd for k, a in arms.items()},
        {k: a.coverage for k, a in arms.items()},
        table({k: a.refused for k, a in arms.items()}, math.nan),
        table({k: a.unanswered for k, a in arms.items()}, math.nan),
        table({k: a.positive for k, a in arms.items()}, math.nan),
        {k: a.seed_means for k, a in arms.items()},
    )


def _summary(arm: ArmKey, part: pd.DataFrame, known: Sequence[pd.DataFrame]) -> _Arm:
    """The arm's items; `labels` is the very object of an earlier arm that has the same items in the same order.

    Arms of one benchmark nearly always do, and comparing two of them costs a tenth of sorting them again.
    """
    once = bool(part["item"].is_unique)
    unique = part if once else part.drop_duplicates("item")
    labels = unique.set_index("item")[["cluster", "category", "group"]].astype(str)
    labels = next((k for k in known[-1:] if k.index.equals(labels.index) and k.equals(labels)), labels)
    if once:
        score, outcome = part["score"].to_numpy(dtype=float), _shared(part["outcome"].astype(str))
        refused, gone = (outcome == "refused").astype(float), np.isnan(score).astype(float)
        positive = np.where(np.isnan(score), math.nan, score > 0)
    else:
        score = part.groupby("item")["score"].mean().reindex(labels.index).to_numpy(dtype=float)
        outcome = _shared(_modal(part).reindex(labels.index))
        refused, gone = (
            _share(part, mask, labels.index) for mask in (part["outcome"].eq("refused"), part["score"].isna())
        )
        answered = part[part["score"].notna()]
        positive = _share(answered, answered["score"] > 0, labels.index)
    share = float(part["score"].notna().mean())
    return _Arm(
        labels,
        score,
        outcome,
        unique["truth"].to_numpy(dtype=float),
        math.nan if once else _repeat_sd(part),
        _coverage(arm, score, outcome, share),
        refused,
        gone,
        positive,
        [float(x) for x in part.groupby("replicate")["score"].mean()],
    )


def _share(part: pd.DataFrame, mask: pd.Series[bool], index: pd.Index[Any]) -> Floats:
    """Share of each item's repeats where `mask` holds, in the order of `index`."""
    by_item = mask.astype(float).groupby(part["item"]).mean()
    return np.asarray(by_item.reindex(index), dtype=np.float64)


def _shared(outcomes: pd.Series[str]) -> NDArray[np.object_]:
    """The outcomes as references to a few texts: comparing two columns of those costs a tenth."""
    codes, texts = outcomes.factorize()
    shared: NDArray[np.object_] = np.asarray(texts, dtype=object)[codes]
    return shared


def _aligned(values: NDArray[Any], rows: NDArray[np.intp], absent: Any) -> NDArray[Any]:
    """`values` at `rows`, `absent` where the row is -1."""
    out = values[rows]
    out[rows < 0] = absent
    return out


def _read_arm(replicates: Iterable[Cell]) -> pd.DataFrame:
    """Records of an arm's cells, one below the other; `repeat` made unique over seeds."""
    import pandas as pd

    parts = [read_records(cell).assign(replicate=i) for i, cell in enumerate(replicates)]
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _items(arms: Mapping[ArmKey, _Arm]) -> pd.DataFrame:
    import pandas as pd

    distinct: dict[int, tuple[ArmKey, pd.DataFrame]] = {}
    for arm, a in arms.items():
        distinct.setdefault(id(a.labels), (arm, a.labels))
    every = pd.concat([labels.assign(arm=" ".join(arm)) for arm, labels in distinct.values()]).reset_index()
    columns = ["item", "cluster", "category", "group"]
    unique = every.drop_duplicates(columns)
    twice = unique.duplicated("item", keep=False)
    if twice.any():
        rows = unique[twice].sort_values("item", kind="stable").iloc[:2]
        column = next(c for c in columns[1:] if rows[c].iloc[0] != rows[c].iloc[1])
        a, b = rows[column]
        first, second = rows["arm"]
        raise AnalysisError(
            f"item {rows['item'].iloc[0]}: its {column} is {a!r} in {first} and {b!r} in {second}; "
            "items with one id must be one item: run the older cells again"
        )
    items: pd.DataFrame = unique.set_index("item")[columns[1:]].sort_index()
    return items


def _modal(part: pd.DataFrame) -> pd.Series[str]:
    """The most frequent outcome of each item."""
    counts = part.groupby(["item", "outcome"]).size().rename("n").reset_index()
    counts = counts.sort_values(["item", "n", "outcome"], ascending=[True, False, True])
    return counts.drop_duplicates("item").set_index("item")["outcome"].astype(str)


def _repeat_sd(part: pd.DataFrame) -> float:
    """Pooled standard deviation between the repeats of one item: sqrt of the mean within-item variance."""
    return math.sqrt(float(part.groupby("item")["score"].var().mean()))


def _coverage(arm: ArmKey, score: Floats, outcome: NDArray[np.object_], share: float) -> Coverage:
    """Counts of items: valid with at least one answer, else by the most frequent reason for having none."""
    unanswered = np.isnan(score)
    refused, unparsed, too_long = (int((outcome[unanswered] == reason).sum()) for reason in NO_ANSWER)
    n_valid = int(np.count_nonzero(~unanswered))
    return Coverage(*arm, len(score), n_valid, refused, unparsed, too_long, valid=True, share=share)
