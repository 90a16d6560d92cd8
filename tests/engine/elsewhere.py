"""A device that is not the default one, on a machine that has only one: tensors that say they are elsewhere.

`Elsewhere` wraps a CPU tensor and reports torch's privateuse device. As on a real device, an operation that
mixes it with a CPU tensor (of more than one number) raises, and a factory that names no device makes a CPU
tensor: code that forgot to say where fails here as it would on a GPU.

    python -m tests.engine.elsewhere CHOICE...    applies each accelerator to a model elsewhere and asks it

prints JSON: choice -> [largest |difference| of a log p from the same on the CPU, whether its texts are the same],
or why it was left out. In a process of its own, because a backend is registered for good.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("privateuseone:0")
#: Copies go between devices, and torch lets an index be on the CPU.
MAY_MIX = {
    torch.ops.aten._to_copy.default,
    torch.ops.aten.copy_.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
}


class Elsewhere(torch.Tensor):
    """A CPU tensor `inside` that reports to be on DEVICE."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inside.shape, strides=inside.stride(), storage_offset=inside.storage_offset(),
            dtype=inside.dtype, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.inside = inside
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.inside!r})"

    def tolist(self) -> Any:
        return self.inside.tolist()  # a real device copies; torch refuses a subclass

    def untyped_storage(self) -> Any:
        return self.inside.untyped_storage()

    def data_ptr(self) -> int:
        return self.inside.data_ptr()

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the tensors inside; its result is elsewhere if its operands or its `device` are."""
    target = kwargs.get("device")
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    away = any(isinstance(t, Elsewhere) for t in tensors)
    strangers = [tuple(t.shape) for t in tensors if not isinstance(t, Elsewhere) and t.dim() > 0]
    if away and strangers and func not in MAY_MIX:
        raise RuntimeError(f"{func}: tensors on {DEVICE} and on cpu, {strangers}")
    inner = kwargs | ({"device": torch.device("cpu")} if "device" in kwargs else {})
    out = func(*tree_map(_inside, args), **tree_map(_inside, inner))
    name = func._schema.name
    if name.endswith("_") and not name.endswith("__") and isinstance(args[0], torch.Tensor):
        return args[0]  # in place
    if func is torch.ops.aten._local_scalar_dense.default:
        return out
    wrap = away if target is None else _is_there(torch.device(target))
    return tree_map(lambda t: Elsewhere(t) if wrap and type(t) is torch.Tensor else t, out)


def _inside(value: Any) -> Any:
    return value.inside if isinstance(value, Elsewhere) else value


class Factories(TorchFunctionMode):
    """Makes what is asked for on DEVICE: torch itself has no such device to make it on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        there = _is_there(kwargs.get("device")) or (func is torch.Tensor.to and len(args) > 1 and _is_there(args[1]))
        if not there:
            return func(*args, **kwargs)
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        made = func(*(("cpu" if _is_there(a) else a) for a in args), **kwargs)
        return made if isinstance(made, Elsewhere) else Elsewhere(made)


def _is_there(device: Any) -> bool:
    if isinstance(device, str):
        return device.startswith("privateuseone")
    return isinstance(device, torch.device) and device.type == "privateuseone"


def move(module: torch.nn.Module) -> None:
    """Put every parameter and buffer elsewhere; tied ones stay tied."""
    moved: dict[int, Any] = {}
    for m in module.modules():
        for name, value in [*m._parameters.items(), *m._buffers.items()]:
            if value is None:
                continue
            away = moved.setdefault(id(value), Elsewhere(value.detach()))
            if name in m._parameters:
                m._parameters[name] = torch.nn.Parameter(away, requires_grad=False)
            else:
                m._buffers[name] = away


def register() -> Any:
    """Let torch's own code make tensors here, scalars above all. Once a process; keep what it returns."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend()
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")

    def empty(size: Any, *, dtype: Any = None, **_: Any) -> Elsewhere:
        return Elsewhere(torch.empty(size, dtype=dtype))

    def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Elsewhere:
        return Elsewhere(torch.empty_strided(size, stride, dtype=dtype))

    library.impl("empty.memory_format", empty)
    library.impl("empty_strided", empty_strided)
    return library


TEXT = "The nurse said that she was tired, and the doctor said that he was late."


def compare(choice: str) -> Any:
    """The engine and one accelerator, here and elsewhere."""
    from tests.accel import tiny
    from tests.accel.test_contract import from_yaml, quick

    accel = quick(from_yaml(choice))
    if reason := accel.unsupported(tiny.make("llama").info, "cpu"):
        return reason
    if accel.requires and accel.extra:
        return f"the kernels of {', '.join(accel.requires)} know no wrapped tensors"
    here = _ask(accel.apply(tiny.make("llama"), choice))
    model = tiny.make("llama")
    move(model.module)
    model.device = DEVICE
    with Factories():
        there = _ask(accel.apply(model, choice))
    pairs = zip(here[0], there[0], strict=True)
    return [max(abs(a - b) for a, b in pairs), here[1] == there[1]]


def _ask(model: Any) -> tuple[list[float], list[str]]:
    from biaslab.engine.core import Engine
    from biaslab.engine.requests import Choice, Decoding, Generate, LogLikelihood, Option, Prompt

    scored = [
        LogLikelihood(Prompt("", bare=True), TEXT),
        LogLikelihood(Prompt("Is it true?"), " Yes it is"),
        Choice(Prompt("Is it true?"), (Option("yes", (" yes", " Yes")), Option("no", (" no",)))),
    ]
    written = [Generate(Prompt(text, bare=True), 4) for text in ("Hello there", "A")]
    requests = [*scored, *written]
    numbers, texts = [], []
    for side in ("left", "right"):
        answers: list[Any] = Engine(padding_side=side).run(
            model, requests, decoding=Decoding("sampled", top_p=0.9), seeds=range(len(requests))
        )
        numbers += [x for a in answers[:2] for x in a.token_logprobs] + list(answers[2].logprobs)
        texts += [a.text for a in answers[3:]]
    return numbers, texts


def main(choices: list[str]) -> None:
    """Compare every choice and print what came out."""
    from biaslab.accel import layers
    from biaslab.libraries import import_hqq

    import_hqq()
    torch.set_num_threads(1)
    kept = register()
    torch.inference_mode = torch.no_grad  # type: ignore[misc, assignment]  # it knows no wrapped tensors
    plain = layers._is_plain  # a wrapped tensor is as plain as what is inside
    layers._is_plain = lambda weight: isinstance(weight, Elsewhere) or plain(weight)
    print(json.dumps({choice: compare(choice) for choice in choices}))
    del kept


if __name__ == "__main__":
    main(sys.argv[1:])
