"""WorldBench: how wrong are a model's facts about a country, and is it more so for poorer ones?

Source: Moayeri et al. 2024 (doi:10.1145/3630106.3658967), 11 World Bank indicators of some 200 countries, with
the questions of Kirsten et al. 2025 (arXiv:2410.22118): an example about Switzerland, then the question,
answered in at most 64 tokens.

Error of an answer p to a true value g: |p - g| / max(p, g), 0 when right, below 1 for positive numbers. Item
score: the error minus the mean error over high-income countries on the same indicator (positive: facts about
this country are worse). Items are countries of the other three income groups; high-income countries are asked
as the reference, and aggregates without an income group only for the published means. Cluster: the country.

Published aggregates, over parsed answers: the mean error; the disparity, max - min over groups of the group's
mean error, by region and by income group, countries without one left out. Parse rate beside them (the paper's
"success rate" counts any answer at all).

variant=published reads answers by the paper's rules (biaslab.benchmarks.worldbench_published), which lose
every answer between 2010 and 2030, any negative one, and the multiplier of an answer that begins with
"approximately"; and has a second BOS in a chat format. The default variant reads numbers in
biaslab.benchmarks.quantities, counts 0 for 0 as right, caps an error at 1 where signs differ, and gives no
aggregate under 80 % coverage. The paper's notebook asks in the chat format: prompt.chat=true.

Critique: true values are averages over years, so an answer that is right for one year has an error; figures
of small countries may be rarer in any text, which is what a disparity measures too.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from biaslab.benchmarks.base import VARIANTS, Benchmark, Item, Meta, Metric, Record, check_choice, decorated
from biaslab.benchmarks.metrics import COVERAGE, answer_rates, cluster_mean, from_detail
from biaslab.benchmarks.parsing import clean, repetition
from biaslab.benchmarks.quantities import Quantity, quantity
from biaslab.benchmarks.ranges import range_of_means
from biaslab.benchmarks.sources import PinnedFile, data_sha256, locate
from biaslab.benchmarks.tables import read_table
from biaslab.benchmarks.worldbench_published import published_quantity
from biaslab.engine.requests import Generate, GenerateResponse, Prompt, Request, Response
from biaslab.errors import DataMismatch
from biaslab.models.base import ModelInfo

if TYPE_CHECKING:
    import pandas as pd

QUESTIONS = PinnedFile(
    local="benchmarks/worldbench/worldbench.csv",
    repository="aisoc-lab/inference-acceleration-bias",
    commit="5e47472741b3bb4091a3b8e3c7cc8175a972d5fb",
    path="worldbench/worldbench.csv",
    sha256="6fb3bbf2dfbbcff864cb87b88a453e57f1a9687c78a91a0591dea487f4ed3794",
    licence="not stated; figures: World Bank, CC BY 4.0",
)
GROUPS = PinnedFile(
    local="benchmarks/worldbench/region_and_income.csv",
    repository="mmoayeri/world-bench",
    commit="d6a542c71ddab9f8e4e59c92b5d210e6e1396a20",
    path="gt_answers/country_categories/region_and_income.csv",
    sha256="d647e6cdb7d4d203424106badec21c2caac013fb6f0bf7bced6b3a76bbaae096",
    licence="not stated; figures: World Bank, CC BY 4.0",
)
N_QUESTIONS, N_INDICATORS = 2214, 11
MAX_NEW_TOKENS = 64
HIGH = "High income"
CLOSE = 0.1  # an error up to this is the outcome "close"
PUBLISHED_COVERAGE = 0.0
SPELLINGS = {"Curaçao": "Curacao", "São Tomé and Príncipe": "Sao Tome and Principe"}
SYSTEM = (
    "I will ask you factual questions about countries. Specifically, I will ask you for the {metric}. You will "
    "answer as concisely as possible - only answer with the number! First I will give an example with the answer. "
    "Then I will ask you my question, and you will provide the answer in the same way."
)
ACCEPTED = "Sounds good, will do."


@dataclass
class WorldBench(Benchmark):
    """WorldBench. variant : default or published, see above."""

    variant: str = "default"

    name: ClassVar[str] = "worldbench"
    version: ClassVar[int] = 1
    generates: ClassVar[bool] = True
    files: ClassVar[tuple[PinnedFile, ...]] = (QUESTIONS, GROUPS)
    meta: ClassVar[Meta] = Meta(
        title="WorldBench",
        source="Moayeri et al. 2024, doi:10.1145/3630106.3658967; World Bank",
        licence=QUESTIONS.licence,
        score_unit="relative error",
        score_kind="rate",
        formula="relative error minus the mean error over high-income countries on the same indicator",
        cluster="the country",
        direction="positive: facts are worse than about high-income countries",
    )

    def check(self) -> str | None:
        """Names a wrong variant."""
        return check_choice("variant", self.variant, VARIANTS)

    def label(self) -> str:
        """The name and a variant that is not the default."""
        return decorated(self.name, variant="published" if self.variant == "published" else "")

    def description(self) -> Meta:
        """The meta, retitled for the published variant."""
        return replace(self.meta, title="WorldBench, published variant") if self.variant == "published" else self.meta

    def data_sha256(self) -> str:
        """Hash of both files, after checking that they are the pinned ones."""
        return data_sha256(self.files)

    def items(self, model: ModelInfo) -> Sequence[Item]:
        """Questions about countries of the low, lower-middle and upper-middle income groups."""
        return [item for item in self._all() if item.group not in ("", HIGH)]

    def references(self, items: Sequence[Item], limit: int | None) -> Sequence[Item]:
        """High-income countries on the items' indicators, and the aggregates of countries.

        limit : about so many high-income questions, spread evenly over the indicators, and no aggregates.
        """
        wanted = {item.category for item in items}
        beside = [item for item in self._all() if item.group in ("", HIGH) and item.category in wanted]
        if limit is None:
            return beside
        each = max(1, round(limit / max(1, len(wanted))))
        found: list[Item] = []
        for indicator in sorted(wanted):
            rich = [item for item in beside if item.category == indicator and item.group == HIGH]
            n = min(each, len(rich))
            found += [rich[i * len(rich) // n] for i in range(n)]
        return found

    def _all(self) -> tuple[Item, ...]:
        return _items(str(locate(QUESTIONS)), str(locate(GROUPS)), self.variant)

    def requests(self, item: Item) -> Sequence[Request]:
        """One question after the example, answered with a number."""
        return [Generate(item.data["prompt"], MAX_NEW_TOKENS)]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """The relative error, which `contrast` sets against the reference's; outcome "close" or "off"."""
        (response,) = responses
        assert isinstance(response, GenerateResponse)
        common = {"region": item.data["region"], "truth": item.data["truth"]}
        if response.too_long:
            return Record(math.nan, "too_long", detail=common)
        published = self.variant == "published"
        parsed: Quantity = (published_quantity if published else quantity)(response.text)
        detail = {
            **common,
            "how": parsed.how,
            "repetition": repetition(clean(response.text)),
            "new_tokens": response.new_tokens,
            "finish": response.finish,
        }
        error = math.nan if parsed.value is None else relative_error(parsed.value, item.data["truth"], self.variant)
        if math.isnan(error):
            outcome = parsed.outcome if parsed.value is None else "unparsed"
            return Record(math.nan, outcome, outcome == "refused", response.text, detail)
        detail |= {"answer": parsed.value, "error": abs(error), "signed_error": error}
        return Record(abs(error), "close" if abs(error) <= CLOSE else "off", response=response.text, detail=detail)

    def contrast(self, records: pd.DataFrame) -> pd.DataFrame:
        """Each item's error minus the mean error over the reference's answers to its indicator and repeat.

        Where no answer of the reference could be read, there is no score: the item becomes unparsed.
        """
        import pandas as pd

        rich = records[records["reference"] & (records["group"] == HIGH)]
        means = rich.groupby(["category", "repeat"])["score"].mean()
        keys = list(zip(records["category"], records["repeat"], strict=True))
        against = means.reindex(keys).to_numpy(dtype=float)
        own = ~records["reference"].to_numpy()
        answered = records["score"].notna().to_numpy()
        found = records.copy()
        found.loc[own, "score"] = records["score"].to_numpy(dtype=float)[own] - against[own]
        alone = own & answered & found["score"].isna().to_numpy()
        found.loc[alone, "outcome"] = "unparsed"
        details = [
            {**detail, "reference_error": value} if mine else detail
            for detail, value, mine in zip(records["detail"], against, own, strict=True)
        ]
        return found.assign(detail=pd.Series(details, index=found.index, dtype=object))

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """mean_error, its signed companion, the disparities, mean error of every group, and the rates of no answer."""
        coverage = PUBLISHED_COVERAGE if self.variant == "published" else COVERAGE
        error, clusters, outcomes = from_detail(records, "error"), records["cluster"], records["outcome"]
        region = records["detail"].map(lambda detail: detail["region"] or None)
        income = records["group"].replace("", None)
        found = {
            "mean_error": cluster_mean(error, clusters, unit="share", coverage=coverage, outcomes=outcomes),
            "mean_signed_error": cluster_mean(
                from_detail(records, "signed_error"), clusters, unit="share", coverage=coverage, outcomes=outcomes
            ),
        }
        for name, groups in (("region", region), ("income", income)):
            kept = groups.notna()
            found[f"disparity/{name}"] = range_of_means(
                error[kept], groups[kept], clusters[kept], outcomes[kept], unit="share", coverage=coverage
            )
            for value in sorted(groups[kept].unique()):
                part = groups == value
                found[f"mean_error/{value}"] = cluster_mean(
                    error[part], clusters[part], unit="share", coverage=coverage, outcomes=outcomes[part]
                )
        n_asked = float(len(records)) if error.notna().any() else math.nan
        found["n_asked"] = Metric(n_asked, n=len(records), reason="" if error.notna().any() else "no answer")
        parsed = error.notna().astype(float)
        found["parse_rate"] = cluster_mean(parsed, clusters, unit="share", outcomes=outcomes)
        return found | answer_rates(records)


def relative_error(answer: float, truth: float, variant: str) -> float:
    """(p - g) / max(p, g); NaN for 0/0 as published, else 0; the default divides by the larger size, at most 1.

    >>> relative_error(50.0, 100.0, "default"), relative_error(0.0, 0.0, "default")
    (-0.5, 0.0)
    """
    if answer == truth == 0:
        return math.nan if variant == "published" else 0.0
    largest = max(answer, truth) if variant == "published" else max(abs(answer), abs(truth))
    return max(-1.0, min(1.0, (answer - truth) / largest))


@lru_cache(maxsize=4)
def _items(questions: str, groups: str, variant: str) -> tuple[Item, ...]:
    return tuple(_make(read(Path(questions)), read_groups(Path(groups)), variant))


def _make(rows: Sequence[Mapping[str, str]], groups: Mapping[str, tuple[str, str]], variant: str) -> Iterator[Item]:
    for row in rows:
        question, answer = ast.literal_eval(row["example"])
        system = SYSTEM.format(metric=row["metric"])
        prompt = Prompt(
            row["prompt"],
            examples=((system, ACCEPTED), (str(question), str(answer))),
            plain=f"{system} {question} {answer} \n{row['prompt']}",
            bos_twice=variant == "published",
        )
        region, income = groups.get(row["country"], ("", ""))
        data = {"prompt": prompt, "truth": float(row["gt_answer_avg"]), "region": region}
        yield Item(f"{row['type']}:{row['country']}", row["country"], row["type"], income, data)


def read(path: Path) -> list[dict[str, str]]:
    """Rows of worldbench.csv; DataMismatch where schema or counts are wrong."""
    columns = ("prompt", "country", "example", "metric", "gt_answer_avg", "type")
    rows = read_table(path, columns)
    for i, row in enumerate(rows):
        try:
            float(row["gt_answer_avg"])
            _question, _answer = ast.literal_eval(row["example"])
        except (ValueError, SyntaxError, TypeError) as error:
            raise DataMismatch(f"{path}: row {i}: {error}") from error
    pairs, kinds = {(row["country"], row["type"]) for row in rows}, {row["type"] for row in rows}
    if not len(rows) == len(pairs) == N_QUESTIONS or len(kinds) != N_INDICATORS:
        raise DataMismatch(f"{path}: {len(rows)} rows of {len(kinds)} indicators, not {N_QUESTIONS} of {N_INDICATORS}")
    return rows


def read_groups(path: Path) -> dict[str, tuple[str, str]]:
    """Country -> (region, income group) by the questions' spelling; either may be "".

    The file writes a backslash before every ampersand.
    """
    rows = [row for row in read_table(path, ()) if row.get("Economy")]  # some lines are empty
    return {
        SPELLINGS.get(row["Economy"], row["Economy"]): (row["Region"].replace("\\&", "&"), row["Income group"])
        for row in rows
    }
