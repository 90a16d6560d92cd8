"""The command that runs the GPU's checks: its table, and its one line where there is no GPU."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.cli.run import ROOT, environment
from tests.gpu.__main__ import Table


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line_and_does_not_pass() -> None:
    command = [sys.executable, "-m", "tests.gpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
    assert (done.returncode, done.stdout) == (2, "no GPU here that torch can use: nothing was checked\n")


def test_the_table_has_a_row_for_every_outcome() -> None:
    table = Table()
    shared = {"when": "call", "skipped": False, "failed": False, "longrepr": None}
    table.pytest_runtest_logreport(
        SimpleNamespace(
            nodeid="t.py::test_a[x]", outcome="passed", user_properties=[("r", 0.98765), ("n", 3)], **shared
        )
    )
    skipped = shared | {"when": "setup", "skipped": True, "longrepr": ("t.py", 1, "Skipped: needs two GPUs")}
    table.pytest_runtest_logreport(
        SimpleNamespace(nodeid="t.py::test_b", outcome="skipped", user_properties=[], **skipped)
    )
    assert table.text().splitlines() == ["passed   a[x]  r 0.9877; n 3", "skipped  b     needs two GPUs"]
