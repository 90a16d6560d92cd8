"""What every test shares: offline by force, one thread, the real files where they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="disabled", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", CI="1"
)
# A run in the background of a script inherits an ignored SIGINT, and so would each program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-browser", action="store_true", help="fail where no browser is found")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real benchmark files and text-trained checkpoints (BIASLAB_DATA_DIR)."""
    folder = os.environ.get("BIASLAB_DATA_DIR")
    if folder and Path(folder).is_dir():
        return Path(folder)
    if os.environ.get("BIASLAB_REQUIRE_DATA"):
        pytest.fail("BIASLAB_REQUIRE_DATA is set, but BIASLAB_DATA_DIR is no folder")
    pytest.skip("needs the real benchmark files: set BIASLAB_DATA_DIR")
