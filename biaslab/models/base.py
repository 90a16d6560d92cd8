"""What the rest of biaslab knows about a model, before and after its weights are loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.models.weights import Weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


#: How a LoadedModel's own KV cache is to be read. WHOLE: one forward over a whole sequence reads it as decoding
#: would. BY_TOKEN: it must be given one token after another. GENERATED_ONLY: scores do not go through it.
WHOLE, BY_TOKEN, GENERATED_ONLY = "whole forwards", "token by token", "generated tokens only"


@dataclass(frozen=True)
class Planted:
    """The bias that was planted in an embedded model: the grammar's effects times `scale`."""

    scale: float


@dataclass(frozen=True)
class ModelInfo:
    """A model as known before loading, from its folder's JSON files alone (no torch).

    label : the model's word in results and reports.
    source : "embedded", "local", "hub" or "custom".
    identity : what names these very weights, "hub-id@commit" or "sha256:<hex>"; part of a cell's key.
    path : folder or hub id that transformers loads from.
    architecture : first of config.json's `architectures`, e.g. "LlamaForCausalLM".
    config : config.json, parsed.
    note : one line every list and report shows beside the model ("" for none).
    planted : the planted truth of an embedded model, else None.
    weights : what the weight files hold, None where it is not known.
    made_of : of a model of the user's own, its target, params, fingerprint and the hash of its source.
    """

    label: str
    source: str
    identity: str
    path: str
    architecture: str
    config: Mapping[str, Any]
    note: str = ""
    planted: Planted | None = None
    weights: Weights | None = None
    made_of: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Model(ABC):
    """Base of a model of your own (model=custom); subclasses are dataclasses whose fields are their config.

    name : its word in results, to which fields are added that are not their defaults.
    note : one line that every list and report shows beside it ("" for none).
    """

    name: ClassVar[str]
    note: ClassVar[str] = ""

    def check(self) -> str | None:
        """What is wrong with its fields, beginning with the field ("layer=9: ..."), or None. Loads nothing."""
        return None

    def fingerprint(self) -> str:
        """What decides the weights beside the fields and the class's own file, such as the content of a folder.

        `load` is called again when it changes, and not before: what stands nowhere in it is not noticed. No torch.
        """
        return ""

    @abstractmethod
    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """A causal language model with dense weights of one floating dtype, and its tokenizer.

        Called once on a machine; what it returns is kept as a folder, and every job loads that. Torch's random
        generator is seeded before the call.
        """


@dataclass(frozen=True)
class Fact:
    """What one accelerator step did, as plain JSON-able values measured after it (never assumed)."""

    step: str
    method: str
    values: Mapping[str, Any]


@dataclass
class CacheReads:
    """How often attention was given keys and values that the cache of step `step` had rounded, so far."""

    step: str
    n: int = 0

    def add(self) -> None:
        """One more."""
        self.n += 1


@dataclass
class LoadedModel:
    """A model ready to be asked, and what was done to it so far.

    cache_factory : makes the KV cache of one forward; None means the model's own.
    cache_use : how the engine reads that cache: WHOLE, BY_TOKEN or GENERATED_ONLY.
    cache_reads : counts what is read of that cache; None where nobody does.
    max_batch, batch_tokens : an accelerator's wish that overrides the engine's batching (placebo_batch).
    max_written : rows of a batch that generates, at most; scores are not concerned.
    asked : how the engine last scored: "packed", "padded", "alone" or BY_TOKEN; "" before it did.
    wrote : how the engine last generated: "padded" or "alone"; "" before it did.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    facts: list[Fact] = field(default_factory=list)
    cache_factory: Callable[[], Any] | None = None
    cache_use: str = WHOLE
    cache_reads: CacheReads | None = None
    max_batch: int | None = None
    batch_tokens: int | None = None
    max_written: int | None = None
    asked: str = ""
    wrote: str = ""

    @property
    def reads_by_token(self) -> bool:
        """Whether scores and texts come out of a cache that is given one token after another."""
        return self.cache_factory is not None and self.cache_use == BY_TOKEN

    @property
    def context_length(self) -> int:
        """Longest sequence the positions allow (tokens); a longer prompt is `too_long`."""
        return int(getattr(self.module.config, "max_position_embeddings", 2**31))
