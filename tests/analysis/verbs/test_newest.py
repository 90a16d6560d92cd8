"""A verb without `results=` reads the newest sweep where it is typed, and says which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from analysis.__main__ import main
from tests.analysis.fake import make_sweep

LINES = {
    "gate": ["gate", "candidate=hqq4"],
    "power": ["power"],
    "recommend": ["recommend"],
    "export": ["export", "to=lm_eval", "out=NEW"],
}


@pytest.mark.parametrize("verb", LINES)
def test_without_a_sweep_results_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(LINES[verb]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: results= is needed")
    assert said.err.endswith("no sweep below outputs/sweeps\n")


@pytest.mark.parametrize("verb", LINES)
def test_the_newest_sweep_is_read_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    newest = make_sweep(tmp_path, accels=("hqq4",), n_clusters=8, shift=0.15, noise=0.2)
    older = newest.parent / "older"
    older.mkdir()
    (older / "sweep.json").write_text("{}")  # would be refused if it were read
    os.utime(older / "sweep.json", (1, 1))
    where = newest.relative_to(tmp_path)
    code = main(LINES[verb])
    without = capsys.readouterr().out
    note = f"note: {where} is the newest sweep here; results=... names another.\n"
    assert without.count(note) == 1
    named = [word.replace("NEW", "again") for word in LINES[verb]]
    assert main([*named, f"results={where}"]) == code
    assert capsys.readouterr().out == without.replace(note, "").replace("NEW", "again")
