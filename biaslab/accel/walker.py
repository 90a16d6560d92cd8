"""The one walk over a model's decoder layers that every calibrated pruner uses.

Layer after layer: the layer's inputs are run through it while hooks gather a statistic of what each of its
Linear layers reads; the pruner changes the weights; the inputs are run through the changed layer and become
the next layer's inputs. So later layers see the pruned earlier ones, and the hidden states of one place in
the model are in memory, never of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from biaslab.accel.layers import decoder_layers
from biaslab.errors import CellFailed

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS_PER_FORWARD = 16


class Statistic(Protocol):
    """What is gathered about the inputs of one Linear layer; its size does not depend on their number."""

    def add(self, inputs: Tensor) -> None:
        """Take in inputs of shape (..., in)."""


S = TypeVar("S", bound=Statistic)


class SumOfSquares:
    """Running sum over tokens of the square of each input channel; `norm` is ||X_j||_2, float32 (in,)."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def add(self, inputs: Tensor) -> None:
        """Take in inputs of shape (..., in)."""
        import torch

        squares = inputs.detach().float().square().reshape(-1, inputs.shape[-1]).sum(0)
        # float64 on the CPU: exact enough for any number of tokens, and every device has a CPU beside it.
        squares = squares.to("cpu", torch.float64)
        self.total = squares if self.total is None else self.total + squares

    def norm(self, like: Tensor) -> Tensor:
        """||X_j||_2 of each input channel, on the device of `like`; 0 where no token came by."""
        import torch

        if self.total is None:  # an expert that no token was routed to
            return torch.zeros(like.shape[-1], device=like.device)
        return self.total.sqrt().float().to(like.device)


@dataclass
class _Call:
    """One batch on its way: its hidden states, and what each layer is called with beside them."""

    hidden: Tensor | None = None
    rest: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)


def walk(
    module: nn.Module,
    ids: Tensor,
    statistic: Callable[[], S],
    change: Callable[[str, nn.Linear, S], None],
) -> None:
    """Call `change(name, linear, statistic)` for every Linear layer of every decoder layer, in order.

    ids : calibration token ids (rows, length), unpadded, on the model's device.
    statistic : makes an empty statistic of one Linear layer's inputs.
    change : may change the layer's weight in place.
    Raises CellFailed if the model's layers are not found or do not take hidden states.
    """
    import torch

    prefix, layers = decoder_layers(module)
    was_training = module.training
    module.eval()
    with torch.no_grad():
        calls = _capture(module, layers, ids)
        for i, layer in enumerate(layers):
            targets = _linears_of(layer)
            gathered = {name: statistic() for name in targets}
            with _listening(targets, gathered):
                for call in calls:
                    _run(layer, call, i)
            for name, linear in targets.items():
                change(f"{prefix}.{i}.{name}", linear, gathered.pop(name))  # given up when it has served
            for call in calls:
                # Nobody reads what the last layer gives.
                call.hidden = _run(layer, call, i) if i + 1 < len(layers) else None
    module.train(was_training)


def _linears_of(layer: nn.Module) -> dict[str, nn.Linear]:
    from torch import nn

    return {name: m for name, m in layer.named_modules() if isinstance(m, nn.Linear)}


@contextmanager
def _listening(targets: dict[str, nn.Linear], gathered: dict[str, S]) -> Iterator[None]:
    """Feed the statistics. Layers that read one and the same tensor (query, key, value) share one statistic."""
    with ExitStack() as stack:
        last: list[tuple[Tensor, str]] = []  # the newest tensor that was read, and who read it first
        for name, linear in targets.items():
            stack.callback(linear.register_forward_pre_hook(_feeder(name, gathered, last)).remove)
        yield


def _feeder(
    name: str, gathered: dict[str, S], last: list[tuple[Tensor, str]]
) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    fed = False

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal fed
        inputs: Tensor = args[0]
        if last and last[0][0] is inputs and (not fed or gathered[name] is gathered[last[0][1]]):
            gathered[name] = gathered[last[0][1]]
        else:
            last[:] = [(inputs, name)]
            gathered[name].add(inputs)
        fed = True

    return hook


def _run(layer: nn.Module, call: _Call, i: int) -> Tensor:
    args, kwargs = call.rest[i]
    output = layer(call.hidden, *args, **kwargs)
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _capture(module: nn.Module, layers: nn.ModuleList, ids: Tensor) -> list[_Call]:
    """Inputs of the first layer, and the other arguments of every layer, batch by batch.

    Layers differ in their arguments (a sliding window in some, not in others), so each is asked. For this
    the layers pass their input on unchanged: nothing is computed but the embedding.
    """
    body = getattr(module, "base_model", module)
    as_tuple = _returns_tuple(body, layers[0], ids)
    calls = []
    for rows in ids.split(ROWS_PER_FORWARD):  # type: ignore[no-untyped-call]
        call = _Call()
        with _passing_on(layers, call, as_tuple):
            body(input_ids=rows, use_cache=False)
        if call.hidden is None or len(call.rest) != len(layers):
            raise CellFailed(
                f"{type(module).__name__}: {len(call.rest)} calls of {len(layers)} decoder layers; "
                "a calibrated pruner needs all of them"
            )
        calls.append(call)
    return calls


def _returns_tuple(body: nn.Module, layer: nn.Module, ids: Tensor) -> bool:
    seen: list[bool] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(isinstance(output, tuple))

    handle = layer.register_forward_hook(hook)
    try:
        body(input_ids=ids[:1, :2], use_cache=False)
    finally:
        handle.remove()
    return bool(seen and seen[0])


@contextmanager
def _passing_on(layers: nn.ModuleList, call: _Call, as_tuple: bool) -> Iterator[None]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        if args:
            hidden, args = args[0], args[1:]
        elif "hidden_states" in kwargs:
            hidden = kwargs.pop("hidden_states")
        else:
            raise CellFailed("the decoder layers of this model take no hidden states where they are expected")
        if call.hidden is None:
            call.hidden = hidden
        call.rest.append((args, kwargs))
        return (hidden,) if as_tuple else hidden

    own = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            del layer.forward
            if before is not None:
                layer.forward = before
