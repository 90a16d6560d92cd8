from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("biaslab_setup", ROOT / ".ci" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PIP = ["python", "-m", "pip"]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (dict(linux=True, gpu=False, cpu_index=True, cuda_free=False), ["-i", "https://download.pytorch.org/whl/cpu"]),
        (dict(linux=True, gpu=False, cpu_index=False, cuda_free=True), []),
        (dict(linux=True, gpu=True, cpu_index=True, cuda_free=False), []),
        (dict(linux=False, gpu=False, cpu_index=False, cuda_free=False), []),
    ],
)
def test_the_torch_command_for_each_machine(setup: ModuleType, machine: dict[str, bool], expected: list[str]) -> None:
    command = setup.torch_command(PIP, **machine)
    assert command == [*PIP, "install", setup.requirement("torch"), *expected]


def test_without_gpu_index_or_cpu_file_it_refuses_rather_than_fetch_cuda(setup: ModuleType) -> None:
    with pytest.raises(SystemExit, match="only torch with gigabytes of CUDA is left"):
        setup.torch_command(PIP, linux=True, gpu=False, cpu_index=False, cuda_free=False)


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (["filelock", "sympy>=1.13", "jinja2"], False),
        (["filelock", "nvidia-cublas==13.1; platform_system == 'Linux'", "sympy"], True),
        (["cuda-toolkit[cublas]==13.0; platform_system == 'Linux'"], True),
    ],
)
def test_cuda_is_seen_in_pips_own_report(setup: ModuleType, needs: list[str], expected: bool) -> None:
    report = json.dumps({"install": [{"metadata": {"name": "torch", "requires_dist": needs}}]})
    assert setup.needs_cuda(report) is expected


def test_pips_errors_show_and_its_warnings_do_not(setup: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """A place for links that is not there makes pip warn; a package that is nowhere is an error."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    nowhere = ["install", "--no-index", "--find-links", "/nowhere", "no-such-package-of-biaslab"]
    with pytest.raises(SystemExit, match=r"setup: this failed: .* no-such-package-of-biaslab"):
        setup._run([*pip, setup.QUIET, *nowhere])
    said = capfd.readouterr()
    assert said.out == f"+ {' '.join(nowhere)}\n"
    assert "ERROR: No matching distribution found for no-such-package-of-biaslab" in said.err
    assert "WARNING" not in said.err
    subprocess.run([*pip, "-q", *nowhere], check=False)
    assert "WARNING: Location '/nowhere' is ignored" in capfd.readouterr().err  # which one -q leaves


def test_every_dependency_is_in_the_tested_set(setup: ModuleType) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # inspect_ai wants an older fsspec than the set holds: it has an environment of its own.
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name != "inspect"}
    wanted = project["dependencies"] + [d for needs in extras.values() for d in needs]
    names = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    missing = [d for d in wanted if d.split(">")[0].split("=")[0].strip().lower() not in names]
    assert missing == []
