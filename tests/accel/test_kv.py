"""The quantized KV cache: its rounding, that every scored token reads it, and that batches do not matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from biaslab.accel.active import active_check, generated_logits, reference_logits
from biaslab.accel.kv import Kv
from biaslab.accel.kvcache.layer import Grid, Store
from biaslab.accel.stack import apply_stack
from biaslab.engine.core import Engine
from biaslab.engine.prompts import Span
from biaslab.engine.requests import Choice, Decoding, Generate, LogLikelihood, Option, Prompt
from biaslab.engine.scoring import score_sequences
from biaslab.errors import CellFailed
from biaslab.models.base import BY_TOKEN, GENERATED_ONLY, WHOLE, LoadedModel
from tests.accel import tiny

#: Rows of unequal length; the second begins the first, so it rides on that one's forward.
ROWS = [
    tuple(b"The nurse said that she was tired."),
    tuple(b"The nurse said that"),
    tuple(b"A man"),
    tuple(b"He was late, and so were they"),
]
BY_TOKEN_SETTINGS = [
    {"residual": 1},
    {"residual": 5},
    {"key_axis": "channel", "group_size": 4},
    {"key_axis": "channel", "value_axis": "channel", "group_size": 4, "residual": 3},
]


def grid(states: torch.Tensor, bits: int) -> torch.Tensor:
    """Each last-axis row rounded between its own ends."""
    low, step = states.amin(-1, True), (states.amax(-1, True) - states.amin(-1, True)) / (2**bits - 1)
    return ((states - low) / step).round() * step + low


def attended(model: LoadedModel, ids: Sequence[int], bits: int) -> torch.Tensor:
    """Logits (tokens, vocabulary) of a plain forward whose attention itself rounds keys and values; no cache."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def rounding(module: Any, query: Any, key: torch.Tensor, value: torch.Tensor, mask: Any, **more: Any) -> Any:
        return sdpa_attention_forward(module, query, grid(key, bits), grid(value, bits), mask, **more)

    AttentionInterface.register("rounding", rounding)
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionMaskInterface.register("rounding", sdpa_mask)
    before = model.module.config._attn_implementation
    model.module.set_attn_implementation("rounding")
    try:
        with torch.no_grad():
            return model.module(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    finally:
        model.module.set_attn_implementation(before)


class PlainLayer(DynamicLayer):
    """Keeps every key and value as it came and rounds afresh, token by token, whatever is to be rounded."""

    def __init__(self, kv: Kv) -> None:
        super().__init__()
        self.kv, self.seen = kv, [[], []]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = (
            self._read(seen, states, axis)
            for seen, states, axis in zip(
                self.seen, (key_states, value_states), (self.kv.key_axis, self.kv.value_axis), strict=True
            )
        )
        return self.keys, self.values

    def _read(self, seen: list[torch.Tensor], states: torch.Tensor, axis: str) -> torch.Tensor:
        seen += list(states.split(1, dim=-2))
        size = self.kv.group_size if axis == "channel" else 1
        n = max(0, len(seen) - self.kv.residual) // size * size
        whole = torch.cat(seen, dim=-2)
        old, new = whole[..., :n, :], whole[..., n:, :]
        if axis == "token":
            groups = old.unflatten(-1, (-1, self.kv.group_size or old.shape[-1]))
            return torch.cat([grid(groups, self.kv.bits).flatten(-2) if n else old, new], dim=-2)
        parts = [grid(part.transpose(-1, -2), self.kv.bits).transpose(-1, -2) for part in old.split(size, -2) if n]
        return torch.cat([*parts, new], dim=-2)


def decoded(model: LoadedModel, ids: Sequence[int], cache: Any) -> torch.Tensor:
    """Logits (tokens, vocabulary), one token after another, alone, through `cache`."""
    logits = []
    with torch.no_grad():
        for token in ids:
            output = model.module(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            logits.append(output.logits[0, -1])
    return torch.stack(logits)


def expected(logits: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """Log p of every token but the first."""
    return logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def scores(model: LoadedModel, side: str, max_batch: int) -> list[torch.Tensor]:
    engine = Engine(padding_side=side, max_batch=max_batch)
    with torch.inference_mode():
        found = score_sequences(model, [Span(row, 1) for row in ROWS], engine.limits(model))
    return [torch.tensor(values, dtype=torch.float32) for values in found if values is not None]


def assert_scores(model: LoadedModel, truth: Sequence[torch.Tensor]) -> None:
    for side, max_batch in [("right", 64), ("left", 64), ("right", 1), ("left", 2)]:
        for found, wanted in zip(scores(model, side, max_batch), truth, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


# --- the grid ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("group", "axis"), [(0, "token"), (4, "token"), (3, "channel")])
def test_a_group_has_its_ends_exactly_and_no_error_above_half_a_step(bits: int, group: int, axis: str) -> None:
    states = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    after = Grid(bits, group, axis).round_trip(states)
    if axis == "channel":
        groups = [x.unflatten(-2, (-1, group)).transpose(-1, -2) for x in (states, after)]
    else:
        groups = [x.unflatten(-1, (-1, group or 8)) for x in (states, after)]
    before, rounded = groups
    step = (before.amax(-1) - before.amin(-1)) / (2**bits - 1)
    assert ((before - rounded).abs() <= step[..., None] / 2 + 1e-6).all()
    torch.testing.assert_close(rounded.amin(-1), before.amin(-1))
    torch.testing.assert_close(rounded.amax(-1), before.amax(-1))
    assert max(len(g.unique()) for g in rounded.flatten(0, -2)) <= 2**bits
    torch.testing.assert_close(Grid(bits, group, axis).round_trip(after), after)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_constant_and_tiny_groups_survive_in_half_precision(dtype: torch.dtype) -> None:
    states = torch.full((1, 1, 2, 8), 3.0, dtype=dtype)
    states[0, 0, 1] *= torch.linspace(1, 2, 8) * 1e-6
    after = Grid(2, 0, "token").round_trip(states)
    assert after.dtype == dtype
    assert after.isfinite().all()
    assert torch.equal(after[0, 0, 0], states[0, 0, 0])


def test_the_bits_of_scales_are_counted() -> None:
    assert Grid(4, 0, "token").stored_bits(128, torch.float16) == 4 + 32 / 128
    assert Grid(2, 32, "channel").stored_bits(64, torch.float32) == 2 + 64 / 32


def test_a_group_that_does_not_divide_the_head_is_refused() -> None:
    with pytest.raises(CellFailed, match="group_size=3: does not divide a head of 8 channels"):
        Grid(4, 3, "token").round_trip(torch.zeros(1, 1, 1, 8))


# --- every scored token reads the cache -------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_scores_are_those_of_an_attention_that_rounds_and_of_decoding(architecture: str, bits: int) -> None:
    plain = tiny.make(architecture)
    model = Kv(bits=bits).apply(plain, "kv")
    assert model.cache_use == WHOLE
    truth = [expected(decoded(plain, row, model.cache_factory()), row) for row in ROWS]
    for row, wanted in zip(ROWS, truth, strict=True):
        torch.testing.assert_close(expected(attended(plain, row, bits), row), wanted, rtol=0, atol=1e-4)
        assert (expected(decoded(plain, row, DynamicCache()), row) - wanted).abs().max() > 1e-4, "it does act"
    assert_scores(model, truth)


@pytest.mark.parametrize("settings", BY_TOKEN_SETTINGS, ids=str)
@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_what_no_single_forward_can_give_is_read_token_by_token(architecture: str, settings: dict[str, Any]) -> None:
    plain = tiny.make(architecture)
    kv = Kv(bits=3, **settings)
    model = kv.apply(plain, "kv")
    assert model.cache_use == BY_TOKEN
    assert "one token at a time" in model.facts[0].method
    assert model.facts[0].values["reads"] == "token by token"
    n_layers = plain.module.config.num_hidden_layers
    truth = [
        expected(decoded(plain, row, Cache(layers=[PlainLayer(kv) for _ in range(n_layers)])), row) for row in ROWS
    ]
    assert_scores(model, truth)
    with pytest.raises(ValueError, match="reads one token at a time"):
        plain.module(input_ids=torch.tensor([ROWS[0]]), past_key_values=model.cache_factory(), use_cache=True)


def test_more_bits_move_less_and_a_long_residual_moves_nothing() -> None:
    plain = tiny.make("llama")
    before = reference_logits(plain)

    def change(**settings: Any) -> float:
        return active_check(before, reference_logits(Kv(**settings).apply(plain, "kv")))["mean_logit_change"]

    changes = [change(bits=bits) for bits in (8, 4, 2)]
    assert changes[0] < changes[1] / 4 < changes[2] / 8
    assert change(bits=4, group_size=4) < changes[1]
    assert change(bits=2, residual=1000) < 1e-5


def test_choices_and_likelihoods_agree_and_both_go_through_the_cache() -> None:
    plain = tiny.make("qwen2")
    model = Kv(bits=3).apply(plain, "kv")
    prompt = Prompt(user="Was she late?", bare=True)
    texts = (" yes", " no", " yesterday")
    requests = [Choice(prompt, tuple(Option(t, (t,)) for t in texts)), *(LogLikelihood(prompt, t) for t in texts)]
    choice, *likelihoods = Engine().run(model, requests, decoding=Decoding())
    for text, logprob, answer in zip(texts, choice.logprobs, likelihoods, strict=True):
        ids = plain.tokenizer(prompt.user + text)["input_ids"]
        wanted = expected(decoded(plain, ids, model.cache_factory()), ids)[-len(text) :].sum()
        assert logprob == pytest.approx(float(wanted), abs=1e-4)
        assert answer.logprob_sum == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("mistral", {}), ("gpt_neox", {}), *[("llama", settings) for settings in ({}, *BY_TOKEN_SETTINGS)]],
    ids=str,
)
def test_texts_are_those_of_decoding_alone_in_any_batch(architecture: str, settings: dict[str, Any]) -> None:
    plain = tiny.make(architecture)
    kv = Kv(bits=4, **settings)
    model = kv.apply(plain, "kv")
    prompts = ["The nurse", "He was late, and so", "A"]
    # Unequal lengths: rows leave the batch one by one, and what is left of the cache must be theirs.
    requests = [Generate(Prompt(user=p, bare=True), n) for p, n in zip(prompts, (3, 9, 6), strict=True)]
    found = [answer.text for answer in Engine().run(model, requests, decoding=Decoding())]
    n_layers = plain.module.config.num_hidden_layers
    for request, text in zip(requests, found, strict=True):
        ids = plain.tokenizer(request.prompt.user)["input_ids"]
        cache = Cache(layers=[PlainLayer(kv) for _ in range(n_layers)])
        logits, written = decoded(plain, ids, cache), []
        for _ in range(request.max_new_tokens):
            written.append(int(logits[-1].argmax()))
            logits = decoded(plain, written[-1:], cache)
        assert text == plain.tokenizer.decode(written)


def test_rows_that_stay_keep_their_own_past() -> None:
    store = Store(Grid(4, 0, "token"), residual=2)
    states = torch.randn(3, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([store.add(part) for part in states.split(1, -2)][-1:])
    store.select(torch.tensor([0, 2]))
    assert torch.equal(store.whole(), whole[[0, 2]])
    more = torch.zeros(2, 2, 1, 8)
    assert torch.equal(store.add(more)[..., -2:, :], torch.cat([states[[0, 2], :, -1:], more], -2))


# --- published: what the seed paper's code did ----------------------------------------------------------------


def test_published_scores_are_the_baselines_and_it_is_inert() -> None:
    plain = tiny.make("llama")
    model = Kv(bits=2, mode="published").apply(plain, "kv2")
    assert model.cache_use == GENERATED_ONLY
    for found, wanted in zip(scores(model, "right", 64), scores(plain, "right", 64), strict=True):
        assert torch.equal(found, wanted)
    assert active_check(reference_logits(plain), reference_logits(model))["max_logit_change"] == 0.0
    assert "never by a score" in model.facts[0].method


#: As conf/accel/paper_kv4.yaml, with a group that divides the heads of 16 here and a window below the prompts.
PAPER = {"backend": "hqq", "group_size": 16, "key_axis": "channel", "value_axis": "channel", "mode": "published"}


@pytest.mark.parametrize("settings", [PAPER, PAPER | {"backend": "own"}, PAPER | {"residual": 128}], ids=str)
def test_a_cache_that_only_writing_reads_leaves_every_bit_of_the_scores(settings: dict[str, Any]) -> None:
    """It is to write one row at a time, and that must not reach the batches of scores: they would round otherwise."""
    plain = tiny.make("llama")
    model = apply_stack(plain, {"kv": Kv(bits=4, **settings)})
    assert (model.max_batch, model.max_written) == (None, 1)
    for max_batch in (64, 3):
        for found, wanted in zip(scores(model, "right", max_batch), scores(plain, "right", max_batch), strict=True):
            assert torch.equal(found, wanted)
    values = model.facts[0].values
    assert values["active"]["max_logit_change"] == 0.0
    assert values["active_generating"]["max_logit_change"] > 1e-3


def test_a_cache_that_must_not_know_of_other_rows_writes_one_at_a_time() -> None:
    model = Kv(bits=4, **PAPER).apply(tiny.make("llama"), "kv")
    sizes: list[int] = []
    model.module.register_forward_pre_hook(
        lambda _m, _a, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    prompts = [Generate(Prompt(user=text, bare=True), 3) for text in ("The nurse", "The cook", "He was late")]
    Engine(way="padded").run(model, prompts, decoding=Decoding())
    assert set(sizes) == {1}


@pytest.mark.parametrize("mode", ["decoding", "published"])
def test_what_a_step_moves_is_free_of_how_the_model_is_read(mode: str) -> None:
    """A window longer than any text moves nothing, exactly; one longer than the short prompts acts on a long text."""

    def moved(**settings: Any) -> float:
        model = apply_stack(tiny.make("llama", max_position_embeddings=1024), {"kv": Kv(mode=mode, **settings)})
        values = model.facts[0].values
        return float(values.get("active_generating", values["active"])["max_logit_change"])

    assert moved(bits=2, residual=1000) == 0.0
    assert moved(bits=2, residual=100) > 1e-3
    assert moved(bits=8) > 1e-6


SHORT, LONG = "A man", "The nurse said that she was tired."


@pytest.mark.parametrize("backend", ["own", "hqq"])
def test_what_is_read_rounded_is_counted(backend: str) -> None:
    """Texts that end within the window read nothing rounded; a library rounds all but the token that asks."""
    axes = {"key_axis": "channel", "value_axis": "channel"}
    model = Kv(bits=4, backend=backend, group_size=16, residual=8, **axes).apply(tiny.make("llama"), "kv")
    assert model.cache_reads is not None
    assert (model.cache_reads.step, model.cache_reads.n) == ("kv", 0)
    prompt = Prompt(user="", bare=True)
    for text, rounded in ((SHORT, backend == "hqq"), (LONG, True)):
        before = model.cache_reads.n
        Engine().run(model, [LogLikelihood(prompt, text)], decoding=Decoding())
        assert (model.cache_reads.n > before) is rounded


def test_published_reads_nothing_rounded_until_a_second_token_is_written() -> None:
    model = Kv(bits=4, mode="published").apply(tiny.make("llama"), "kv")
    assert model.cache_reads is not None
    Engine().run(model, [LogLikelihood(Prompt(user="A", bare=True), LONG)], decoding=Decoding())
    Engine(way="padded").run(model, [Generate(Prompt(user=LONG, bare=True), 1)], decoding=Decoding())
    assert model.cache_reads.n == 0
    Engine(way="padded").run(model, [Generate(Prompt(user=LONG, bare=True), 2)], decoding=Decoding())
    assert model.cache_reads.n > 0


def test_published_generation_reads_the_cache_from_its_second_token_on() -> None:
    plain = tiny.make("llama")
    model = Kv(bits=2, mode="published").apply(plain, "kv2")
    ids = torch.tensor([ROWS[3]])
    cache = model.cache_factory()
    with torch.no_grad():
        first = plain.module(input_ids=ids, past_key_values=cache, use_cache=True).logits
        second = plain.module(input_ids=ids[:, :1], past_key_values=cache, use_cache=True).logits
        alone = plain.module(input_ids=ids).logits
        after = plain.module(input_ids=torch.cat([ids, ids[:, :1]], 1)).logits
    torch.testing.assert_close(first, alone, rtol=0, atol=1e-5)
    assert (second[:, -1] - after[:, -1]).abs().max() > 1e-2
    torch.testing.assert_close(generated_logits(plain), reference_logits(plain), rtol=0, atol=1e-4)
    assert active_check(reference_logits(plain), generated_logits(model))["max_logit_change"] > 1e-2


# --- the libraries' caches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"bits": 4}, {"bits": 8}, {"bits": 4, "residual": 4}], ids=str)
def test_the_hqq_backend_is_transformers_own_cache_token_by_token(settings: dict[str, Any]) -> None:
    from transformers.cache_utils import QuantizedCache

    plain = tiny.make("llama")
    kv = Kv(backend="hqq", **settings)
    assert kv.unsupported(plain.info, "cpu") is None
    model = kv.apply(plain, "kv")
    assert (model.cache_use, model.max_batch) == (BY_TOKEN, 1)

    def theirs() -> Any:
        return QuantizedCache(
            "hqq", plain.module.config, nbits=kv.bits, axis_key=1, axis_value=1, q_group_size=16,
            residual_length=kv.residual,
        )  # fmt: skip

    for found, row in zip(scores(model, "left", 64), ROWS, strict=True):
        torch.testing.assert_close(found, expected(decoded(plain, row, theirs()), row), rtol=0, atol=1e-4)
    request = Generate(Prompt(user="The nurse", bare=True), 4)
    (answer,) = Engine().run(model, [request], decoding=Decoding())
    assert answer.new_tokens == 4


def test_a_quantized_cache_cannot_be_had_for_every_model() -> None:
    llama, mistral = tiny.make("llama").info, tiny.make("mistral").info  # heads of 16
    assert Kv(group_size=8).unsupported(llama, "cpu") is None
    assert "group_size=5 does not divide its heads of 16" in str(Kv(group_size=5).unsupported(llama, "cpu"))
    assert "sliding window" in str(Kv(backend="hqq").unsupported(mistral, "cpu"))
    assert "2 of them" in str(Kv(bits=2, backend="hqq").unsupported(llama, "cpu"))
    channels = {"key_axis": "channel", "value_axis": "channel", "group_size": 16}
    assert Kv(bits=2, backend="hqq", **channels).unsupported(llama, "cpu") is None
    mamba = dataclasses.replace(llama, config={**llama.config, "layer_types": ["linear_attention", "full_attention"]})
    assert "linear_attention" in str(Kv().unsupported(mamba, "cpu"))


@pytest.mark.parametrize(
    ("kv", "words"),
    [
        (Kv(bits=9), "bits=9: one of 1, 2"),
        (Kv(bits=8, backend="quanto"), "bits=8: one of 4, 2 with backend=quanto"),
        (Kv(backend="kivi"), "backend=kivi: own or hqq or quanto"),
        (Kv(mode="fast"), "mode=fast: decoding or published"),
        (Kv(key_axis="channel"), "group_size=0: groups along a channel"),
        (Kv(residual=-1), "residual=-1: 0 or more"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_values_are_named(kv: Kv, words: str) -> None:
    assert str(kv.check()).startswith(words)


def test_facts_are_measured() -> None:
    model = Kv(bits=4).apply(tiny.make("llama"), "kv4")
    values = model.facts[0].values
    assert values["elements_per_token"] == 2 * 2 * 2 * 16  # layers, keys and values, heads, channels
    assert values["bits_per_element"] == 4 + 2 * 32 / 16
    assert len(values["layers"]) == 2
    assert 0.01 < values["error_layers"]["min"] <= values["error_layers"]["max"] < 0.2
    finer = Kv(bits=8).apply(tiny.make("llama"), "kv8").facts[0].values
    assert finer["error_layers"]["max"] < values["error_layers"]["min"] / 8
    assert values["simulated"] is True
