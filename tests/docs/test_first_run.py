"""docs/first_run.md line by line in an empty folder; real runs are cut short, nothing else is changed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.run import biaslab
from tests.docs import pages

#: Lines of the page that other tests run, or that need the hub.
ELSEWHERE = {
    "python -m biaslab experiment=quickstart": "tests/cli/test_mission.py",
    "python -m biaslab doctor": "tests/test_doctor.py",
    "python -m biaslab model=smollm accel=hqq4 limit=200": "needs the hub",
}
SHORT = ["limit=20", "analysis.n_resamples=199"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_as_typed(tmp_path: Path) -> None:
    lines = [c.text for c in pages.commands(pages.ROOT / "docs" / "first_run.md") if c.block]
    lines = [line for line in lines if line.startswith("python -m biaslab")]
    assert set(ELSEWHERE) <= set(lines)
    said = []
    for line in lines:
        if line in ELSEWHERE:
            continue
        words = shlex.split(line)[3:]
        verb = bool(words) and "=" not in words[0] and not words[0].startswith("-")
        ended = biaslab(tmp_path, *words, *([] if verb else SHORT))
        assert ended.code == 0, (line, ended)
        assert ended.err == "", (line, ended)
        said.append(ended.out)
    assert "nothing was computed (dry_run=true)" in said[0]
    assert "Report: " in said[1]
    assert "Every cell was complete already" in said[2]
    assert "complete" in said[3]
    assert len(list((tmp_path / "outputs" / "reports").glob("*/report.html"))) == len(lines) - len(ELSEWHERE) - 3
