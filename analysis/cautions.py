"""What a reader must know before believing a study: how its arms differ apart from what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.frame import Frame
from analysis.load import Cell
from analysis.study import Missing
from analysis.words import listing, plural

#: Settings outside a cell's key that can move a score, as dotted paths in cell.json.
WATCHED = ("dtype", "environment.device", "environment.device_name", "environment.batch_tokens",
           "environment.max_batch", "placement.kernel", "environment.versions", "environment.commit")  # fmt: skip


def study_cautions(frames: Sequence[Frame], missing: Sequence[Missing], models: Mapping[str, str]) -> list[str]:
    """Cautions of a whole study, one sentence each."""
    out = [f"{model} is no ordinary model: {note}." for model, note in models.items() if note]
    if missing:
        names = listing([f"{m.model} {m.accel} {m.where}" for m in missing], most=4)
        out.append(f"{plural(len(missing), 'cell')} of this study not there ({names}); see what is missing.")
    pools = {frame.pool for frame in frames}
    if len(pools) > 1:
        out.append("Embedded models are analysed apart from the others: the two are never pooled.")
    elif pools == {"embedded"}:
        out.append(
            "All models are embedded toy models with a planted truth: they show that the tool measures right "
            "and say nothing about any other model."
        )
    n_benchmarks = len({(f.benchmark, f.decoding, f.pool) for f in frames})
    if n_benchmarks > 1:
        out.append(f"{n_benchmarks} benchmarks were tested: see the p adjusted over them (Holm) beside each p.")
    cells = [c for f in frames for cs in f.cells.values() for c in cs if c.kind != "placebo"]
    return out + idle_steps(cells) + differing(cells)


def idle_steps(cells: Iterable[Cell]) -> list[str]:
    """One sentence for each step of a stack that moved no logit, with the models and benchmarks where it did not."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        for step in cell.idle:
            found.setdefault((cell.accel, step), {})[f"{cell.model} on {cell.benchmark}"] = None
    return [
        f"{step}, a step of {accel}, moved no logit in the active check ({listing(list(places), most=4)}): what was "
        f"measured there is the stack without {step}."
        for (accel, step), places in found.items()
    ]


def differing(cells: Sequence[Cell]) -> list[str]:
    """One sentence for each watched setting in which cells differ. Placebos differ on purpose: omit them."""
    out = []
    for path in WATCHED:
        if path == "environment.versions":
            out += _differing_versions(cells)
        elif sentence := _sentence(path.rpartition(".")[2], _by_value(cells, path.split("."))):
            out.append(sentence)
    return out


def _differing_versions(cells: Sequence[Cell]) -> list[str]:
    names = sorted({name for c in cells for name in _versions(c)})
    paths = {f"version of {name}": ("environment", "versions", name) for name in names}
    found = [_sentence(text, _by_value(cells, path)) for text, path in paths.items()]
    return [sentence for sentence in found if sentence]


def _versions(cell: Cell) -> Mapping[str, Any]:
    found = _walk(cell.content, ("environment", "versions"))
    return found if isinstance(found, Mapping) else {}


def _by_value(cells: Iterable[Cell], path: Sequence[str]) -> dict[str, list[str]]:
    by_value: dict[str, list[str]] = {}
    for cell in cells:
        arm = f"{cell.model} {cell.accel}"
        arms = by_value.setdefault(str(_walk(cell.content, path)), [])
        if arm not in arms:
            arms.append(arm)
    return by_value


def _sentence(name: str, by_value: Mapping[str, Sequence[str]]) -> str:
    if len(by_value) < 2:
        return ""
    parts = [f"{value} in {listing(arms, most=3)}" for value, arms in by_value.items()]
    return f"Arms that are compared differ in {name.replace('_', ' ')}: {'; '.join(parts)}."


def _walk(value: Any, path: Iterable[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
