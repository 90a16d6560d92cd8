"""An accelerator of the user's own, named by its class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.errors import ConfigError
from biaslab.models.base import LoadedModel, ModelInfo

KINDS = ("pruner", "quantizer", "cache", "placebo")


@dataclass
class Custom(Accelerator):
    """Stands for a class that extends Accelerator; `resolved` puts the class itself in its place.

    target : "package.module.Class", importable from the working folder or PYTHONPATH. params : its fields.
    """

    target: str = ""
    # Free-form, and no dict: Hydra would let no key into an empty dict.
    params: Any = None

    family: ClassVar[str] = "custom"
    kind: ClassVar[str] = "custom"
    summary: ClassVar[str] = "a class of your own: accel=custom accel.custom.target=package.module.Class"

    def check(self) -> str | None:
        """See Accelerator.check; nothing is imported."""
        if not self.target.rpartition(".")[0]:
            return f"target={self.target}: name a class as package.module.Class"
        if self.params is not None and not isinstance(self.params, Mapping):
            return f"params={self.params}: write {{field: value, ...}}"
        return None

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        return self.accelerator().unsupported(model, device) if self.target else None

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply."""
        return self.accelerator().apply(model, name)

    def accelerator(self) -> Accelerator:
        """The user's class with its params; ConfigError says in one line what is wrong with either."""
        cls, params = self._class(), dict(self.params or {})
        allowed = [f.name for f in fields(cls)]
        if unknown := sorted(set(params) - set(allowed)):
            has = f"has {', '.join(allowed)}" if allowed else "has no fields"
            raise ConfigError(f"params.{unknown[0]}: no such field; {cls.__name__} {has}")
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), params))
        except OmegaConfBaseException as error:
            raise ConfigError(f"params.{error.full_key}: {str(error).splitlines()[0]}") from error
        assert isinstance(made, Accelerator)
        if (problem := made.check()) is not None:
            raise ConfigError(f"params.{problem}")
        return made

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"target": "biaslab.accel.magnitude.Magnitude", "params": {"sparsity": 0.25}}

    def _class(self) -> type[Accelerator]:
        module_name, _, name = self.target.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"target={self.target}: no module {error.name}; it is looked for in the working folder and PYTHONPATH"
            ) from error
        except Exception as error:  # the user's own code
            raise ConfigError(f"target={self.target}: importing it failed ({type(error).__name__}: {error})") from error
        found = getattr(module, name, None)
        if found is None:
            there = sorted(n for n, c in vars(module).items() if _is_accelerator(c) and c.__module__ == module_name)
            raise ConfigError(f"target={self.target}: {module_name} has no {name}; its accelerators: {there or 'none'}")
        if (wrong := _wrong_with(found)) is not None:
            raise ConfigError(f"target={self.target}: {wrong}")
        assert isinstance(found, type)
        return found


def resolved(accels: Mapping[str, Accelerator], families: Mapping[str, type[Accelerator]]) -> dict[str, Accelerator]:
    """`accels` with every Custom replaced by the user's accelerator; "custom" itself is renamed to its family.

    So a label names what was done, not how it was asked for. Raises ConfigError as `Custom.accelerator` does,
    and where a user's family has the name of one that ships with biaslab.
    """
    done: dict[str, Accelerator] = {}
    for name, accel in accels.items():
        if isinstance(accel, Custom):
            if (problem := accel.check()) is not None:
                raise ConfigError(f"accel.{name}.{problem}")
            try:
                accel = accel.accelerator()
            except ConfigError as error:
                raise ConfigError(f"accel.{name}.{error}") from error
            if accel.family in families and families[accel.family] is not type(accel):
                raise ConfigError(f"accel.{name}: family {accel.family!r} is taken by biaslab; choose another name")
            name = accel.family if name == "custom" else name
        if name in done:
            raise ConfigError(f"accel={name}: named twice in one stack")
        done[name] = accel
    return done


def _is_accelerator(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Accelerator)


def _wrong_with(found: Any) -> str | None:
    if not _is_accelerator(found):
        return "it does not extend biaslab.accel.base.Accelerator"
    if inspect.isabstract(found):
        return f"it lacks {', '.join(sorted(found.__abstractmethods__))}"
    if not is_dataclass(found) or "__dataclass_fields__" not in vars(found):
        return "it is no dataclass; put @dataclass above it, its fields are its config"
    absent = [name for name in ("family", "kind", "summary") if not isinstance(getattr(found, name, None), str)]
    if absent:
        return f"it lacks the class attributes {', '.join(absent)} (strings)"
    kind = str(getattr(found, "kind", ""))
    return None if kind in KINDS else f"kind={kind!r}: one of {', '.join(KINDS)}"
