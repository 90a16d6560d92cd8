"""What a job will do, known before any weights are loaded: its model, its arm, its cells and their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biaslab.accel.base import Accelerator
from biaslab.accel.custom import Custom
from biaslab.accel.stack import label
from biaslab.benchmarks.returned import check_class, items_of, requests_of
from biaslab.cell import CellSpec, cell_spec, select
from biaslab.config import LABEL, Config, ModelConfig
from biaslab.errors import ConfigError, Unsupported
from biaslab.models.base import ModelInfo
from biaslab.models.custom import describe_custom, own_label, own_model
from biaslab.models.embedded.organisms import describe_organism
from biaslab.models.loading import describe_embedded, describe_hub, describe_local
from biaslab.models.placement import Placement, decide, machine
from biaslab.own_class import is_own


@dataclass(frozen=True)
class JobPlan:
    """One arm and its cells.

    accels : the stack in order, empty for the baseline.
    baseline : baseline cells this arm is compared with (empty when the arm is the baseline itself).
    cells : the arm's own cells, one a benchmark.
    """

    config: Config
    info: ModelInfo
    placement: Placement
    label: str
    accels: Mapping[str, Accelerator]
    baseline: tuple[CellSpec, ...]
    cells: tuple[CellSpec, ...]

    @property
    def device(self) -> str:
        """Where the model is computed."""
        return self.placement.device

    @property
    def dtype(self) -> str:
        """What it is computed in."""
        return self.placement.dtype

    @property
    def results(self) -> Path:
        """The results folder the job writes to."""
        return Path(self.config.outputs) / "results"

    @property
    def accel_cache(self) -> Path | None:
        """The folder of accelerated weights, None where there shall be none."""
        given = self.config.accel_cache
        if given == "off":
            return None
        return Path(self.config.outputs) / "accel_cache" if given == "auto" else Path(given).expanduser()


def make_plan(
    config: Config,
    defaults: Mapping[str, Accelerator],
    described: Callable[[ModelConfig], ModelInfo] | None = None,
    identified: Callable[[Accelerator, ModelInfo], Mapping[str, Any]] | None = None,
) -> JobPlan:
    """The plan of a validated config.

    defaults : each accelerator as its YAML gives it, so that a label can show what was changed.
    described, identified : `describe` and `identify`, or ones that remember what they said.
    Raises ConfigError, Unsupported, DataUnavailable or DataMismatch; no weights are read into memory.
    """
    info = (described or describe)(config.model)
    accels = {name: accel for name, accel in config.accel.items() if accel.kind != "baseline"}
    placement = _place(config, info, accels)
    _check_supported(config, info, placement, accels)
    text = label(accels, defaults)
    if not LABEL.fullmatch(text):
        raise ConfigError(f"accel label {text!r}: give the changed values a shorter form, at most 120 characters")
    base = tuple(cell_spec(config, info, "none", (), name, placement.dtype) for name in config.benchmark)
    if config.categories:
        _check_categories(base, config, info)
    if not accels:
        return JobPlan(config, info, placement, text, accels, (), base)
    steps = [(identified or identify)(accel, info) for accel in accels.values()]
    cells = tuple(cell_spec(config, info, text, steps, name, placement.dtype) for name in config.benchmark)
    return JobPlan(config, info, placement, text, accels, base, cells)


def describe(model: ModelConfig, *, dry_run: bool = False) -> ModelInfo:
    """What is known of a model without loading it; ConfigError or DataUnavailable in one line.

    dry_run : an organism that is not there yet is not trained. (A user's own model is loaded: nothing is known before.)
    """
    if model.source == "organism":
        return describe_organism(model.organism, dry_run=dry_run)
    if model.source == "embedded":
        return describe_embedded(model.name)
    trust = model.trust_remote_code
    if model.source == "custom":
        return describe_custom(model.target, model.params, model.name, trust_remote_code=trust)
    if model.source == "local":
        return describe_local(model.path, model.name, trust_remote_code=trust)
    return describe_hub(model.id, model.revision, model.name, trust_remote_code=trust)


def asked_label(model: ModelConfig) -> str:
    """What a model that cannot be described is called where it is said to be refused."""
    if model.source == "custom":
        return own_label(own_model(model.target, model.params), model.name)
    return model.name or model.id or model.path or model.organism.label


def identify(accel: Accelerator, info: ModelInfo) -> Mapping[str, Any]:
    """What an accelerator is to a cell's key; ConfigError if what it calibrates on cannot be read."""
    return accel.identity(info)


def yaml_default(choice: str, accel: Accelerator) -> Accelerator:
    """`accel`'s class with the values of its group file conf/accel/<choice>.yaml, found as Hydra finds it."""
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    loader: Any = GlobalHydra.instance().config_loader()
    found = loader.repository.load_config(f"accel/{choice}")
    values = OmegaConf.create({}) if found is None else found.config
    if "target" in values:  # a user's own class, named in a file
        named: Any = OmegaConf.to_container(values)
        return Custom(named["target"], named.get("params")).accelerator()
    merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(type(accel)), values))
    assert isinstance(merged, Accelerator)
    return merged


def check_own_benchmarks(plans: Iterable[JobPlan]) -> None:
    """Ask each benchmark of the user's own everything but its scores. Raises ConfigError for what it gets wrong.

    A class that generates and does not say so would be asked greedily, whatever decoding was typed.
    """
    seen = set()
    for plan in plans:
        config = plan.config
        part = (config.limit, config.sample, tuple(config.categories), config.seed)
        for spec in plan.cells:
            benchmark, info = spec.benchmark, plan.info
            key = (type(benchmark), repr(benchmark), info.identity, part)
            if not is_own(type(benchmark)) or key in seen:
                continue
            seen.add(key)
            own, beside = select(spec, config, info)
            asked = [requests_of(benchmark, item) for item in (*own, *beside)]
            check_class(benchmark, asked, whole=len(own) == len(items_of(benchmark, info)))


def _check_categories(specs: Sequence[CellSpec], config: Config, info: ModelInfo) -> None:
    """Every benchmark has items in `categories`, and every category is in one of them."""
    there: set[str] = set()
    for spec in specs:
        select(spec, config, info)
        there |= {item.category for item in spec.benchmark.items(info)}
    if unknown := sorted(set(config.categories) - there):
        raise ConfigError(f"categories=[{','.join(unknown)}]: no such items; there are {', '.join(sorted(there))}")


def _place(config: Config, info: ModelInfo, accels: Mapping[str, Accelerator]) -> Placement:
    packed = any(accel.load_kwargs() for accel in accels.values())
    return decide(
        replace(config.placement, offload_dir=config.placement.offload_dir or str(Path(config.outputs) / "offload")),
        device=config.device,
        dtype=config.dtype,
        weights=info.weights,
        machine=machine(),
        name=f"model={info.label}",
        loads_packed=packed,
    )


def _check_supported(config: Config, info: ModelInfo, placement: Placement, accels: Mapping[str, Accelerator]) -> None:
    device = placement.device
    for name, benchmark in config.benchmark.items():
        if (reason := benchmark.unsupported(info)) is not None:
            raise Unsupported(f"benchmark={name} on model={info.label}: {reason}")
    names = list(accels)
    for i, name in enumerate(names):
        for later in names[i + 1 :]:
            if (reason := accels[name].refuses(accels[later])) is not None:
                raise Unsupported(f"accel=[{','.join(names)}]: {reason}; leave out {later}")
    for name, accel in accels.items():
        if (reason := accel.unsupported(info, device.split(":")[0])) is not None:
            raise Unsupported(f"accel={name} on model={info.label} ({device}): {reason}")
        if placement.offload != "none" and accel.kind in ("pruner", "quantizer"):
            raise Unsupported(
                f"accel={name} on model={info.label}: it changes weights, and some of them wait in "
                f"{placement.offload} (placement.offload); run it where the model fits, accel=none and kv* work here"
            )
