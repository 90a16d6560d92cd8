"""Make a virtual environment for biaslab: `python3 .ci/setup.py [VENV] [EXTRAS]`. Standard library only.

The one difficult package is torch: on Linux, PyPI's build brings gigabytes of CUDA libraries, which a
machine without an NVIDIA GPU must not download. `torch_command` decides, and is tested.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
OLDEST = (3, 11)
QUIET = "-qq"  # pip's errors alone: on some machines its warnings ("Location ... is ignored") come for every package


def torch_command(pip: list[str], *, linux: bool, gpu: bool, cpu_index: bool, cuda_free: bool) -> list[str]:
    """The pip command that installs torch here.

    linux : only there does PyPI's build bring CUDA. gpu : an NVIDIA GPU is present. cpu_index : the index
    of CPU builds answers. cuda_free : what pip would take by itself needs no CUDA package.
    Raises SystemExit, with what to do, if only a build with CUDA can be had.
    """
    install = [*pip, "install", requirement("torch")]
    if gpu or not linux or cuda_free:
        return install
    if cpu_index:
        return [*install, "-i", CPU_WHEELS]
    raise SystemExit(
        f"setup: no NVIDIA GPU here, and {CPU_WHEELS} cannot be reached, so only torch with gigabytes of CUDA "
        f"is left; install a CPU build of {requirement('torch')} into the environment by hand and run this again"
    )


def requirement(name: str) -> str:
    """The tested version of a package, from constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==\S+$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"setup: constraints.txt has no line {name}==...")
    return found.group()


def needs_cuda(report: str) -> bool:
    """Whether pip's dry-run report (JSON) of torch names CUDA packages among its needs."""
    (package,) = json.loads(report)["install"]
    needs = package["metadata"].get("requires_dist", [])
    return any(re.match(r"(nvidia-|cuda-|triton)", need) for need in needs)


def main(argv: list[str]) -> None:
    """Make VENV (default .venv) and install biaslab with EXTRAS (default test) in it."""
    if sys.version_info < OLDEST:
        raise SystemExit(f"setup: Python {sys.version.split()[0]} is too old; run with PYTHON=python3.11 or newer")
    folder = ROOT / (argv[0] if argv else ".venv")
    extras = argv[1] if len(argv) > 1 else "test"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder.name}", flush=True)
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", QUIET]
    if not _installed(python, requirement("torch")):
        _run(torch_command(pip, **_machine(pip)))
    _run([*pip, "install", "-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[{extras}]"])


def _machine(pip: list[str]) -> dict[str, bool]:
    linux, gpu = sys.platform == "linux", _has_gpu()
    if gpu or not linux:
        return {"linux": linux, "gpu": gpu, "cpu_index": False, "cuda_free": False}
    dry_run = [*pip, "install", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-", requirement("torch")]
    answer = subprocess.run(dry_run, capture_output=True, text=True, check=False)
    cuda_free = answer.returncode == 0 and not needs_cuda(answer.stdout)
    return {"linux": True, "gpu": False, "cpu_index": not cuda_free and _answers(CPU_WHEELS), "cuda_free": cuda_free}


def _has_gpu() -> bool:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and "GPU" in answer.stdout


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=10) as answer:  # nosec B310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _installed(python: Path, wanted: str) -> bool:
    name, version = wanted.split("==")
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip().split("+")[0] == version


def _run(command: list[str]) -> None:
    print("+ " + " ".join(command[command.index(QUIET) + 1 :]), flush=True)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"setup: this failed: {' '.join(command)}")


if __name__ == "__main__":
    main(sys.argv[1:])
