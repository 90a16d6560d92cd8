"""Where a model goes on machines this one is not: dtype, GPUs, sharding, offload, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.engine.core import Engine
from biaslab.engine.requests import Decoding, Generate, LogLikelihood, Prompt
from biaslab.errors import Unsupported
from biaslab.models import placement
from biaslab.models.loading import describe_local, load
from biaslab.models.placement import GIB, Machine, Placement, PlacementConfig, check_free, decide, free_memory
from biaslab.models.weights import Weights, count
from tests.models.make import TEXT, make_folder

EIGHT = Weights(file_bytes=16 * GIB, n_floats=8 * GIB)  # 35.2 GiB in float32 with its overhead, 17.6 in bfloat16
LAPTOP, GPU, FOUR = Machine((), 64 * GIB), Machine((24 * GIB,), 64 * GIB), Machine((12 * GIB,) * 4, 64 * GIB)


def place(
    machine: Machine, *, device: str = "auto", dtype: str = "auto", packed: bool = False, **settings: Any
) -> Placement:
    config = PlacementConfig(**settings)
    return decide(
        config, device=device, dtype=dtype, weights=EIGHT, machine=machine, name="model=big", loads_packed=packed
    )


def test_defaults_follow_the_device() -> None:
    cpu, gpu = place(LAPTOP), place(GPU)
    assert (cpu.device, cpu.dtype, cpu.load_kwargs()) == ("cpu", "float32", {})
    assert (gpu.device, gpu.dtype, gpu.load_kwargs()) == ("cuda", "bfloat16", {"device_map": {"": "cuda"}})
    assert place(GPU, device="cpu").dtype == "float32"
    assert place(FOUR, device="cuda:2", dtype="float16", packed=True).load_kwargs() == {"device_map": {"": "cuda:2"}}
    assert place(GPU, attention="eager").load_kwargs()["attn_implementation"] == "eager"


def test_needed_memory_is_that_of_the_dtype_plus_a_tenth() -> None:
    assert place(LAPTOP).needed_bytes == round(1.1 * 32 * GIB)
    assert place(LAPTOP, dtype="bfloat16").needed_bytes == round(1.1 * 16 * GIB)


def test_several_gpus_share_what_one_cannot_hold() -> None:
    shared = place(FOUR)
    assert (shared.device_map, shared.offload) == ("balanced", "none")
    assert shared.load_kwargs()["max_memory"] == {i: int(0.9 * 12 * GIB) for i in range(4)}
    assert shared.dispatched
    assert not place(Machine((24 * GIB,) * 2, GIB)).dispatched  # one is enough
    assert place(Machine((24 * GIB,) * 2, GIB), sharding="balanced").dispatched


def test_offload_is_used_only_when_asked_for() -> None:
    small = Machine((8 * GIB,), 64 * GIB)
    moved = place(small, offload="cpu")
    assert (moved.device_map, moved.offload) == ("auto", "cpu")
    assert moved.load_kwargs()["max_memory"] == {0: int(0.9 * 8 * GIB), "cpu": int(0.9 * 64 * GIB)}
    with pytest.raises(Unsupported, match=r"what would fit: .*placement\.offload=cpu for the baseline"):
        place(small)


@pytest.mark.parametrize(
    ("machine", "options", "words"),
    [
        (
            Machine((), 24 * GIB),
            {},
            r"model=big needs 35\.2 GiB in float32 and the memory here is 24\.0 GiB; what would fit: dtype=bfloat16 "
            r"\(17\.6 GiB\); a checkpoint that is quantized to 4 bits already \(about 5\.5 GiB\)",
        ),
        (Machine((), 8 * GIB), {}, r"what would fit: a checkpoint that is quantized to 4 bits already"),
        (Machine((), 2 * GIB), {}, r"; a smaller model, or a machine with more memory"),
        (Machine((12 * GIB,), 64 * GIB), {}, r"needs 17\.6 GiB in bfloat16 and the memory of the GPU here is 12\.0"),
        (Machine((12 * GIB,), 64 * GIB), {}, r"device=cpu dtype=bfloat16"),
        (FOUR, {"sharding": "none"}, r"memory of the GPU here is"),
        (FOUR, {"device": "cuda:1"}, r"the memory of the GPU here is 12\.0 GiB"),
        (FOUR, {"device": "cuda:4"}, r"device=cuda:4: no such GPU \(here: 0 to 3\); use device=cpu or device=auto"),
        (LAPTOP, {"device": "cuda"}, r"device=cuda: no such GPU \(here: none\)"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(machine: Machine, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words) as caught:
        place(machine, **options)
    assert "\n" not in str(caught.value)


def test_a_quantizer_that_works_while_loading_needs_no_room_for_the_dense_weights() -> None:
    assert place(Machine((), 8 * GIB), packed=True).device == "cpu"


def test_a_model_of_unknown_size_is_not_refused() -> None:
    found = decide(PlacementConfig(), device="auto", dtype="auto", weights=None, machine=Machine((), 1), name="m")
    assert found.needed_bytes == 0


def test_what_is_free_now_is_checked_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(LAPTOP)
    monkeypatch.setattr(placement, "free_memory", lambda _d: 10.0 * GIB)
    with pytest.raises(Unsupported, match=r"model=big needs 35\.2 GiB in float32 on cpu and 10\.0 GiB are free now"):
        check_free(found, "model=big")
    monkeypatch.setattr(placement, "free_memory", lambda _d: 50.0 * GIB)
    check_free(found, "model=big")


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(placement, "CGROUP", tmp_path)
    assert placement.machine().host == 1_000_000
    assert free_memory("cpu") == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert placement.machine().host > 1_000_000


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_counted_weights_are_those_in_memory(tmp_path: Path, dtype: str) -> None:
    """Against torch: the bytes a loaded model holds, its tied head once."""
    info = describe_local(str(make_folder(tmp_path / "tied", "qwen2", dtype="float16")))
    assert info.weights is not None
    module = load(info, device="cpu", dtype=dtype).module
    assert info.weights.memory(dtype) == sum(p.numel() * p.element_size() for p in module.parameters())
    assert info.weights.file_bytes == (tmp_path / "tied" / "model.safetensors").stat().st_size


def test_packed_codes_count_as_they_are() -> None:
    tensors = [("U8", 1000, 1000), ("BF16", 50, 100), ("F32", 10, 40)]
    found = count(tensors, 1200, {"quantization_config": {}})
    assert (found.memory("float32"), found.memory("bfloat16"), found.packed) == (1000 + 240, 1000 + 120, True)


@pytest.mark.filterwarnings("ignore:.*(offload|device_map|pin_memory).*")
def test_a_model_that_waits_on_the_disk_gives_the_same_answers(tmp_path: Path) -> None:
    """Weights spread by accelerate, as over several GPUs: the engine reads them where they are."""
    info = describe_local(str(make_folder(tmp_path / "m", "llama")))
    spread = Placement(
        "cpu",
        "float32",
        device_map="auto",
        max_memory={"cpu": 60_000},
        offload="disk",
        offload_dir=str(tmp_path / "off"),
    )
    away, here = load(info, device="cpu", dtype="float32", placement=spread), load(info, device="cpu", dtype="float32")
    assert "disk" in set(away.module.hf_device_map.values())
    assert any(p.device.type == "meta" for p in away.module.parameters())
    requests = [*(LogLikelihood(Prompt("", bare=True), t) for t in TEXT), Generate(Prompt(TEXT[0], bare=True), 5)]
    answers = [Engine().run(model, requests, decoding=Decoding()) for model in (away, here)]
    for a, b in zip(*answers, strict=True):
        if hasattr(a, "token_logprobs"):
            assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-5)
        else:
            assert a == b


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_attention_kernels_agree_and_the_one_asked_for_is_used(tmp_path: Path, kernel: str) -> None:
    info = describe_local(str(make_folder(tmp_path / "m", "mistral")))
    asked = load(info, device="cpu", dtype="float32", placement=Placement("cpu", "float32", attention=kernel))
    assert asked.module.config._attn_implementation == kernel
    ids = torch.arange(5, 25)[None]
    plain = load(info, device="cpu", dtype="float32").module(ids).logits
    assert torch.allclose(asked.module(ids).logits, plain, atol=1e-4)
