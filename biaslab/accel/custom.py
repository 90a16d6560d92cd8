"""An accelerator of the user's own, named by its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.errors import ConfigError
from biaslab.models.base import LoadedModel, ModelInfo
from biaslab.own_class import check_words, lacks, made, own_class

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
        return check_words(self.target, self.params)

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        return self.accelerator().unsupported(model, device) if self.target else None

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply."""
        return self.accelerator().apply(model, name)

    def accelerator(self) -> Accelerator:
        """The user's class with its params; ConfigError says in one line what is wrong with either."""
        accel: Accelerator = made(own_class(self.target, Accelerator, _wrong_with), self.params)
        if (problem := accel.check()) is not None:
            raise ConfigError(f"params.{problem}")
        return accel

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"target": "biaslab.accel.magnitude.Magnitude", "params": {"sparsity": 0.25}}


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


def _wrong_with(cls: type) -> str | None:
    if (wrong := lacks(cls, ("family", "kind", "summary"), str)) is not None:
        return wrong
    kind = str(getattr(cls, "kind", ""))
    return None if kind in KINDS else f"kind={kind!r}: one of {', '.join(KINDS)}"
