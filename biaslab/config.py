"""The typed schema of every config group, and the checks that run before anything heavy is imported.

Each group's dataclass is its schema: a wrong key or type fails while Hydra composes. What Hydra cannot
see (emptiness, ranges, combinations) is in `validate`. A Config is a value: no file, device, clock or
environment stands behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.settings import Settings
from biaslab import accel as accelerators
from biaslab import benchmarks
from biaslab.accel import custom as own_accels
from biaslab.accel.base import Accelerator
from biaslab.accel.stack import check_stack
from biaslab.benchmarks import custom as own_benchmarks
from biaslab.benchmarks.base import Benchmark
from biaslab.errors import ConfigError
from biaslab.launchers import config as launchers
from biaslab.models.custom import own_model
from biaslab.models.embedded.recipes import Organism
from biaslab.models.placement import PlacementConfig
from biaslab.throughput import EfficiencyConfig
from biaslab.tracking.base import TrackerConfig
from biaslab.tracking.custom import own_tracker

#: What may stand in a label that becomes a folder's name.
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,()-]{0,119}")


@dataclass
class ModelConfig:
    """A model: embedded (ships with biaslab), an organism (trained here), a local folder, a hub id at a revision, or
    a class of the user's own.

    name : label in results and reports; empty: the folder's name, the last part of the id, or the class's own.
    trust_remote_code : run Python code that a model repository brings. Off unless you trust it by name.
    organism : which one, where source is organism.
    target, params : the user's class as package.module.Class, and its fields, where source is custom.
    """

    source: str = "hub"
    name: str = ""
    id: str = ""
    revision: str = "main"
    path: str = ""
    trust_remote_code: bool = False
    organism: Organism = field(default_factory=Organism)
    target: str = ""
    # Free-form, and no dict: Hydra would let no key into an empty dict.
    params: Any = None


@dataclass
class EngineConfig:
    """How requests are batched; none of it changes an answer (placebo_batch measures by how much it does).

    batch_tokens : tokens of one forward, padding included. max_batch : sequences of one forward.
    way : "auto" scores the fastest way that is exact for the model; "padded" and "alone" are slower.
    """

    name: str = "batched"
    batch_tokens: int = 4096
    max_batch: int = 128
    padding_side: str = "right"
    way: str = "auto"


@dataclass
class DecodingConfig:
    """How text is generated. `repeats` sampled answers are asked of each item; greedy asks once."""

    mode: str = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    repeats: int = 1


@dataclass
class PromptConfig:
    """chat : apply the model's chat template. system : a system prompt for every prompt that is not bare."""

    chat: bool = False
    system: str = ""


@dataclass
class Config:
    """Everything one job needs: one arm (model, accel stack) and the benchmarks it is asked.

    limit : at most this many items of each benchmark, evenly spaced over it; null: all.
    categories : ask these categories of items alone; empty: all.
    sample : about this many items of each benchmark, drawn by `seed` as whole clusters, in proportion from
        every category; null: all.
    dtype : "auto" is float32 on a CPU and bfloat16 on a GPU, the same for every arm.
    device : auto (a GPU if there is one), cpu, cuda or cuda:N.
    threads : of torch; 0: one for embedded models, torch's own choice for others.
    force : compute complete cells again, as a new attempt beside the old one.
    accel_cache : folder of accelerated weights that are dear to make (calibrated ones), "auto" for
        <outputs>/accel_cache, or "off". accel_cache_gib : its bound; the longest unused are dropped.
    record_prompts : keep the text of what was sent in the records (its hash is always there).
    cell_timeout : seconds after which a cell, or the making of an arm, counts as hung and fails; null: never.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    accel: dict[str, Accelerator] = field(default_factory=dict)
    benchmark: dict[str, Benchmark] = field(default_factory=dict)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    analysis: Settings = field(default_factory=Settings)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    seed: int = 0
    limit: int | None = None
    categories: list[str] = field(default_factory=list)
    sample: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    efficiency: EfficiencyConfig = field(default_factory=EfficiencyConfig)
    threads: int = 0
    outputs: str = "outputs"
    dry_run: bool = False
    force: bool = False
    accel_cache: str = "auto"
    accel_cache_gib: float = 20.0
    record_prompts: bool = False
    cell_timeout: float | None = None


CHOICES = {
    "model.source": ("embedded", "organism", "local", "hub", "custom"),
    "engine.name": ("batched",),
    "engine.padding_side": ("left", "right"),
    "engine.way": ("auto", "padded", "alone"),
    "tracker.name": ("auto", "wandb", "none", "custom"),
    "tracker.mode": ("auto", "online", "offline"),
    "decoding.mode": ("greedy", "sampled"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "placement.attention": ("auto", "eager", "sdpa", "flash_attention_2"),
    "placement.sharding": ("auto", "balanced", "none"),
    "placement.offload": ("none", "cpu", "disk"),
}
#: path -> (test, what is allowed)
RANGES: dict[str, tuple[Any, str]] = {
    "engine.batch_tokens": (lambda v: v >= 1, "at least 1"),
    "engine.max_batch": (lambda v: v >= 1, "at least 1"),
    "decoding.temperature": (lambda v: 0 < v <= 10, "above 0, at most 10"),
    "decoding.top_p": (lambda v: 0 < v <= 1, "above 0, at most 1"),
    "decoding.repeats": (lambda v: 1 <= v <= 1000, "1 to 1000"),
    "seed": (lambda v: 0 <= v < 2**31, "0 to 2147483647"),
    "limit": (lambda v: v is None or v >= 1, "at least 1, or null for all"),
    "sample": (lambda v: v is None or v >= 1, "at least 1, or null for all"),
    "tracker.timeout_s": (lambda v: 0 < v <= 3600, "above 0, at most 3600"),
    "tracker.table_rows": (lambda v: v >= 0, "0 (no table) or more"),
    "tracker.artifact_mib": (lambda v: v >= 0, "0 (no artifact) or more"),
    "efficiency.repeats": (lambda v: 1 <= v <= 1000, "1 to 1000"),
    "efficiency.prompt_tokens": (lambda v: v >= 1, "at least 1"),
    "efficiency.new_tokens": (lambda v: v >= 1, "at least 1"),
    "efficiency.batch": (lambda v: v >= 1, "at least 1"),
    "efficiency.text_tokens": (lambda v: v >= 4, "at least 4"),
    "efficiency.budget_s": (lambda v: v > 0, "above 0"),
    "placement.memory_share": (lambda v: 0 < v <= 1, "above 0, at most 1"),
    "accel_cache": (lambda v: bool(v), "auto, off, or a folder"),
    "accel_cache_gib": (lambda v: v > 0, "above 0 GiB; accel_cache=off switches the cache off"),
    "cell_timeout": (lambda v: v is None or v > 0, "above 0 seconds, or null for no limit"),
    "threads": (lambda v: v >= 0, "0 (automatic) or more"),
    "analysis.alpha": (lambda v: 0 < v < 0.5, "above 0, below 0.5"),
    "analysis.n_resamples": (lambda v: v >= 99, "at least 99"),
    "analysis.coverage": (lambda v: 0 <= v <= 1, "0 to 1"),
    "analysis.perplexity_ratio": (lambda v: v > 1, "above 1"),
    "analysis.margins.log_odds_sd": (lambda v: v > 0, "above 0"),
    "analysis.margins.rate": (lambda v: 0 < v < 1, "above 0, below 1"),
}


def conf_dir() -> Path:
    """The folder of config groups: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def register() -> None:
    """Put every group's schema where Hydra finds it, under the group `schema`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    # Hydra copies it, all schemas in it, for every group that --help lists. A node is copied again when it is loaded.
    ConfigStore.__deepcopy__ = lambda self, memo: self
    store.store("config", node=Config, group="schema")
    for name, node in [("model", ModelConfig), ("engine", EngineConfig), ("tracker", TrackerConfig)]:
        store.store(name, node=node, group="schema")
    store.store("decoding", node=DecodingConfig, group="schema")
    store.store("analysis", node=Settings, group="schema")
    launchers.register()
    for family, cls in accelerators.families().items():
        store.store(family, node=cls, group="schema/accel")
    for name, benchmark in benchmarks.registry().items():
        store.store(name, node=benchmark, group="schema/benchmark")


def to_config(composed: Any) -> Config:
    """The composed DictConfig (without its hydra node) as dataclasses, a user's own classes in their places.

    Raises ConfigError for a missing value, and for a class of the user's that cannot be had.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, Config)
    config.accel = own_accels.resolved(config.accel, accelerators.families())
    config.benchmark = own_benchmarks.resolved(config.benchmark, benchmarks.registry())
    if config.model.source == "custom":
        own_model(config.model.target, config.model.params)
    if config.tracker.name == "custom":
        own_tracker(config.tracker)
    return config


def validate(config: Config) -> None:
    """Raise ConfigError, one line naming the value and what is allowed, for what a schema cannot see."""
    for path, allowed in CHOICES.items():
        if (value := _at(config, path)) not in allowed:
            raise ConfigError(f"{path}={value}: choose one of {', '.join(allowed)}")
    for path, (test, words) in RANGES.items():
        if not test(value := _at(config, path)):
            raise ConfigError(f"{path}={value}: must be {words}")
    _validate_model(config.model)
    _validate_decoding(config.decoding)
    if config.limit is not None and config.sample is not None:
        raise ConfigError(f"limit={config.limit} sample={config.sample}: two ways to take a part; choose one")
    if not config.accel:
        raise ConfigError("accel=[]: name at least one accelerator, or accel=none for the baseline alone")
    if not config.benchmark:
        raise ConfigError("benchmark=[]: name at least one benchmark (python -m biaslab list)")
    for name, accel in config.accel.items():
        if (problem := accel.check()) is not None:
            raise ConfigError(f"accel.{name}.{problem}")
    for name, benchmark in config.benchmark.items():
        if (problem := benchmark.check()) is not None:
            raise ConfigError(f"benchmark.{name}.{problem}")
        if not LABEL.fullmatch(benchmark.label()):
            raise ConfigError(f"benchmark.{name}: label {benchmark.label()!r} needs letters, digits and ._+=,()- only")
    if (reason := check_stack(config.accel)) is not None:
        raise ConfigError(f"accel=[{','.join(config.accel)}]: {reason}")


def _validate_model(model: ModelConfig) -> None:
    if model.target and model.source != "custom":
        raise ConfigError(f"model.target={model.target}: a class of your own needs model=custom")
    if model.source == "organism":
        if (problem := model.organism.check()) is not None:
            raise ConfigError(f"model.organism.{problem}")
        if model.name:
            raise ConfigError(f"model.name={model.name}: an organism's name says what it is; leave model.name out")
        return
    needed = {"embedded": "name", "local": "path", "hub": "id", "custom": "target"}[model.source]
    if not getattr(model, needed):
        raise ConfigError(f"model.{needed}=: model.source={model.source} needs model.{needed}=...")
    if model.name and not LABEL.fullmatch(model.name):
        raise ConfigError(f"model.name={model.name!r}: letters, digits and ._+=,()- only, at most 120")


def _validate_decoding(decoding: DecodingConfig) -> None:
    if decoding.mode == "greedy" and decoding.repeats != 1:
        raise ConfigError(
            f"decoding.repeats={decoding.repeats}: greedy decoding gives the same answer every time; "
            "use decoding.mode=sampled or decoding.repeats=1"
        )


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


def register_resolvers() -> None:
    """`${sweep_id:}`: a folder name for one typed line, the time and four random digits."""
    import secrets
    from datetime import datetime

    from omegaconf import OmegaConf

    def sweep_id() -> str:
        return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"

    OmegaConf.register_new_resolver("sweep_id", sweep_id, use_cache=True, replace=True)
