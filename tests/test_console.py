"""The bars of a terminal: one over cells, one inside the cell that runs, and a count that agrees with the cells."""

from __future__ import annotations

import io

import pytest

from biaslab.console import Reporter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Reporter:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal())
    return Reporter()


def test_a_bar_goes_when_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = on_a_terminal(monkeypatch)
    reporter.start(2)
    for name in ("one", "two"):
        reporter.begin_cell("m none: preparing", 1)
        reporter.begin_cell(name, 5)
        assert reporter._progress is not None
        assert [task.description for task in reporter._progress.tasks] == ["cells", name]
        reporter.end_cell(f"+ {name}", name)
        assert [task.description for task in reporter._progress.tasks] == ["cells"]
    reporter.stop()


def test_cells_that_jobs_share_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = on_a_terminal(monkeypatch)
    reporter.start(3)
    reporter.end_cells("+ job 0", ["base", "one"])
    reporter.end_cells("+ job 1", ["base", "two"])
    assert reporter._progress is not None
    assert reporter._progress.tasks[0].completed == 3
    reporter.stop()
