"""Secrets stay out of logs, records, ledgers and the terminal."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from biaslab.secrets import RedactingFormatter, redact
from tests.cli.run import environment

TOKEN = "hf_" + "Ab3" * 11
KEY = "0123456789abcdef" * 2 + "wxyz"


def test_values_of_secret_variables_are_hidden_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("MY_FOLDER", "/some/long/folder")
    monkeypatch.setenv("HF_TOKEN", "short")
    assert redact(f"key {KEY} in /some/long/folder short") == "key *** in /some/long/folder short"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"token={TOKEN}", "token=***"),
        ("Authorization: Bearer abcdefghijklmnop.qrstu", "Authorization: Bearer ***"),
        ("https://me:hunter22@host/x", "https://***@host/x"),
        ("AKIA" + "A1" * 8, "***"),
        ("ghp_" + "x" * 30, "***"),
        ("k=sk-proj-" + "aB3_" * 8, "k=***"),
        ("xoxb-" + "1234567890" * 2, "***"),
        ("task-force-of-many-people-and-words risk-averse", "task-force-of-many-people-and-words risk-averse"),
        ("hf_hub https://host:8080/x hqq4", "hf_hub https://host:8080/x hqq4"),
    ],
)
def test_shapes_of_secrets_are_hidden_wherever_they_come_from(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_tracebacks_in_logs_are_redacted() -> None:
    try:
        raise ValueError(TOKEN)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed with %s", (TOKEN,), sys.exc_info())
    text = RedactingFormatter("%(message)s").format(record)
    assert "Traceback" in text
    assert TOKEN not in text


def test_no_file_of_a_failed_sweep_and_no_line_on_the_terminal_holds_a_secret(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os\nfrom biaslab import cell\n"
        "def compute(*args, **kwargs):\n"
        "    raise RuntimeError('the server said: ' + os.environ['WANDB_API_KEY'] + ' and ' + os.environ['ODD'])\n"
        "cell.compute = compute\n"
    )
    env = environment(WANDB_API_KEY=KEY, HF_TOKEN=TOKEN, ODD=TOKEN)
    env["PYTHONPATH"] = f"{hook}:{env['PYTHONPATH']}"
    line = [sys.executable, "-m", "biaslab", "accel=none", "benchmark=planted", "limit=4", f"prompt.system={TOKEN}"]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done
    assert "the server said: *** and ***" in done.stderr
    leaks = [str(p) for p in (tmp_path / "outputs").rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    assert leaks == []
    assert KEY not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    for name in ("sweep.json", "cells.json", "biaslab.log"):
        for path in (tmp_path / "outputs" / "sweeps").rglob(name):
            assert TOKEN not in path.read_text(), path
