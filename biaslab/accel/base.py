"""The interface of an accelerator. Its dataclass is its config schema: one file here plus one YAML."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from biaslab.libraries import missing
from biaslab.models.base import LoadedModel, ModelInfo
from biaslab.own_class import code_of


@dataclass
class Accelerator(ABC):
    """Base of every accelerator; subclasses are dataclasses whose fields are their config.

    family : name of the schema that the YAML files of conf/accel name.
    kind : "baseline", "pruner", "quantizer", "cache", "placebo" or "checkpoint" (it brings weights of its own);
        decides which stacks make sense.
    requires : modules it imports when it is applied; `extra` of biaslab installs them.
    needs_gpu : what it does that only a GPU can; empty where a CPU will do.
    restorable : it is dear, and the weights it leaves can be put back bit by bit from the cache of weights.
    needs_yours : the words with which a user names what it takes; empty where nothing is missing.
    rescales : it moves scale between weights and the norms and biases before them.
    """

    family: ClassVar[str]
    kind: ClassVar[str]
    summary: ClassVar[str]  # one line for `python -m biaslab list`
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "quantizers"
    needs_gpu: ClassVar[str] = ""
    needs_yours: ClassVar[str] = ""
    rescales: ClassVar[bool] = False
    restorable: ClassVar[bool] = False

    def check(self) -> str | None:
        """The first field value that is out of range, as "field=value: what is allowed", or None."""
        return None

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """The reason why this cannot be applied to this model on this device type, or None. No torch."""
        if self.needs_gpu and device != "cuda":
            return f"{self.needs_gpu} needs a GPU, and this device is {device}"
        return missing(self.requires, self.extra)

    def refuses(self, later: Accelerator) -> str | None:
        """The reason, found in files and no config, why `later` cannot follow this step in a stack, or None."""
        return None

    def identity(self, model: ModelInfo) -> Mapping[str, Any]:
        """What a cell's key hashes of this step: family, fields, and what they stand for outside the config.

        That is the calibration text (by content or commit), and the source of a class that is not biaslab's.
        Raises ConfigError if the text cannot be read, or a commit not be found out. No torch.
        """
        values: dict[str, Any] = {"family": self.family, **dataclasses.asdict(self)}
        if (calibration := getattr(self, "calibration", None)) is not None:
            values["calibration_text"] = calibration.fingerprint(model)
        return values | code_of(type(self))

    def load_kwargs(self) -> Mapping[str, Any]:
        """Arguments merged into from_pretrained, for libraries that quantize while loading."""
        return {}

    @abstractmethod
    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """`model` accelerated (its module may be changed in place), with a Fact of step `name` appended."""

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """Field values of a configuration that the contract suite can run in seconds."""
        return {}
