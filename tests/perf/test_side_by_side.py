"""biaslab beside lm-evaluation-harness on the same work: `make perf` prints the table and checks its goals.

The peer runs in an environment of its own at its best batch size (32 for sentences, 8 for long prompts). The
two take turns; processor seconds on one thread are compared, the middle of the rounds' ratios is quoted, and
both must have given the same log p.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.perf.side_by_side import folders, lines, race, works
from tests.perf.side_by_side.rows import ROUNDS, compared, record
from tests.perf.side_by_side.works import Work

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Race:
    """goal : times as fast as the peer, at least. floor : times the floor, at most; 0: no goal, None: not measured."""

    name: str
    model: str
    work: Callable[[Path], Work]
    batch_size: int
    goal: float
    floor: float | None = None


def _pairs(n: int) -> Callable[[Path], Work]:
    return lambda data: (whole := works.pairs(data)) | {"pairs": whole["pairs"][: 2 * n]}


RACES = [
    Race("CrowS-Pairs, 1508 pairs", "16M", _pairs(1508), 32, 1.5, 1.6),
    Race("CrowS-Pairs, 200 pairs, vocabulary 32k", "61M", _pairs(200), 32, 1.8, 1.5),
    Race("CrowS-Pairs, 150 pairs, vocabulary 128k", "108M", _pairs(150), 32, 2.5, 1.7),
    Race("CrowS-Pairs, 1508 pairs, overhead-bound", "1M", _pairs(1508), 32, 1.6, 0),
    Race("yes or no, who it is early", "16M", lambda _: works.decisions(late=False, n=108), 8, 1.4, 1.8),
    Race("yes or no, who it is last", "16M", lambda _: works.decisions(late=True, n=216), 8, 4.5, 0),
    Race("long prompt, 3 answers of several tokens", "16M", lambda _: works.several_tokens(45), 8, 3.0, 0),
    Race("generation, 64 tokens, 256 prompts", "16M", lambda _: works.answers(256, 64), 32, 1.5),
]
#: By the clock, on two threads: no goal but the same answers.
BY_THE_CLOCK = [
    Race("CrowS-Pairs, 400 pairs", "16M", _pairs(400), 32, 0),
    Race("CrowS-Pairs, 100 pairs, vocabulary 128k", "108M", _pairs(100), 32, 0),
    Race("yes or no, who it is early", "16M", lambda _: works.decisions(late=False, n=108), 8, 0),
    Race("generation, 64 tokens, 128 prompts", "16M", lambda _: works.answers(128, 64), 32, 0),
]
#: The exact answers of rounded weights; one text at a time; the placebo is the same arm in other batches.
HALF_CLOSEST = 1.5  # nats of a whole text: what batches alone move in 16 bits
EXACT, ALONE, PLACEBO = {"exact": True}, {"way": "alone"}, {"way": "padded", "max_batch": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("timed")
    texts = [text for _, text in works.pairs(data_dir)["pairs"]] + list(works.CASES)

    def make(name: str) -> Path:
        folder = root / name
        return folder if folder.exists() else folders.make(folder, folders.SHAPES[name], texts)

    return make


def needs_peer() -> str:
    peer = race.peer_python()
    if peer is None:
        pytest.skip("needs lm-evaluation-harness in .venv-peer (make perf makes it) or BIASLAB_PEER_PYTHON")
    return peer


@pytest.mark.parametrize("race_", RACES, ids=lambda r: r.name)
def test_side_by_side(race_: Race, model: Callable[[str], Path], data_dir: Path) -> None:
    needs_peer()
    work, has_floor = race_.work(data_dir), race_.floor is not None
    ours, theirs, more = race.race(
        model(race_.model), work, rounds=ROUNDS, batch_size=race_.batch_size, floor=has_floor, shares=True
    )
    row = compared(race_.name, race_.model, ours, theirs, "cpu")
    row |= {"table": "races", "goal": race_.goal, "shares": more.shares}
    if has_floor:
        row["over_floor"] = statistics.median(s / f["floor_s"] for s, f in zip(ours.cpu, more.floors, strict=True))
        row["gflop"], row["floor_goal"] = more.floors[0]["gflop"], race_.floor
        row["gflop_per_s"] = statistics.median(f["gflop_per_s"] for f in more.floors)
    record(row)
    assert row["times"] >= race_.goal
    assert not race_.floor or row["over_floor"] <= race_.floor
    assert ours.peak_mib <= theirs.peak_mib


@pytest.mark.parametrize("race_", BY_THE_CLOCK, ids=lambda r: r.name)
def test_two_threads_by_the_clock(race_: Race, model: Callable[[str], Path], data_dir: Path) -> None:
    needs_peer()
    work = race_.work(data_dir)
    ours, theirs, _ = race.race(model(race_.model), work, rounds=ROUNDS, batch_size=race_.batch_size, threads=2)
    record(compared(race_.name, race_.model, ours, theirs, "wall") | {"table": "threads"})


@pytest.mark.parametrize(("dtype", "n"), [("bfloat16", 400), ("float16", 50)])
def test_half_precision(dtype: str, n: int, model: Callable[[str], Path], data_dir: Path) -> None:
    """The peer with a softmax in float32; packs are as near to the exact answers as one text at a time."""
    needs_peer()
    ours, theirs, more = race.race(
        model("16M"), _pairs(n)(data_dir), rounds=ROUNDS, batch_size=32, dtype=dtype, others=(EXACT, ALONE, PLACEBO)
    )
    exact, alone, placebo = more.others
    row = compared(f"CrowS-Pairs, {n} pairs, {dtype}", "16M", ours, theirs, "cpu", closest=HALF_CLOSEST)
    row |= {"table": "half", "packs_move": rms(ours.values, alone), "placebo_moves": rms(placebo, alone)}
    for name, values in (("alone", alone), ("packed", ours.values), ("placebo", placebo), ("peer", theirs.values)):
        row[f"{name}_rms"] = rms(values, exact)
        row[f"{name}_max"] = max(abs(a - b) for a, b in zip(values, exact, strict=True))
        row[f"{name}_flips"] = sum(
            (a > b) != (c > d) for a, b, c, d in zip(values[::2], values[1::2], exact[::2], exact[1::2], strict=True)
        )
    record(row)
    assert ours.way == "packed"
    assert row["packed_rms"] <= 1.3 * row["alone_rms"]


def rms(values: Sequence[float], others: Sequence[float]) -> float:
    return statistics.fmean((a - b) ** 2 for a, b in zip(values, others, strict=True)) ** 0.5


@pytest.mark.parametrize(("name", "n_cells", "goal"), [("one small cell", 1, 2.0), ("12 small cells", 12, 8.0)])
def test_whole_lines(
    name: str, n_cells: int, goal: float, model: Callable[[str], Path], data_dir: Path, tmp_path: Path
) -> None:
    """From the typed line to the stored results: one biaslab process, one run of the peer's command a cell."""
    peer = needs_peer()
    whole, folder = works.pairs(data_dir), model("1M")
    part = [whole | {"pairs": whole["pairs"][100 * i : 100 * (i + 1)]} for i in range(n_cells)]
    files = [lines.write(tmp_path, f"timed{i}", work) for i, work in enumerate(part)]
    own, other = [], []
    for n in range(ROUNDS):
        own.append(lines.ours(folder, files, tmp_path / f"ours{n}"))
        # Of many cells the peer runs a part after each run of ours: each of its runs is the whole process again.
        mine = files if n_cells < ROUNDS else files[n * n_cells // ROUNDS : (n + 1) * n_cells // ROUNDS]
        other.append(lines.theirs(peer, folder, mine, tmp_path / "peer") * n_cells / len(mine))
    ours, theirs = lines.our_scores(tmp_path / "ours0"), lines.their_scores(tmp_path / "peer")
    assert ours.keys() == theirs.keys() == {file.stem for file in files}
    pairs = [pair for name in ours for pair in zip(ours[name], theirs[name], strict=True)]
    difference = max(abs(a - b) for a, b in pairs)
    assert len(pairs) == 50 * n_cells
    assert difference < 2e-4  # of two log p
    times = statistics.median(t / o for o, t in zip(own, other, strict=True))
    record(
        {
            "table": "races", "work": f"whole process, {name} of 50 pairs", "parameters": "1M",
            "ours_s": statistics.median(own), "theirs_s": statistics.median(other), "times": times, "goal": goal,
            "difference": difference,
        }
    )  # fmt: skip
    assert times >= goal
