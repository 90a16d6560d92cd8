"""python -m tests.perf.gpu: biaslab beside lm-evaluation-harness on a GPU, by the clock (`make perf-gpu`).

Llamas of random weights in the shapes of 1B and 8B, in bfloat16, the peer with its softmax in float32. Where torch
sees no GPU, nothing is measured and the exit code is 2.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.perf import page
from tests.perf.side_by_side import folders, race, rows, works
from tests.perf.side_by_side.folders import GPU_SHAPES, Shape

DTYPE = "bfloat16"
#: Batching alone moves a text's log p by some tenths of a nat in bfloat16.
CLOSEST = 2.0
COLUMNS = (
    "work", "parameters", "biaslab, s", "peer, s", "times as fast", "times the floor", "peak MiB, ours / peer's",
    "largest difference",
)  # fmt: skip


def jobs(size: int) -> dict[str, tuple[works.Work, int]]:
    """Name -> (work of about so many prompts, batch size of the peer)."""
    return {
        "yes or no, who it is early": (works.decisions(late=False, n=size), 32),
        "yes or no, who it is last": (works.decisions(late=True, n=size), 32),
        "long prompt, 3 answers of several tokens": (works.several_tokens(size), 32),
        "generation, 64 tokens": (works.answers(size, 64), 64),
    }


def measure(
    folder: Path, device: str = "cuda", shapes: Mapping[str, Shape] = GPU_SHAPES, size: int = 216, rounds: int = 3
) -> Iterator[dict[str, Any]]:
    """A row for each shape and work; the races of tests/perf/test_side_by_side.py on another device."""
    for name, shape in shapes.items():
        model = folders.make(folder / name, shape, works.CASES, device=device, dtype=DTYPE)
        for label, (work, batch_size) in jobs(size).items():
            ours, theirs, more = race.race(
                model, work, rounds=rounds, batch_size=batch_size, device=device, dtype=DTYPE,
                floor=work["kind"] == "score",
            )  # fmt: skip
            row = rows.compared(label, name, ours, theirs, "wall", closest=CLOSEST, same=0.0)
            if more.floors:
                row["over_floor"] = min(ours.wall) / min(f["floor_s"] for f in more.floors)
            yield row | {"table": "gpu"}


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        (
            row["work"], row["parameters"], f"{row['ours_s']:.2f}", f"{row['theirs_s']:.2f}", f"**{row['times']:.2f}**",
            f"{row['over_floor']:.2f}" if "over_floor" in row else "-", page.memory(row), page.difference(row),
        )
        for row in found
    ]  # fmt: skip
    return page.titled(f"One GPU, {DTYPE}, seconds by the clock", COLUMNS, lines)


def main() -> int:
    """Measure and print; 2 with a line where there is no GPU or no peer."""
    import torch

    if not torch.cuda.is_available():
        print("no GPU here that torch can use: nothing was measured", file=sys.stderr)
        return 2
    if race.peer_python() is None:
        print("no lm-evaluation-harness: run make perf-gpu, or set BIASLAB_PEER_PYTHON", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        found = [*map(rows.record, measure(Path(folder)))]
    print(page.conditions(found), torch.cuda.get_device_name(), "", table(found), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
