"""biaslab beside lm-evaluation-harness on the same work: `make perf` prints the table and checks its goals.

The peer runs in an environment of its own at its best batch size (32 for sentences, 8 for long prompts). The
two take turns; processor seconds on one thread are compared, the middle of the rounds' ratios is quoted, and
both must have given the same log p.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.perf.side_by_side import folders, lines, race, works
from tests.perf.side_by_side.rows import ROUNDS, record
from tests.perf.side_by_side.works import Work

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Race:
    """goal : times as fast as the peer, at least. closest : largest |difference| of log p of a whole text."""

    name: str
    model: str
    work: Callable[[Path], Work]
    batch_size: int
    goal: float
    closest: float = 1e-4


def _pairs(n: int) -> Callable[[Path], Work]:
    return lambda data: (whole := works.pairs(data)) | {"pairs": whole["pairs"][: 2 * n]}


RACES = [
    Race("CrowS-Pairs, 1508 pairs", "16M", _pairs(1508), 32, 1.5),
    Race("CrowS-Pairs, 200 pairs, vocabulary 32k", "61M", _pairs(200), 32, 1.8),
    Race("CrowS-Pairs, 200 pairs, vocabulary 128k", "108M", _pairs(200), 32, 2.5),
    Race("CrowS-Pairs, 1508 pairs, overhead-bound", "1M", _pairs(1508), 32, 1.6),
    Race("yes or no, who it is early", "16M", lambda _: works.decisions(late=False, n=108), 8, 1.4),
    Race("yes or no, who it is last", "16M", lambda _: works.decisions(late=True, n=216), 8, 4.5),
    Race("long prompt, 3 answers of several tokens", "16M", lambda _: works.several_tokens(45), 8, 3.0),
    Race("generation, 64 tokens, 256 prompts", "16M", lambda _: works.answers(256, 64), 32, 1.5),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("timed")
    texts = [text for _, text in works.pairs(data_dir)["pairs"]] + list(works.CASES)

    def make(name: str) -> Path:
        folder = root / name
        return folder if folder.exists() else folders.make(folder, folders.SHAPES[name], texts)

    return make


@pytest.mark.parametrize("race_", RACES, ids=lambda r: r.name)
def test_side_by_side(race_: Race, model: Callable[[str], Path], data_dir: Path) -> None:
    if race.peer_python() is None:
        pytest.skip("needs lm-evaluation-harness in .venv-peer (make perf makes it) or BIASLAB_PEER_PYTHON")
    work = race_.work(data_dir)
    ours, theirs = race.race(model(race_.model), work, rounds=ROUNDS, batch_size=race_.batch_size)
    times = race.ratio(ours, theirs)
    row = {
        "work": race_.name, "parameters": race_.model, "ours_s": sorted(ours.cpu)[ROUNDS // 2],
        "theirs_s": sorted(theirs.cpu)[ROUNDS // 2], "times": times, "goal": race_.goal, "way": ours.way,
        "ours_mib": ours.peak_mib, "theirs_mib": theirs.peak_mib,
    }  # fmt: skip
    if work["kind"] == "score":
        row["difference"] = max(abs(a - b) for a, b in zip(ours.values, theirs.values, strict=True))
        assert row["difference"] < race_.closest
    else:
        same = sum(a == b for a, b in zip(ours.values, theirs.values, strict=True))
        row["difference"] = len(ours.values) - same
        assert same >= 0.99 * len(ours.values)  # a tie of two tokens may fall either way
    record(row)
    assert times >= race_.goal


@pytest.mark.parametrize(("name", "n_cells", "goal"), [("one small cell", 1, 2.0), ("12 small cells", 12, 8.0)])
def test_whole_lines(
    name: str, n_cells: int, goal: float, model: Callable[[str], Path], data_dir: Path, tmp_path: Path
) -> None:
    """From the typed line to the stored results: one biaslab process, one run of the peer's command a cell."""
    peer = race.peer_python()
    if peer is None:
        pytest.skip("needs lm-evaluation-harness in .venv-peer (make perf makes it) or BIASLAB_PEER_PYTHON")
    whole, folder = works.pairs(data_dir), model("1M")
    part = [whole | {"pairs": whole["pairs"][100 * i : 100 * (i + 1)]} for i in range(n_cells)]
    files = [lines.write(tmp_path, f"timed{i}", work) for i, work in enumerate(part)]
    seconds = [
        (lines.ours(folder, files, tmp_path / f"ours{n}"), lines.theirs(peer, folder, files, tmp_path / f"peer{n}"))
        for n in range(ROUNDS)
    ]
    ours, theirs = lines.our_scores(tmp_path / "ours0"), lines.their_scores(tmp_path / "peer0")
    assert ours.keys() == theirs.keys() == {file.stem for file in files}
    pairs = [pair for name in ours for pair in zip(ours[name], theirs[name], strict=True)]
    difference = max(abs(a - b) for a, b in pairs)
    assert len(pairs) == 50 * n_cells
    assert difference < 2e-4  # of two log p
    times = statistics.median(theirs / ours for ours, theirs in seconds)
    mine, other = (statistics.median(side) for side in zip(*seconds, strict=True))
    record(
        {
            "work": f"whole process, {name} of 50 pairs", "parameters": "1M", "ours_s": mine, "theirs_s": other,
            "times": times, "goal": goal, "difference": difference,
        }
    )  # fmt: skip
    assert times >= goal
