"""KV-cache quantization: a way of inferring, in which every token attends to its past through rounded keys."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import spread, weight_bytes
from biaslab.errors import CellFailed
from biaslab.models.base import BY_TOKEN, GENERATED_ONLY, WHOLE, CacheReads, Fact, LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor

BACKENDS = ("own", "hqq", "quanto")
AXES = ("token", "channel")
MODES = ("decoding", "published")
#: bits that a backend has; its word for groups within a token and for groups across tokens.
LIBRARIES: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "hqq": ((8, 4, 3, 2, 1), {"token": 1, "channel": 0}),
    "quanto": ((4, 2), {"token": 0, "channel": -1}),
}
#: Codes that hqq packs into one word, so that a token must have a multiple of as many groups.
HQQ_PACKED = {8: 1, 4: 2, 2: 4, 1: 8}
#: Text whose keys and values are rounded to measure the error; any would do.
PROBE = "The train arrived at the station, and the old man asked the young woman about her work in the city."


@dataclass
class Kv(Accelerator):
    """Keys and values of the past are read as they come back from `bits`-bit codes.

    group_size : elements that share a scale and a minimum; 0 is the whole head. key_axis, value_axis :
    "token" groups channels within one token and head, "channel" consecutive tokens within one channel.
    residual : newest tokens in full precision, the reading token itself among them.
    backend : "own", or the cache of transformers with "hqq" or "quanto" codes, which keeps the newest token
        in full precision and rounds its past again and again.
    mode : "decoding": every scored token attends to its past through this cache. "published": scores are
        computed in a plain forward that never reads it, and generation reads it from its second token on,
        as in the code of the paper that compared these accelerators; no score can change.

    The defaults let one batched forward give each token what token-by-token decoding gives it. A residual
    window, groups across tokens and the libraries' backends do not: they are read token by token.
    """

    bits: int = 4
    group_size: int = 0
    key_axis: str = "token"
    value_axis: str = "token"
    residual: int = 0
    backend: str = "own"
    mode: str = "decoding"

    family: ClassVar[str] = "kv"
    kind: ClassVar[str] = "cache"
    summary: ClassVar[str] = "KV-cache quantization that every scored token reads (own cache; backends hqq, quanto)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        for name, allowed in {"key_axis": AXES, "value_axis": AXES, "backend": BACKENDS, "mode": MODES}.items():
            if (value := getattr(self, name)) not in allowed:
                return f"{name}={value}: {' or '.join(allowed)}"
        bits = tuple(range(1, 9)) if self.backend == "own" else LIBRARIES[self.backend][0]
        if self.bits not in bits:
            return f"bits={self.bits}: one of {', '.join(map(str, bits))} with backend={self.backend}"
        if self.group_size < 0:
            return f"group_size={self.group_size}: 1 or more, or 0 for the whole head"
        if self.residual < 0:
            return f"residual={self.residual}: 0 or more tokens"
        if "channel" in (self.key_axis, self.value_axis) and self.group_size == 0:
            return "group_size=0: groups along a channel need their number of tokens, such as 32"
        return None

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        types = set(model.config.get("layer_types") or ())
        if strange := sorted(types - {"full_attention", "sliding_attention"}):
            return f"its layers of type {', '.join(strange)} keep no plain keys and values"
        if (problem := _group_problem(self, model.config)) is not None:
            return problem
        if self.backend == "own":
            return None
        return _library_problem(self, model.config, types)

    @property
    def use(self) -> str:
        """How the engine must read the cache: one of WHOLE, BY_TOKEN, GENERATED_ONLY."""
        if self.mode == "published":
            return GENERATED_ONLY
        whole = self.backend == "own" and self.residual == 0 and self.key_axis == self.value_axis == "token"
        return WHOLE if whole else BY_TOKEN

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. Raises CellFailed where the model's heads do not divide into groups."""
        start = time.perf_counter()
        reads = CacheReads(name)
        factory = self._factory(model, reads)
        values = dataclasses.asdict(self) | _measure(model, factory, self)
        values |= {"reads": self.use, "bytes": weight_bytes(model.module), "seconds": time.perf_counter() - start}
        words = f"KV cache in {self.bits} bits ({self.backend}), {READS[self.use]}"
        model.facts.append(Fact(name, words, values))
        # Codes of a group that spans tokens, or a batch (hqq), must not know of padding or of other rows.
        alone = self.backend != "own" or "channel" in (self.key_axis, self.value_axis)
        done = dataclasses.replace(model, cache_factory=factory, cache_use=self.use, cache_reads=reads)
        if alone and self.use == GENERATED_ONLY:  # scores never read it: in other batches they would round otherwise
            return dataclasses.replace(done, max_written=1)
        return dataclasses.replace(done, max_batch=1) if alone else done

    def _factory(self, model: LoadedModel, reads: CacheReads) -> Callable[[], Any]:
        from biaslab.accel.kvcache.layer import Grid, make_cache

        config = model.module.config.get_text_config(decoder=True)
        if self.backend != "own":
            return lambda: _library_cache(self, config, reads)
        keys, values = (Grid(self.bits, self.group_size, axis) for axis in (self.key_axis, self.value_axis))
        published = self.mode == "published"
        return lambda: make_cache(
            config.num_hidden_layers, keys, values, self.residual, published=published, on_read=reads.add
        )


READS = {
    WHOLE: "read by every token",
    BY_TOKEN: "read by every token, one token at a time",
    GENERATED_ONLY: "read by generated tokens only, never by a score",
}


def head_size(config: Mapping[str, Any]) -> int:
    """Channels of one head by config.json, 0 where it does not tell."""
    heads = config.get("num_attention_heads") or config.get("n_head") or 0
    hidden = config.get("hidden_size") or config.get("n_embd") or 0
    return int(config.get("head_dim") or (hidden // heads if heads else 0))


def _group_problem(kv: Kv, config: Mapping[str, Any]) -> str | None:
    head, group = head_size(config), kv.group_size
    if group and head % group and "token" in (kv.key_axis, kv.value_axis):
        return f"group_size={group} does not divide its heads of {head} channels; 0 is the whole head"
    return None


def _library_problem(kv: Kv, config: Mapping[str, Any], types: set[str]) -> str | None:
    """Why the library's cache cannot serve this model, or None."""
    module = {"hqq": "hqq", "quanto": "optimum.quanto"}[kv.backend]
    if find_spec(module.partition(".")[0]) is None or find_spec(module) is None:
        wanted = {"hqq": "hqq", "quanto": "optimum-quanto"}[kv.backend]
        return f"backend={kv.backend} needs the library {wanted}: pip install {wanted}; or use backend=own"
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if "sliding_attention" in types or (window and not types):
        return f"backend={kv.backend} knows no sliding window, and this model has one; use backend=own"
    if kv.backend == "hqq" and "token" in (kv.key_axis, kv.value_axis):
        heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or 0
        n_groups = heads * head_size(config) // (kv.group_size or head_size(config) or 1)
        if kv.bits not in HQQ_PACKED or n_groups % HQQ_PACKED[kv.bits]:
            return (
                f"backend=hqq packs {kv.bits} bits only of whole words of groups, and a token has {n_groups} of "
                f"them; use another group_size, key_axis=channel value_axis=channel, or backend=own"
            )
    return None


def _library_cache(kv: Kv, config: Any, reads: CacheReads) -> Any:
    from transformers.cache_utils import QuantizedCache

    words = LIBRARIES[kv.backend][1]
    cache = QuantizedCache(
        kv.backend,
        config,
        nbits=kv.bits,
        axis_key=words[kv.key_axis],
        axis_value=words[kv.value_axis],
        q_group_size=kv.group_size or head_size(config.to_dict()),
        residual_length=kv.residual,
    )
    for layer in cache.layers:
        layer.update = _counted(layer, layer.update, reads)
    return cache


def _counted(layer: Any, update: Callable[..., Any], reads: CacheReads) -> Callable[..., Any]:
    """`update`, which gives back rounded keys and values whenever it has been called before."""

    def counted(*args: Any, **kwargs: Any) -> Any:
        if layer.is_initialized:
            reads.add()
        return update(*args, **kwargs)

    return counted


def _measure(model: LoadedModel, factory: Callable[[], Any], kv: Kv) -> dict[str, Any]:
    """What rounding does to the keys and values of a fixed text, and what one token takes in the cache.

    A layer's error is ||K' - K||_F / ||K||_F, of keys and values alike, on whole groups of tokens.
    """
    states = _plain_states(model)
    rounded = [_round_trip(layer, kv, *pair) for layer, pair in zip(factory().layers, states, strict=True)]
    errors = [(_error(k, k2), _error(v, v2)) for (k, v), (k2, v2) in zip(states, rounded, strict=True)]
    values: dict[str, Any] = {
        "layers": [{"name": f"layers.{i}", "key_error": k, "value_error": v} for i, (k, v) in enumerate(errors)],
        "error_layers": spread([error for pair in errors for error in pair]),
        "elements_per_token": sum(x.shape[1] * x.shape[3] for pair in states for x in pair),
        "simulated": True,
    }
    if kv.backend == "own":  # the libraries' own codes are theirs to count
        values["bits_per_element"] = _stored_bits(kv, states)
    return values


def _plain_states(model: LoadedModel) -> list[tuple[Tensor, Tensor]]:
    """Keys and values (1, heads, tokens, channels) of each layer on PROBE, unrounded."""
    import torch
    from transformers import DynamicCache

    ids = model.tokenizer(PROBE)["input_ids"][: model.context_length]
    cache = DynamicCache()
    with torch.inference_mode():
        model.module(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _round_trip(layer: Any, kv: Kv, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    if kv.backend == "own":
        first, second = (store.grid.round_trip(_whole_groups(x, store.grid.n_tokens)) for x, store in
                         zip((keys, values), layer.stores, strict=True))  # fmt: skip
        return first, second
    words = LIBRARIES[kv.backend][1]
    layer.lazy_initialization(keys, values)
    pairs = (keys, words[kv.key_axis]), (values, words[kv.value_axis])
    try:
        first, second = (layer._dequantize(layer._quantize(x.contiguous(), axis=axis)) for x, axis in pairs)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise CellFailed(f"backend={kv.backend} cannot round this model's keys and values: {error}") from error
    return first, second


def _whole_groups(states: Tensor, n_tokens: int) -> Tensor:
    n = states.shape[-2] - states.shape[-2] % n_tokens
    if n == 0:
        raise CellFailed(f"group_size={n_tokens}: the probe text is shorter than one group of tokens")
    return states[..., :n, :]


def _error(before: Tensor, after: Tensor) -> float:
    before = before[..., : after.shape[-2], :].float()
    return float((after.float() - before).norm() / before.norm())


def _stored_bits(kv: Kv, states: list[tuple[Tensor, Tensor]]) -> float:
    """Bits in the cache per element, codes with their share of scales and minima; a residual window apart."""
    from biaslab.accel.kvcache.layer import Grid

    bits, n = 0.0, 0
    for pair in states:
        for x, axis in zip(pair, (kv.key_axis, kv.value_axis), strict=True):
            size = x.shape[1] * x.shape[3]
            bits += size * Grid(kv.bits, kv.group_size, axis).stored_bits(x.shape[3], x.dtype)
            n += size
    return bits / n
