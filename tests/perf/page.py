"""python -m tests.perf.page ROWS [DOCS]: what `make perf` measured, into docs/performance.md and docs/growth.svg.

ROWS is the file of JSON lines that BIASLAB_PERF_ROWS named. All goes between the markers of the page, so that no
figure in it is typed by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biaslab.environment import commit, processor_name, versions
from tests.perf import growth
from tests.perf.side_by_side.race import peer_python

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- performance: begin (written by python -m tests.perf.page) -->", "<!-- performance: end -->"
RACES = (
    "work", "parameters", "biaslab, CPU s", "peer, CPU s", "times as fast", "goal", "times the floor", "goal",
    "peak MiB, ours / peer's", "asked", "largest difference", "met",
)  # fmt: skip
THREADS = ("work", "parameters", "biaslab, s", "peer, s", "times as fast", "largest difference")
HALF = (
    "work", "biaslab, CPU s", "peer, CPU s", "times as fast", "one at a time", "packed", "placebo", "peer",
    "packs / placebo move, rms",
)  # fmt: skip
PEERS = ("lm_eval", "torch", "transformers")
PEER = f"from importlib.metadata import version; print(*(name + ' ' + version(name) for name in {PEERS}))"
Row = Mapping[str, Any]


def main(rows: Path, docs: Path = DOCS) -> int:
    """Write page and plot; 1 if a goal is missed, 2 if nothing was measured."""
    found = last([json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()])
    if not found:
        print(f"{rows}: no rows; run tests/perf/test_side_by_side.py with BIASLAB_PERF_ROWS={rows}", file=sys.stderr)
        return 2
    text = "\n\n".join(part for part in parts(found) if part)
    if curves := {row["work"]: row["points"] for row in of(found, "growth")}:
        growth.plot(curves, docs / "growth.svg")
    print(text)
    write(docs / "performance.md", text)
    return 1 if any(map(missed, of(found, "races"))) else 0


def parts(rows: Sequence[Row]) -> Iterable[str]:
    """The page's text, part by part; "" for what was not measured."""
    yield conditions(rows)
    yield races(of(rows, "races"))
    yield bounds(of(rows, "races"))
    yield shares(of(rows, "races"))
    yield threads(of(rows, "threads"))
    yield half(of(rows, "half"))
    yield grown(of(rows, "growth"))


def last(rows: Sequence[Row]) -> list[Row]:
    """The last measurement of each work, in the order of the first."""
    return list({(row["table"], row["work"], row.get("parameters")): row for row in rows}.values())


def of(rows: Sequence[Row], table: str) -> list[Row]:
    """The rows of one table."""
    return [row for row in rows if row["table"] == table]


def missed(row: Row) -> list[str]:
    """The goals of a race that were not met, in words."""
    found = []
    if row["times"] < row["goal"]:
        found.append(f"{row['times']:.2f} times as fast as the peer, the goal is {row['goal']:g}")
    if row.get("floor_goal") and row["over_floor"] > row["floor_goal"]:
        found.append(f"{row['over_floor']:.2f} times the floor, the goal is {row['floor_goal']:g}")
    if row.get("ours_mib", 0) > row.get("theirs_mib", 0):
        found.append(f"a peak of {row['ours_mib']:.0f} MiB, the peer's is {row['theirs_mib']:.0f}")
    return found


def conditions(rows: Sequence[Row]) -> str:
    """Machine, versions, commit and rounds, in a sentence."""
    peer = peer_python()
    theirs = subprocess.run([peer, "-c", PEER], capture_output=True, text=True, check=True).stdout if peer else "?"
    ours = versions()
    changed = ", with changes" if commit()["dirty"] else ""
    rounds = "/".join(str(n) for n in sorted({row["rounds"] for row in rows if row["table"] != "growth"}))
    words = theirs.split()
    peers = ", ".join(f"{name} {version}" for name, version in zip(words[::2], words[1::2], strict=False))
    return (
        f"{processor_name()}, {os.cpu_count()} cores; biaslab at {str(commit()['commit'])[:10]}{changed} with torch "
        f"{ours['torch']} and transformers {ours['transformers']}, against {peers}. Rounds taken in turn: "
        f"{rounds or '-'}; the middle of the rounds' ratios is quoted."
    )


def races(rows: Sequence[Row]) -> str:
    """The races in float32 on one thread."""
    lines = [
        (
            row["work"], row["parameters"], f"{row['ours_s']:.2f}", f"{row['theirs_s']:.2f}", f"**{row['times']:.2f}**",
            f"{row['goal']:g}", f"{row['over_floor']:.2f}" if "over_floor" in row else "-",
            f"{row['floor_goal']:g}" if row.get("floor_goal") else "-", memory(row), row.get("way") or "-",
            difference(row), "no" if missed(row) else "yes",
        )
        for row in rows
    ]  # fmt: skip
    return titled("One thread, float32, processor seconds", RACES, lines)


def bounds(rows: Sequence[Row]) -> str:
    """What bounds each race that missed a goal, by the profile of that very run."""
    lines = []
    for row in rows:
        for words in missed(row):
            spent = sorted(row.get("shares", {}).items(), key=lambda share: -share[1])
            most = ", ".join(f"{name} {100 * share:.0f} %" for name, share in spent[:4])
            lines.append(f"- {row['work']} ({row['parameters']}): {words}. Its time goes into {most or 'starting'}.")
    return "\n".join(["Goals that were not met, and what bounds them:", "", *lines]) if lines else ""


def shares(rows: Sequence[Row]) -> str:
    """Where biaslab's own time of each race goes."""
    rows = [row for row in rows if row.get("shares")]
    if not rows:
        return ""
    kinds = list(rows[0]["shares"])
    lines = [
        (
            row["work"], row["parameters"], *(f"{100 * row['shares'][kind]:.0f} %" for kind in kinds),
            f"{row['gflop']:.0f}" if "gflop" in row else "-",
            f"{row['gflop_per_s']:.0f}" if "gflop_per_s" in row else "-",
        )
        for row in rows
    ]  # fmt: skip
    return titled(
        "Where biaslab's time goes (one more round under torch's profiler, which slows small operators most)",
        ("work", "parameters", *kinds, "needed GFLOP", "GFLOP/s of the floor"),
        lines,
    )


def threads(rows: Sequence[Row]) -> str:
    """The races by the clock."""
    lines = [
        (
            row["work"], row["parameters"], f"{row['ours_s']:.2f}", f"{row['theirs_s']:.2f}", f"**{row['times']:.2f}**",
            difference(row),
        )
        for row in rows
    ]  # fmt: skip
    return titled("Two threads, float32, seconds by the clock", THREADS, lines)


def half(rows: Sequence[Row]) -> str:
    """The races in 16 bits, and what batches alone move there."""
    lines = [
        (
            row["work"], f"{row['ours_s']:.2f}", f"{row['theirs_s']:.2f}", f"**{row['times']:.2f}**",
            *(f"{row[f'{who}_rms']:.3f}, {row[f'{who}_max']:.2f}, {row[f'{who}_flips']}"
              for who in ("alone", "packed", "placebo", "peer")),
            f"{row['packs_move']:.4f} / {row['placebo_moves']:.4f}",
        )
        for row in rows
    ]  # fmt: skip
    return titled(
        "One thread, 16 bits, processor seconds; distance from the exact answers of the rounded weights: rms and "
        "largest in nats of a whole text's log p, pairs of texts that change places",
        HALF,
        lines,
    )


def grown(rows: Sequence[Row]) -> str:
    """Seconds by number of items, above the plot."""
    if not rows:
        return ""
    curves = [dict(row["points"]) for row in rows]
    lines = [(f"{n:,}", *(f"{c[n]:.2f} s, {1000 * c[n] / n:.2f} ms an item" for c in curves)) for n in curves[0]]
    table = titled("Growth with items, processor seconds", ("items", *(row["work"] for row in rows)), lines)
    return table + "\n\n![CPU seconds against items](growth.svg)"


def memory(row: Row) -> str:
    """Both peaks."""
    return f"{row['ours_mib']:.0f} / {row['theirs_mib']:.0f}" if "ours_mib" in row else "-"


def difference(row: Row) -> str:
    """The largest difference of a log p, or how many texts differ."""
    value = row["difference"]
    return f"{value} texts" if isinstance(value, int) else f"{value:.1e} nats"


def titled(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table under its title; "" if it has no lines."""
    if not lines:
        return ""
    return "\n".join(
        [f"### {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        + [f"| {' | '.join(line)} |" for line in lines]
    )


def write(page: Path, text: str) -> None:
    """Replace what stands between the markers of `page`; ValueError where they are not there."""
    old = page.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        raise ValueError(f"{page}: has no performance markers")
    head, rest = old.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:3])))
