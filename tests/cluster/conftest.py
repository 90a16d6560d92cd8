"""One Slurm for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, lacking

if os.environ.get("BIASLAB_REQUIRE_CLUSTER"):  # where these tests must run, a lacking program is an error
    ABSENT = [*lacking(), *(name for name in ("submitit", "ray", "joblib") if find_spec(name) is None)]
    if ABSENT or os.geteuid() != 0:
        raise RuntimeError(f"the cluster tests need {', '.join(ABSENT) or 'root'}: tests/cluster/install.sh, as root")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A running cluster of two nodes."""
    pytest.importorskip("submitit", reason="needs the extra slurm: tests/cluster/install.sh")
    if absent := lacking():
        pytest.skip(f"needs {', '.join(absent)}: tests/cluster/install.sh")
    if os.geteuid() != 0:
        pytest.skip("needs root to start Slurm's daemons")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, for munge's socket
    cluster = Slurm(folder, port=20000 + 7 * os.getpid() % 9000)  # apart from another worker's
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
