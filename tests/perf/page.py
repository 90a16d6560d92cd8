"""python -m tests.perf.page ROWS [DOCS]: what `make perf` measured, into docs/performance.md and docs/growth.svg.

ROWS is the file of JSON lines that BIASLAB_PERF_ROWS named. Between the markers of the page, so that no figure
in it is typed by hand; the growth of cost with items is measured here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch

from biaslab.environment import commit, processor_name, versions
from tests.perf import growth
from tests.perf.side_by_side.race import peer_python

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- performance: begin (written by python -m tests.perf.page) -->", "<!-- performance: end -->"
COLUMNS = (
    "work", "parameters", "biaslab, CPU s", "peer, CPU s", "times as fast", "goal", "met", "asked",
    "peak MiB, ours / peer's", "largest difference",
)  # fmt: skip
PEERS = ("lm_eval", "torch", "transformers")
PEER = f"from importlib.metadata import version; print(*(name + ' ' + version(name) for name in {PEERS}))"


def main(rows: Path, docs: Path = DOCS) -> int:
    """Measure the growth, then write page and plot; 1 if a goal is missed, 2 if nothing was measured."""
    found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    if not found:
        print(f"{rows}: no rows; run tests/perf/test_side_by_side.py with BIASLAB_PERF_ROWS={rows}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        points = growth.measure(Path(folder))
    growth.plot(points, docs / "growth.svg")
    text = "\n\n".join([conditions(found), table(found), grown(points)])
    print(text)
    write(docs / "performance.md", text)
    return 0 if all(met(row) for row in last(found)) else 1


def last(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last measurement of each work, in the order of the first."""
    return list({row["work"]: row for row in rows}.values())


def met(row: Mapping[str, Any]) -> bool:
    """Whether a race was won by as much as its goal asks."""
    return bool(row["times"] >= row["goal"])


def conditions(rows: Sequence[Mapping[str, Any]]) -> str:
    """Machine, versions, commit and rounds, in a sentence."""
    peer = peer_python()
    theirs = subprocess.run([peer, "-c", PEER], capture_output=True, text=True, check=True).stdout if peer else "?"
    ours = versions()
    changed = ", with changes" if commit()["dirty"] else ""
    rounds = "/".join(str(n) for n in sorted({row["rounds"] for row in rows}))
    words = theirs.split()
    peers = ", ".join(f"{name} {version}" for name, version in zip(words[::2], words[1::2], strict=False))
    return (
        f"{processor_name()}, {os.cpu_count()} cores, one thread, float32; biaslab at {str(commit()['commit'])[:10]}"
        f"{changed} with torch {ours['torch']} and transformers {ours['transformers']}, against {peers}. "
        f"Rounds taken in turn: {rounds}; the middle of the rounds' ratios is quoted."
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The races as Markdown: the last measurement of each work."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in last(rows):
        memory = f"{row['ours_mib']:.0f} / {row['theirs_mib']:.0f}" if "ours_mib" in row else "-"
        texts = isinstance(row["difference"], int)
        difference = f"{row['difference']} texts" if texts else f"{row['difference']:.1e} nats"
        lines.append(
            f"| {row['work']} | {row['parameters']} | {row['ours_s']:.2f} | {row['theirs_s']:.2f} | "
            f"**{row['times']:.2f}** | {row['goal']:g} | {'yes' if met(row) else 'no'} | {row.get('way') or '-'} | "
            f"{memory} | {difference} |"
        )
    return "\n".join(lines)


def grown(points: Sequence[tuple[int, float]]) -> str:
    """Seconds by number of items, as Markdown, above the plot."""
    lines = ["| items | CPU s | ms an item |", "|---|---|---|"]
    lines += [f"| {n:,} | {seconds:.2f} | {1000 * seconds / n:.2f} |" for n, seconds in points]
    return "\n".join(lines) + "\n\n![CPU seconds against items](growth.svg)"


def write(page: Path, text: str) -> None:
    """Replace what stands between the markers of `page`; ValueError where they are not there."""
    old = page.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise ValueError(f"{page}: has no performance markers")
    head, rest = old.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:3])))
