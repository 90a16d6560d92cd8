"""Two worker processes that take turns at the same work; the middle of the ratios is what is quoted."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.perf.side_by_side.works import Work

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@dataclass(frozen=True)
class Side:
    """Processor and wall seconds of each round, what was answered, and the process's peak memory."""

    cpu: list[float]
    wall: list[float]
    values: list[Any]
    peak_mib: float
    way: str = ""


@dataclass(frozen=True)
class More:
    """What only our side is asked, after or between the rounds.

    floors : of each round, see `floor`. shares : of one more round's time by kind of work. others : the answers
    under each of the engine's other settings that were asked for.
    """

    floors: list[dict[str, float]]
    shares: dict[str, float]
    others: list[list[Any]]


def peer_python() -> str | None:
    """The interpreter of the environment that holds lm-evaluation-harness, or None (make perf makes it)."""
    found = Path(os.environ.get("BIASLAB_PEER_PYTHON", ROOT / ".venv-peer/bin/python"))
    return str(found) if found.exists() else None


def race(
    model: Path,
    work: Work,
    *,
    rounds: int,
    batch_size: int,
    threads: int = 1,
    device: str = "cpu",
    dtype: str = "float32",
    floor: bool = False,
    shares: bool = False,
    others: Sequence[Mapping[str, Any]] = (),
) -> tuple[Side, Side, More]:
    """(ours, theirs, more) over `rounds` rounds in turn, after a part of the work each that is not counted."""
    peer = peer_python()
    assert peer is not None
    start = {"model": str(model), "threads": threads, "device": device, "dtype": dtype, "batch_size": batch_size}
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(_worker(python, script, start))
            for python, script in ((sys.executable, "ours.py"), (peer, "theirs.py"))
        )
        for side in (ours, theirs):  # both load at the same time
            _hear(side)
        answers: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        floors = []
        for side in (ours, theirs):
            _ask(side, {"work": part(work, 8)})
        for n in range(rounds):
            for side, kept in zip((ours, theirs), answers, strict=True):
                kept.append(_ask(side, {"work": work} if n == 0 else {}))
            if floor:
                floors.append(_ask(ours, {"what": "floor"}))
        more = More(
            floors,
            _ask(ours, {"what": "profile"}) if shares else {},
            [_ask(ours, {"engine": settings})["values"] for settings in others],
        )
    return _side(answers[0]), _side(answers[1]), more


def part(work: Work, of: int) -> Work:
    """The first of so many parts of a work, an even number of its texts."""
    name = "pairs" if work["kind"] == "score" else "prompts"
    return {**work, name: work[name][: max(2, len(work[name]) // of // 2 * 2)]}


def ratio(ours: Side, theirs: Side, what: str = "cpu") -> float:
    """How many times the peer's time is ours: the median over the rounds' own ratios."""
    mine, other = getattr(ours, what), getattr(theirs, what)
    return statistics.median(t / o for o, t in zip(mine, other, strict=True))


def _side(answers: list[dict[str, Any]]) -> Side:
    return Side(
        [a["cpu"] for a in answers], [a["wall"] for a in answers], answers[-1]["values"],
        max(a["peak_mib"] for a in answers), answers[-1].get("way", ""),
    )  # fmt: skip


@contextmanager
def _worker(python: str, script: str, start: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    env = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(start["threads"]), "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_OFFLINE": "1",
    }  # fmt: skip
    if start["device"] == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    process = subprocess.Popen(
        [python, str(HERE / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=env,
    )  # fmt: skip
    try:
        _tell(process, start)
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def _ask(process: subprocess.Popen[str], asked: dict[str, Any]) -> dict[str, Any]:
    _tell(process, asked)
    return _hear(process)


def _tell(process: subprocess.Popen[str], asked: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError(f"{process.args}: ended without an answer")
