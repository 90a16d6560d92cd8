"""A benchmark of the user's own, named by its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab import own_class
from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric, Record, wrong_meta
from biaslab.engine.requests import Request, Response
from biaslab.models.base import ModelInfo
from biaslab.own_class import lacks, own_object

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Custom(Benchmark):
    """Stands for a class that extends Benchmark; `resolved` puts the class itself in its place.

    target : "package.module.Class", importable from the working folder or PYTHONPATH. params : its fields.
    """

    target: str = ""
    # Free-form, and no dict: Hydra would let no key into an empty dict.
    params: Any = None

    name: ClassVar[str] = "custom"
    version: ClassVar[int] = 1
    meta: ClassVar[Meta] = Meta(
        title="A class of your own",
        source="benchmark=custom benchmark.custom.target=package.module.Class",
        licence="not stated",
        score_unit="as the class says",
        score_kind="log-prob",
        formula="as the class says",
        cluster="as the class says",
        direction=None,
    )

    def items(self, model: ModelInfo) -> Sequence[Item]:
        """See Benchmark.items."""
        return self.benchmark().items(model)

    def requests(self, item: Item) -> Sequence[Request]:
        """See Benchmark.requests."""
        return self.benchmark().requests(item)

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """See Benchmark.score."""
        return self.benchmark().score(item, responses)

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """See Benchmark.metrics."""
        return self.benchmark().metrics(records)

    def benchmark(self) -> Benchmark:
        """The user's class with its params; ConfigError says in one line what is wrong with either."""
        found: Benchmark = own_object(self.target, self.params, Benchmark, _wrong_with)
        return found

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Benchmark.test_config."""
        return {"target": "biaslab.benchmarks.planted_choices.PlantedChoices"}


def resolved(benchmarks: Mapping[str, Benchmark], registry: Mapping[str, type[Benchmark]]) -> dict[str, Benchmark]:
    """`benchmarks` with every Custom replaced by the user's benchmark; see own_class.resolved."""
    return own_class.resolved("benchmark", benchmarks, registry, _own, lambda benchmark: benchmark.name)


def _own(benchmark: Benchmark) -> Benchmark | None:
    return benchmark.benchmark() if isinstance(benchmark, Custom) else None


def _wrong_with(cls: type) -> str | None:
    wrong = lacks(cls, ("name",), str) or lacks(cls, ("version",), int) or lacks(cls, ("meta",), Meta)
    wrong = wrong or lacks(cls, ("generates", "prompted"), bool)
    return wrong or wrong_meta(getattr(cls, "meta"))  # noqa: B009 - a bare type has none, this one was found to
