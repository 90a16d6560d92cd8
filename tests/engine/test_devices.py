"""Nothing in the engine relies on a default device: every tensor is made where the model is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import biaslab
from biaslab.engine.core import Engine
from biaslab.engine.requests import Choice, Decoding, Generate, LogLikelihood, Option, Prompt
from tests.accel.test_contract import CHOICES
from tests.cli.run import ROOT, environment
from tests.engine.conftest import MakeModel
from tests.models.make import TEXT

PACKAGE = str(Path(biaslab.__file__).parent)
FACTORIES = {
    getattr(torch, name)
    for name in ("arange", "empty", "full", "linspace", "ones", "rand", "randint", "randn", "tensor", "zeros")
}


class NeedsDevice(TorchFunctionMode):
    """Fails on a tensor that biaslab's own code makes without saying where; counts those it makes."""

    n_made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES and sys._getframe(1).f_code.co_filename.startswith(PACKAGE):
            assert kwargs.get("device") is not None, f"{func.__name__} without a device"
            self.n_made += 1
        return func(*args, **kwargs)


def test_every_tensor_is_made_on_a_named_device(make_model: MakeModel) -> None:
    model = make_model("llama")
    requests = [
        LogLikelihood(Prompt("", bare=True), TEXT[0]),
        Choice(Prompt("Is it true?"), (Option("yes", (" yes",)), Option("no", (" no",)))),
        *(Generate(Prompt(text, bare=True), 4) for text in TEXT),
    ]
    with NeedsDevice() as mode:
        for side in ("left", "right"):
            for decoding in (Decoding(), Decoding("sampled", top_p=0.9)):
                Engine(padding_side=side).run(model, requests, decoding=decoding, seeds=range(len(requests)))
    assert mode.n_made > 20


def test_the_guard_itself_catches_a_bare_factory() -> None:
    source = compile("import torch; torch.zeros(2)", f"{PACKAGE}/made_up.py", "exec")
    with pytest.raises(AssertionError, match="zeros without a device"), NeedsDevice():
        exec(source, {})


def elsewhere(*choices: str) -> dict[str, Any]:
    """What `python -m tests.engine.elsewhere` found; it registers a backend, so it has a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.engine.elsewhere", *choices]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def check_elsewhere(choices: Sequence[str]) -> None:
    found = elsewhere(*choices)
    tried = {choice: result for choice, result in found.items() if isinstance(result, list)}
    assert tried, found
    for choice, (difference, same_texts) in tried.items():
        if choice == "placebo_dtype":  # half precision rounds differently from run to run of other kernels
            assert difference < 0.2
        else:
            assert difference < 1e-4, choice
            assert same_texts, choice


def test_the_engine_and_accelerators_work_on_a_device_that_is_not_the_default_one() -> None:
    check_elsewhere(("none", "hqq4", "wanda50", "kv4"))


@pytest.mark.slow
def test_every_accelerator_works_on_a_device_that_is_not_the_default_one() -> None:
    check_elsewhere([choice for choice in CHOICES if choice not in ("custom", "prequantized")])


def test_a_tensor_left_on_the_cpu_is_caught() -> None:
    """The guard itself: what forgets the device fails."""
    code = (
        "import torch; from tests.engine.elsewhere import *; kept = register()\n"
        "x = Elsewhere(torch.ones(2))\nassert (x + Elsewhere(torch.ones(2))).device == DEVICE\n"
        "try:\n    x + torch.ones(2)\nexcept RuntimeError as error:\n    print('CAUGHT', error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment())
    assert done.stdout.startswith("CAUGHT aten.add.Tensor: tensors on privateuseone:0 and on cpu"), done


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_gpu_gives_the_numbers_of_the_cpu(make_model: MakeModel, kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from biaslab.models.loading import load

    model = make_model(kind)
    requests = [LogLikelihood(Prompt("", bare=True), text) for text in TEXT]
    on_gpu = Engine().run(load(model.info, device="cuda", dtype="float32"), requests, decoding=Decoding())
    on_cpu = Engine().run(model, requests, decoding=Decoding())
    for a, b in zip(on_gpu, on_cpu, strict=True):
        assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-3)
