"""Whatever is in a file or typed in a line: a sentence of ours or a result, never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biaslab.console import visible
from biaslab.errors import BiaslabError, ConfigError, StoreError
from biaslab.models.folders import describe_local, safe_label
from biaslab.results.ledger import read_ledger
from biaslab.results.store import read_json
from biaslab.retry import typed
from biaslab.status import report

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = ("model", "accel", "benchmark", "key", "path", "state", "error", "command", "results", "id", "status", "argv")
CELL = st.dictionaries(st.sampled_from(WORDS), st.text(max_size=12) | JSON, max_size=9)
LEDGER = st.fixed_dictionaries(
    {"schema_version": st.just(1)},
    optional={
        "id": st.text() | JSON, "command": st.text() | JSON, "results": st.text() | JSON, "status": st.text() | JSON,
        "cells": st.lists(CELL, max_size=3) | JSON, "argv": st.lists(st.text(), max_size=3) | JSON, "process": JSON,
    },
)  # fmt: skip


def outcome_of(action: Callable[[], Any], allowed: type[Exception]) -> Any:
    """What an action gives, or the error it may raise."""
    try:
        return action()
    except allowed as error:
        return error


FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.binary(max_size=300))
def test_any_bytes_as_a_record_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "cell.json"
    path.write_bytes(data)
    outcome = outcome_of(lambda: read_json(path)["schema_version"], StoreError)
    assert outcome == 1 or "cell.json" in str(outcome)


def test_a_record_nested_beyond_measure_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cell.json").write_text("[" * 200_000)
    with pytest.raises(StoreError, match=r"cell\.json"):
        read_json(tmp_path / "cell.json")


@FUZZ
@given(ledger=LEDGER)
def test_any_ledger_is_refused_by_name_or_shown(tmp_path: Path, ledger: dict[str, Any]) -> None:
    folder = tmp_path / "sweeps" / "x"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(ledger))
    shown = outcome_of(lambda: all(line.isprintable() for line in report(folder)[0]), StoreError)
    assert shown is True or "sweep.json" in str(shown) or "cannot be read" in str(shown)
    line = outcome_of(lambda: typed(folder, read_ledger(folder)), BiaslabError)
    assert isinstance(line, list) or "sweep.json" in str(line) or "retry: " in str(line)


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a/../../b", "planted/m/none/\0"])
def test_a_ledgers_paths_stay_inside(tmp_path: Path, path: str) -> None:
    cell = {"model": "m", "accel": "none", "benchmark": "p", "key": "k", "path": path, "state": "missing", "error": ""}
    ledger = {"schema_version": 1, "id": "x", "command": "", "results": "r", "status": "running", "cells": [cell]}
    (tmp_path / "sweep.json").write_text(json.dumps(ledger))
    with pytest.raises(StoreError, match="does not stay inside"):
        read_ledger(tmp_path)


@FUZZ
@given(config=JSON)
def test_any_model_config_is_refused_in_one_line(tmp_path: Path, config: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:  # there are no weights, so no config can be right
        describe_local(str(tmp_path))
    assert "\n" not in str(caught.value)


@FUZZ
@given(text=st.text())
def test_labels_are_safe_names_and_terminal_lines_are_printable(tmp_path: Path, text: str) -> None:
    label = safe_label(text)
    assert label
    assert "/" not in label
    assert not label.startswith((".", "-"))
    (tmp_path / label).touch()
    assert visible(text).isprintable()


@pytest.mark.slow
def test_any_override_is_one_line_or_composes() -> None:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from biaslab import config
    from biaslab.console import fail
    from biaslab.messages import one_line

    config.register()
    config.register_resolvers()
    keys = st.sampled_from(
        ["model", "accel", "accel.hqq4.bits", "limit", "seed", "benchmark", "x", "+x", "~model", "{}"]
    )
    values = st.sampled_from(["1", "null", "[a,b]", "hqq4", "${seed}", "'", "{a:1}", "-1", "1e999"]) | st.text(
        max_size=9
    )

    @settings(max_examples=60, deadline=None)
    @given(key=keys, value=values)
    def check(key: str, value: str) -> None:
        try:
            config.validate(config.to_config(compose("config", [f"{key}={value}"])))
        except BiaslabError as refused:
            words = str(refused)
        except (HydraException, OmegaConfBaseException, ValueError) as wrong:
            words = one_line(wrong)
        else:
            return
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            fail(words)
        assert len(printed.getvalue().strip()) > len("biaslab:")
        assert printed.getvalue().splitlines(keepends=True) == [printed.getvalue()]

    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        check()
