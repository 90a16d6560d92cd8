"""A benchmark of the user's own, named by its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric, Record
from biaslab.engine.requests import Request, Response
from biaslab.errors import ConfigError
from biaslab.models.base import ModelInfo
from biaslab.own_class import check_words, lacks, made, own_class

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

    def check(self) -> str | None:
        """See Benchmark.check; nothing is imported."""
        return check_words(self.target, self.params)

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
        found: Benchmark = made(own_class(self.target, Benchmark, _wrong_with), self.params)
        if (problem := found.check()) is not None:
            raise ConfigError(f"params.{problem}")
        return found

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Benchmark.test_config."""
        return {"target": "biaslab.benchmarks.planted_choices.PlantedChoices"}


def resolved(benchmarks: Mapping[str, Benchmark], registry: Mapping[str, type[Benchmark]]) -> dict[str, Benchmark]:
    """`benchmarks` with every Custom replaced by the user's benchmark; "custom" itself is renamed to its name.

    So a label names what was asked, not how it was chosen. Raises ConfigError as `Custom.benchmark` does,
    and where a user's benchmark has the name of one that ships with biaslab.
    """
    done: dict[str, Benchmark] = {}
    for name, benchmark in benchmarks.items():
        if isinstance(benchmark, Custom):
            if (problem := benchmark.check()) is not None:
                raise ConfigError(f"benchmark.{name}.{problem}")
            try:
                benchmark = benchmark.benchmark()
            except ConfigError as error:
                raise ConfigError(f"benchmark.{name}.{error}") from error
            if benchmark.name in registry and registry[benchmark.name] is not type(benchmark):
                raise ConfigError(f"benchmark.{name}: name {benchmark.name!r} is taken by biaslab; choose another")
            name = benchmark.name if name == "custom" else name
        if name in done:
            raise ConfigError(f"benchmark={name}: named twice")
        done[name] = benchmark
    return done


def _wrong_with(cls: type) -> str | None:
    return lacks(cls, ("name",), str) or lacks(cls, ("version",), int) or lacks(cls, ("meta",), Meta)
