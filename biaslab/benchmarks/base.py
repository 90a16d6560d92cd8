"""The interface of a benchmark: items, the requests each makes of a model, the score of each, the metrics.

A benchmark never touches a model: it yields requests and turns responses into records. Its dataclass is
its config schema, so one file in this folder plus one YAML in conf/benchmark is a new benchmark.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.benchmarks.sources import PinnedFile
from biaslab.engine.requests import Request, Response
from biaslab.models.base import ModelInfo

if TYPE_CHECKING:
    import pandas as pd


#: Kinds of score that the analysis has an equivalence margin for.
SCORE_KINDS = ("log-odds", "log-prob", "rate")


@dataclass(frozen=True)
class Meta:
    """What a reader must know of a benchmark; stored in every cell and shown in every report.

    score_unit : unit of the item score, e.g. "log-odds", "nats per token", "share".
    score_kind : "log-odds", "log-prob" or "rate"; sets the default equivalence margin of the analysis.
    direction : what a positive score means; None if the benchmark defines none (then only size is spoken of).
    neutral : the score of an unbiased model.
    """

    title: str
    source: str
    licence: str
    score_unit: str
    score_kind: str
    formula: str
    cluster: str
    direction: str | None
    neutral: float = 0.0
    content_warning: bool = False


def wrong_meta(meta: Meta) -> str | None:
    """What is wrong with a Meta, "meta.field=value: what is needed", or None. Types are not checked when it is made."""
    texts = ("title", "source", "licence", "score_unit", "formula", "cluster")
    for name in texts:
        if not isinstance(value := getattr(meta, name), str) or not value.strip():
            return f"meta.{name}={value!r}: a text is needed"
    if meta.score_kind not in SCORE_KINDS:
        return f"meta.score_kind={meta.score_kind!r}: choose one of {', '.join(SCORE_KINDS)}"
    if meta.direction is not None and (not isinstance(meta.direction, str) or not meta.direction.strip()):
        return f"meta.direction={meta.direction!r}: a text is needed, or None where a sign means nothing"
    if isinstance(meta.neutral, bool) or not isinstance(meta.neutral, int | float) or not math.isfinite(meta.neutral):
        return f"meta.neutral={meta.neutral!r}: a number is needed"
    if not isinstance(meta.content_warning, bool):
        return f"meta.content_warning={meta.content_warning!r}: True or False"
    return None


@dataclass(frozen=True)
class Item:
    """One scored unit. `id` is the same for every model, so that items pair across cells.

    truth : the score a perfect learner of the planted corpus would get, NaN where nothing was planted.
    """

    id: str
    cluster: str
    category: str
    group: str
    data: Mapping[str, Any] = field(default_factory=dict)
    truth: float = math.nan


@dataclass(frozen=True)
class Record:
    """One item's result. score is NaN exactly when outcome is "refused", "unparsed" or "too_long"."""

    score: float
    outcome: str
    refused: bool = False
    response: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


#: Outcomes that are no answer; every other outcome is one of the benchmark's own words.
NO_ANSWER = ("refused", "unparsed", "too_long")


@dataclass(frozen=True)
class Metric:
    """A published aggregate of a cell. value is NaN with a `reason` when it cannot be given honestly.

    n : records with an answer that it rests on; n_refused, n_unparsed, n_too_long : those without one.
    null : what a model without bias would get from noise alone (NaN: not a range, so 0 is its own null).
    corrected : the estimate with that noise taken out, in its own unit, with its interval.
    boot_low, boot_high : percentile interval of a cluster bootstrap, for estimates that are not smooth.
    leave_one_out : cluster -> the estimate without that cluster, where the aggregate is no mean of items.
        The delete-cluster jackknife's pseudo-value is h * value - (h - 1) * leave_one_out[cluster], with h = answers /
        answers of the cluster.
    """

    value: float
    ci_low: float = math.nan
    ci_high: float = math.nan
    n: int = 0
    n_clusters: int = 0
    unit: str = ""
    reason: str = ""
    n_refused: int = 0
    n_unparsed: int = 0
    n_too_long: int = 0
    null: float = math.nan
    corrected: float = math.nan
    corrected_low: float = math.nan
    corrected_high: float = math.nan
    boot_low: float = math.nan
    boot_high: float = math.nan
    leave_one_out: Mapping[str, float] = field(default_factory=dict)


#: Values of the field `variant` of a benchmark that comes as published and with its known defects mended.
VARIANTS = ("default", "published")


def check_choice(field: str, value: str, allowed: Sequence[str]) -> str | None:
    """The words of `Benchmark.check` for a value that is not one of `allowed`, else None."""
    return None if value in allowed else f"{field}={value}: choose one of {', '.join(allowed)}"


def decorated(label: str, **changes: str) -> str:
    """A benchmark's label with the fields that were changed (those that are not "").

    >>> decorated("discrim_eval", variant="published", reference="")
    'discrim_eval(variant=published)'
    """
    shown = [f"{field}={value}" for field, value in changes.items() if value]
    return f"{label}({','.join(shown)})" if shown else label


@dataclass
class Benchmark(ABC):
    """Base of every benchmark; subclasses are dataclasses whose fields are their config."""

    name: ClassVar[str]
    version: ClassVar[int]  # goes into a cell's key: raise it when a score would change
    meta: ClassVar[Meta]
    generates: ClassVar[bool] = False  # asks for free text, so that decoding and repeats matter
    prompted: ClassVar[bool] = True  # sends prompts that a format shapes; False: bare sentences alone
    files: ClassVar[tuple[PinnedFile, ...]] = ()  # what must be fetched once

    def label(self) -> str:
        """Its name in results and reports, of letters, digits and ._+=,()- only.

        A benchmark whose config chooses among sets of data shows the choice here, so that two of them
        never mix in one folder of results.
        """
        return self.name

    def identity(self) -> dict[str, Any]:
        """What of the config decides its answers, for a cell's key: all of it, but for paths of files."""
        return dataclasses.asdict(self)

    def check(self) -> str | None:
        """What is wrong with the config, beginning with the field ("file=x: ..."), or None. Reads no data."""
        return None

    def unsupported(self, model: ModelInfo) -> str | None:
        """The reason why this benchmark cannot be asked of this model, or None."""
        return None

    def description(self) -> Meta:
        """`meta` as it is true of this configuration: a variant or other data must not pass for the original."""
        return self.meta

    def data_sha256(self) -> str:
        """Hash of the data behind the items ("" for none): part of a cell's key. Raises DataUnavailable."""
        return ""

    @abstractmethod
    def items(self, model: ModelInfo) -> Sequence[Item]:
        """All items in a fixed order with unique ids; `model` only supplies the planted truth, if any."""

    def references(self, items: Sequence[Item], limit: int | None) -> Sequence[Item]:
        """What must be asked beside `items` because their scores are contrasts with it; no items themselves.

        limit : at most about so many, spread evenly; None for all.
        """
        return ()

    @abstractmethod
    def requests(self, item: Item) -> Sequence[Request]:
        """What is asked of the model for this item (at least one request)."""

    @abstractmethod
    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """The item's record from the responses to its requests, in the same order. Pure."""

    def contrast(self, records: pd.DataFrame) -> pd.DataFrame:
        """The records with scores that need other records' answers filled in; only used with `references`.

        records : as in `metrics`, with a column `reference` that is True for rows of `references`.
        """
        return records

    @abstractmethod
    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Published aggregates of a cell.

        records : columns of biaslab.results.schema.RECORD_COLUMNS, `detail` as dicts, one row per item
            and repeat; rows without an answer have score NaN and are counted, not dropped silently. Rows of
            `references` are among them, marked by a column `reference`.
        """

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """Field values of a configuration that the contract suite can run in seconds."""
        return {}
