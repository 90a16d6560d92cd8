"""A user's own sentence pairs: which of two sentences does the model find more likely?

benchmark=pairs benchmark.pairs.file=my.csv, a row a pair: `more` is the stereotyping or disadvantaging
sentence, `less` its counterpart; names of columns are mapped by benchmark.pairs.columns. The bare sentences
are scored, after the text of `context` where the file has that column.

Item score: log p(more) - log p(less); estimate=mean per scored token, estimate=sum in all. As with any
sentence pairs (Blodgett et al. 2021, doi:10.18653/v1/2021.acl-long.81), a difference in a word's frequency is
a difference in the score: read shifts between cells of one model rather than the level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.benchmarks.base import Item, Meta, Metric, Record, check_choice
from biaslab.benchmarks.own_data import Columns, OwnData, Reader, by_part, example, mean_of
from biaslab.benchmarks.own_table import Row, plain
from biaslab.benchmarks.planted import direction
from biaslab.engine.requests import LogLikelihood, LogLikelihoodResponse, Prompt, Request, Response

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"mean": "nats per token", "sum": "nats"}


@dataclass
class PairColumns(Columns):
    """more, less : the two sentences. context : a text before both; null: the column of that name, if any."""

    more: str = "more"
    less: str = "less"
    context: str | None = None


@dataclass
class Pairs(OwnData):
    """Sentence pairs of your own file. estimate : "mean" log p per token, or "sum"."""

    columns: PairColumns = field(default_factory=PairColumns)
    estimate: str = "mean"

    name: ClassVar[str] = "pairs"
    kind: ClassVar[str] = "sentence pairs"
    version: ClassVar[int] = 1
    prompted: ClassVar[bool] = False
    meta: ClassVar[Meta] = Meta(
        title="Your own sentence pairs",
        source="a csv, jsonl or parquet file of yours (benchmark.pairs.file)",
        licence="not stated",
        score_unit="nats per token",
        score_kind="log-prob",
        formula="log p of the first sentence minus that of the second, each the mean per token",
        cluster="as the file says, else the pair",
        direction="positive: the sentence named `more` is more likely",
    )

    def check(self) -> str | None:
        """A missing file name, a kind of file that is not read, or an unknown estimate."""
        return super().check() or check_choice("estimate", self.estimate, tuple(UNITS))

    def description(self) -> Meta:
        """With the unit of the chosen estimate."""
        meta = super().description()
        if self.estimate == "mean":
            return meta
        return replace(meta, score_unit=UNITS["sum"], formula="log p of the first sentence minus that of the second")

    def item_data(self, reader: Reader, row: Row) -> dict[str, Any]:
        """Two different sentences and the text before them."""
        more, less = reader.text(row, "more"), reader.text(row, "less")
        if plain(more) == plain(less):
            seen = "" if more == less else "; they differ in blanks, or in how a letter is coded, alone"
            raise reader.fail(row, f"{self.columns.more!r} and {self.columns.less!r} are the same sentence{seen}")
        return {"sentences": (more, less), "context": reader.optional(row, "context") or ""}

    def requests(self, item: Item) -> Sequence[Request]:
        """Both bare sentences, `more` first."""
        context, sentences = item.data["context"], item.data["sentences"]
        blank = " " if context else ""
        prompt = Prompt(user=context, bare=True)
        return [LogLikelihood(prompt, f"{blank}{sentence}") for sentence in sentences]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """Difference of log p; outcome "stereotyped", "reversed" or "tie"."""
        values = []
        for response in responses:
            assert isinstance(response, LogLikelihoodResponse)
            if response.too_long:
                return Record(math.nan, "too_long")
            values.append((response.logprob_mean, response.logprob_sum))
        mean, total = (values[0][k] - values[1][k] for k in (0, 1))
        score = mean if self.estimate == "mean" else total
        return Record(score, direction(score), detail={"mean": mean, "sum": total})

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Mean score and the share preferring `more` in percent (50 is neutral), by category and group."""
        return by_part(records, self._scores)

    def _scores(self, records: pd.DataFrame) -> dict[str, Metric]:
        score = records["score"]
        share = (score > 0).astype(float).where(score.notna()) * 100  # a tie prefers neither
        return {
            "mean_score": mean_of(records, score, UNITS[self.estimate]),
            "pct_prefers_more": mean_of(records, share, "%"),
        }

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """The example that ships with the package."""
        return {"file": example("pairs.csv")}
