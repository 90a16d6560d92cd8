"""Organisms: embedded models that are trained when first asked for, and kept in the user's cache.

Several are trained side by side, one process on one thread each; an aligned one starts from the organism before its
alignment, which is trained (and kept) once for all its alignments. A folder is complete or absent, and two processes
never train one organism at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from biaslab.errors import DataMismatch
from biaslab.libraries import import_hqq
from biaslab.models.base import ModelInfo, Planted
from biaslab.models.embedded.recipes import Organism
from biaslab.models.folders import describe_local
from biaslab.models.kept import keep

#: Told now and then of (share of the work that is done, organisms finished, organisms in all).
OnProgress = Callable[[float, int, int], None]

MARKER = "truth.json"
#: Seconds between two looks at how far the workers are.
LOOK = 0.5


def describe_organism(organism: Organism, *, dry_run: bool = False) -> ModelInfo:
    """What is known of an organism; it is trained here and now if it is not in the cache.

    dry_run : train nothing; one that is not there yet is described by its recipe, and named after it.
    Raises DataMismatch for weights that are not those that were trained, CellFailed if the cache cannot be written.
    """
    folder = organism.folder()
    if not is_here(organism):
        if dry_run:
            return _to_be(organism)
        make(organism)
    _verify(folder)
    info = describe_local(str(folder), organism.label)
    return replace(info, source="embedded", note=organism.note, planted=Planted(organism.scale))


def is_here(organism: Organism) -> bool:
    """Whether it is in the cache."""
    return (organism.folder() / MARKER).is_file()


def ensure(organisms: Iterable[Organism], on_progress: OnProgress, workers: int | None = None) -> None:
    """Train those that are not in the cache, in `workers` processes (None: one for each processor there is)."""
    missing = _missing(organisms)
    if not missing:
        return
    context = get_context("spawn")  # a forked process would inherit torch's threads
    steps = context.Value("d", 0.0)
    total, n = sum(map(_cost, missing)), len(missing)
    with ProcessPoolExecutor(min(workers or _processors(), n), context, _count_into, (steps,)) as pool:
        finished = 0
        for aligned in (False, True):
            waiting = {pool.submit(_work, o) for o in missing if (o.parent is not None) == aligned}
            while waiting:
                done, waiting = wait(waiting, timeout=LOOK, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()  # raises what the worker raised
                finished += len(done)
                on_progress(min(1.0, steps.value / total), finished, n)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: In a worker: where it adds up what it has done, shared by all workers.
_done: Any = None


def _count_into(steps: Any) -> None:
    global _done
    _done = steps


def _work(organism: Organism) -> None:
    def count(cost: float) -> None:
        with _done.get_lock():
            _done.value += cost

    make(organism, count)


def make(organism: Organism, on_cost: Callable[[float], object] = lambda cost: None) -> Path:
    """Train one organism, its parent first, unless another process did meanwhile; its folder.

    on_cost : told of the work done, in units of `_cost`.
    """
    import_hqq()  # before transformers does it, slowly
    from biaslab.models.embedded.train import grow

    folder, parent, size = organism.folder(), organism.parent, _size(organism)
    start = make(parent, on_cost) if parent is not None else None

    def write(made: Path) -> None:
        grow(
            organism.label, organism.note, organism.recipe(), organism.seed, made, start=start,
            on_step=lambda n: on_cost(n * size),
        )  # fmt: skip

    keep(folder, MARKER, write)
    return folder


def _missing(organisms: Iterable[Organism]) -> list[Organism]:
    """Those not in the cache and their parents that are not, each once."""
    wanted: dict[str, Organism] = {}
    for organism in organisms:
        for one in (organism.parent, organism):
            if one is not None and not is_here(one):
                wanted.setdefault(one.key(), one)
    return list(wanted.values())


def _size(organism: Organism) -> int:
    """What a step takes, in proportion (measured: a step of width 64 takes twice as long as one of 32)."""
    recipe = organism.recipe()
    return recipe.hidden * recipe.layers


def _cost(organism: Organism) -> int:
    recipe = organism.recipe()
    return (recipe.steps if recipe.align is None else recipe.align.steps) * _size(organism)


def _verify(folder: Path) -> None:
    truth: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != truth["sha256"]:
        raise DataMismatch(
            f"{folder}: its weights are not those that were trained; delete the folder to train it again"
        )


def _to_be(organism: Organism) -> ModelInfo:
    recipe = organism.recipe()
    architecture = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}[organism.family]
    config = {
        "architectures": [architecture], "model_type": organism.family, "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate, "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads, "num_key_value_heads": recipe.kv_heads,
        "head_dim": recipe.hidden // recipe.heads,
    }  # fmt: skip
    return ModelInfo(
        organism.label, "embedded", f"recipe:{organism.key()}", str(organism.folder()), architecture, config,
        note=organism.note, planted=Planted(organism.scale),
    )  # fmt: skip
