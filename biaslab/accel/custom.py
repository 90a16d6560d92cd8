"""An accelerator of the user's own, named by its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from biaslab import own_class
from biaslab.accel.base import Accelerator
from biaslab.models.base import LoadedModel
from biaslab.own_class import lacks, own_object

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
    summary: ClassVar[str] = "a class of your own"
    needs_yours: ClassVar[str] = "accel.custom.target=package.module.Class"

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply."""
        return self.accelerator().apply(model, name)

    def accelerator(self) -> Accelerator:
        """The user's class with its params; ConfigError says in one line what is wrong with either."""
        accel: Accelerator = own_object(self.target, self.params, Accelerator, _wrong_with)
        return accel

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"target": "biaslab.accel.magnitude.Magnitude", "params": {"sparsity": 0.25}}


def resolved(accels: Mapping[str, Accelerator], families: Mapping[str, type[Accelerator]]) -> dict[str, Accelerator]:
    """`accels` with every Custom replaced by the user's accelerator; see own_class.resolved."""
    return own_class.resolved("accel", accels, families, _own, lambda accel: accel.family)


def _own(accel: Accelerator) -> Accelerator | None:
    return accel.accelerator() if isinstance(accel, Custom) else None


def _wrong_with(cls: type) -> str | None:
    if (wrong := lacks(cls, ("family", "kind", "summary"), str)) is not None:
        return wrong
    kind = str(getattr(cls, "kind", ""))
    return None if kind in KINDS else f"kind={kind!r}: one of {', '.join(KINDS)}"
