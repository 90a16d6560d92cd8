"""Where an error of the user's own arose: his method, his file, his line."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from biaslab.errors import ConfigError
from biaslab.own_class import own_object
from biaslab.own_code import defined_in, raised_in

SOURCE = """import json

def helper(text):
    return json.loads(text)

class Mine:
    def score(self, text):
        return helper(text)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    made = ModuleType("mine")
    exec(compile(SOURCE, str(tmp_path / "mine.py"), "exec"), vars(made))
    return made


def without_this_file(error: BaseException) -> BaseException:
    """The exception as if biaslab and not this test, which counts as a user's file, had called."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return error.with_traceback(frames)


def test_the_method_that_was_called_and_the_last_line_that_is_ones_own(module: ModuleType) -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        module.Mine().score("{")
    assert raised_in(without_this_file(raised.value)) == "Mine.score, mine.py:4"  # json's own frames are not the user's
    assert defined_in(module.Mine, "score") == "Mine.score, mine.py:7"


def test_a_place_elsewhere_is_a_whole_path(module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert defined_in(module.Mine, "score") == f"Mine.score, {tmp_path / 'mine.py'}:7"


def test_what_ships_with_python_or_biaslab_is_not_the_users() -> None:
    with pytest.raises(json.JSONDecodeError) as of_python:
        json.loads("{")
    with pytest.raises(ConfigError) as of_biaslab:
        own_object("x", None, object)
    assert of_biaslab.traceback[-1].path.name == "own_class.py"
    assert [raised_in(without_this_file(error.value)) for error in (of_python, of_biaslab)] == ["", ""]
    assert raised_in(KeyError("never raised")) == ""
    assert defined_in(dict, "get") == "dict.get"
