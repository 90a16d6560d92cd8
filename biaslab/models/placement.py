"""Where and how a model is computed: the one place that decides device, dtype, attention kernel and sharding.

`decide` is a function of settings, the size of the weights and the machine, so that every case can be tested
without the machine. It refuses, before a weight is fetched, what can never fit, and says what would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from biaslab.errors import Unsupported
from biaslab.models.weights import ITEM_BYTES, Weights

GIB = 2**30
#: Beside the weights: activations, cache and logits of one row. Batches shrink by themselves when memory runs out.
OVERHEAD = 1.1
CGROUP = Path("/sys/fs/cgroup")


@dataclass
class PlacementConfig:
    """Where the weights go and by which kernel attention is computed.

    attention : auto (transformers' choice), eager, sdpa or flash_attention_2.
    sharding : over several GPUs: auto (only if one is too small), balanced (always), none.
    offload : where weights wait that no GPU has room for: none (refuse), cpu, disk. Slow, and a baseline's or
        a KV cache's: what changes weights must hold them on a device. offload_dir : for disk, empty for
        <outputs>/offload.
    memory_share : of a device's memory that weights may take when they are spread.
    """

    attention: str = "auto"
    sharding: str = "auto"
    offload: str = "none"
    offload_dir: str = ""
    memory_share: float = 0.9


@dataclass(frozen=True)
class Machine:
    """Memory in bytes: of each GPU, and of the host, as far as this process may have it."""

    gpus: tuple[int, ...]
    host: int


@dataclass(frozen=True)
class Placement:
    """What was decided; `asdict` of it goes on record.

    device : where tokens go in. device_map : "" (all of it on `device`), or accelerate's plan over max_memory
    (GPU number or "cpu" -> bytes). needed_bytes : of weights and what comes with them, 0 where not known.
    """

    device: str
    dtype: str
    attention: str = "auto"
    device_map: str = ""
    max_memory: Mapping[str, int] = field(default_factory=dict)
    offload: str = "none"
    offload_dir: str = ""
    needed_bytes: int = 0

    @property
    def dispatched(self) -> bool:
        """Whether the weights are spread, so that the module may be neither moved nor copied."""
        return bool(self.device_map)

    def load_kwargs(self) -> dict[str, Any]:
        """Arguments of from_pretrained that make it so."""
        options: dict[str, Any] = {}
        if self.attention != "auto":
            options["attn_implementation"] = self.attention
        if self.dispatched:
            options["device_map"] = self.device_map
            options["max_memory"] = {int(k) if k.isdigit() else k: v for k, v in self.max_memory.items()}
            if self.offload == "disk":
                Path(self.offload_dir).mkdir(parents=True, exist_ok=True)
                options |= {"offload_folder": self.offload_dir}
        elif self.device != "cpu":
            options["device_map"] = {"": self.device}  # straight there, without a copy in the host's memory
        return options


def decide(
    settings: PlacementConfig,
    *,
    device: str,
    dtype: str,
    weights: Weights | None,
    machine: Machine,
    name: str,
    loads_packed: bool = False,
) -> Placement:
    """The placement of a model called `name` in messages.

    device : "auto", "cpu", "cuda" or "cuda:N". dtype : "auto" or a name. weights : None where not known: then
        nothing is refused. loads_packed : the accelerator quantizes while loading, so the dense weights are
        never together in memory.
    Raises Unsupported, in one line with what would fit.
    """
    place = resolve_device(device, machine)
    kind = resolve_dtype(dtype, place)
    need = 0 if weights is None else round(OVERHEAD * weights.memory(kind))
    plain = Placement(place, kind, settings.attention, needed_bytes=need)
    if place == "cpu" and settings.offload != "disk":
        if loads_packed or need <= machine.host:
            return plain
        raise _too_large(name, plain, machine.host, "memory", weights, machine)
    gpus = _gpus(place, machine)
    wanted = settings.sharding == "balanced" and len(gpus) > 1
    if place != "cpu" and not wanted and (loads_packed or need <= max(gpus.values(), default=0)):
        return plain
    spread = _spread(plain, settings, gpus, machine, need)
    if spread is None:
        raise _too_large(name, plain, sum(gpus.values()) or machine.host, "memory of the GPU", weights, machine)
    return spread


def _spread(
    plain: Placement, settings: PlacementConfig, gpus: Mapping[str, int], machine: Machine, need: int
) -> Placement | None:
    """Over several GPUs, then with what does not fit there in the host's memory or on the disk; None if nowhere."""
    room = {number: int(settings.memory_share * size) for number, size in gpus.items()}
    host = int(settings.memory_share * machine.host)
    first = dict(list(room.items())[:1]) if settings.sharding == "none" else room
    if settings.sharding != "none" and len(room) > 1 and need <= sum(room.values()):
        return replace(plain, device_map="balanced", max_memory=room)
    if settings.offload == "cpu" and first and need <= sum(first.values()) + host:
        return replace(plain, device_map="auto", max_memory={**first, "cpu": host}, offload="cpu")
    if settings.offload == "disk":
        limits = {**first, "cpu": host}
        return replace(plain, device_map="auto", max_memory=limits, offload="disk", offload_dir=settings.offload_dir)
    return None


def check_free(placement: Placement, name: str) -> None:
    """Unsupported if the memory that is free at this moment cannot hold the model. Call it right before loading."""
    if placement.dispatched or not placement.needed_bytes:
        return
    free = free_memory(placement.device)
    if placement.needed_bytes > free:
        raise Unsupported(
            f"{name} needs {_gib(placement.needed_bytes)} in {placement.dtype} on {placement.device} and "
            f"{_gib(free)} are free now; end what else runs there, or use a smaller dtype or model"
        )


def machine() -> Machine:
    """The memory of this machine, asked of torch and the operating system. A container's limit counts as its memory."""
    import torch

    gpus = tuple(int(torch.cuda.mem_get_info(i)[1]) for i in range(torch.cuda.device_count()))
    import psutil  # type: ignore[import-untyped]

    limit = _cgroup("memory.max")
    total = int(psutil.virtual_memory().total)
    return Machine(gpus, total if limit is None else min(limit, total))


def free_memory(device: str) -> float:
    """Bytes that can still be allocated on `device`."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    available = float(psutil.virtual_memory().available)
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return available if limit is None or used is None else min(available, float(max(0, limit - used)))


def default_device() -> str:
    """Return "cuda" where a GPU is usable, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_device(device: str, machine: Machine) -> str:
    """`device`, or for "auto" the GPU if there is one; Unsupported for a GPU that is not there."""
    if device == "auto":
        return "cuda" if machine.gpus else "cpu"
    number = device.removeprefix("cuda").removeprefix(":") or "0"
    if device.startswith("cuda") and not (number.isdigit() and int(number) < len(machine.gpus)):
        have = f"0 to {len(machine.gpus) - 1}" if machine.gpus else "none"
        raise Unsupported(f"device={device}: no such GPU (here: {have}); use device=cpu or device=auto")
    return device


def resolve_dtype(name: str, device: str) -> str:
    """`name`, or for "auto" float32 on a CPU and bfloat16 on anything else."""
    if name != "auto":
        return name
    return "float32" if device == "cpu" else "bfloat16"


def _gpus(place: str, machine: Machine) -> dict[str, int]:
    """Memory of the GPUs that may be used: the one named, or all of them for plain "cuda"."""
    named = place.removeprefix("cuda").removeprefix(":")
    if place == "cpu":
        return {}
    return {str(i): size for i, size in enumerate(machine.gpus) if not named or named == str(i)}


def _too_large(
    name: str, plain: Placement, have: float, where: str, weights: Weights | None, machine: Machine
) -> Unsupported:
    assert weights is not None
    fits = _what_fits(plain, weights, machine)
    advice = f"what would fit: {'; '.join(fits)}" if fits else "a smaller model, or a machine with more memory"
    return Unsupported(
        f"{name} needs {_gib(plain.needed_bytes)} in {plain.dtype} and the {where} here is {_gib(have)}; {advice}"
    )


def _what_fits(plain: Placement, weights: Weights, machine: Machine) -> list[str]:
    """Changes of the line that would make the model fit, the least first."""
    found = []
    own = machine.host if plain.device == "cpu" else max(_gpus(plain.device, machine).values(), default=0)
    for dtype in ("bfloat16",) if ITEM_BYTES[plain.dtype] > 2 else ():
        if (half := round(OVERHEAD * weights.memory(dtype))) <= own:
            found.append(f"dtype={dtype} ({_gib(half)})")
    # Scales, and embeddings that stay as they are, make 4 bits about 5.
    quarter = round(OVERHEAD * weights.n_floats * 5 / 8)
    if not weights.packed and quarter <= own:
        found.append(f"a checkpoint that is quantized to 4 bits already (about {_gib(quarter)})")
    if plain.device != "cpu":
        if plain.needed_bytes <= 0.9 * (own + machine.host):
            found.append("placement.offload=cpu for the baseline, slowly")
        if plain.needed_bytes <= machine.host:
            found.append("device=cpu dtype=" + plain.dtype)
    return found


def _cgroup(name: str) -> int | None:
    """A number of this process's control group (version 2), None where there is no limit."""
    try:
        text = (CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
