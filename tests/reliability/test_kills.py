"""The kill test in its short form; tests/reliability/kills.py is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.reliability.kills import PHASES, Tally, kill, table


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_kills_lose_nothing_and_compute_nothing_twice(tmp_path: Path) -> None:
    tally, seconds = kill(16, tmp_path, seed=random.SystemRandom().randrange(2**31))
    assert sum(tally.kills.values()) == 16
    assert (tally.lost, tally.changed, tally.twice, tally.stuck) == (0, 0, 0, 0), table(tally, seconds)
    assert tally.cells_checked > 0


def test_the_table_counts_every_phase() -> None:
    tally = Tally(lost=3)
    tally.kills.update(PHASES)
    text = table(tally, 9.0)
    assert f"| **all** | **{len(PHASES)}** |" in text
    assert "Complete cells lost: 3." in text
