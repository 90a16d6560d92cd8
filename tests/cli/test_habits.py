"""What a user expects of a command: completion, versions, no colours and no chatter where nobody watches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from biaslab import __version__
from tests.cli.run import biaslab, environment


def completed(tmp_path: Path, line: str) -> list[str]:
    """What bash offers for `line` after `eval "$(biaslab -sc install=bash)"`."""
    bash = shutil.which("bash")
    assert bash is not None
    command = tmp_path / "bin" / "biaslab"
    command.parent.mkdir(exist_ok=True)
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom biaslab.__main__ import main\n"
        "sys.argv[0] = sys.argv[0].rpartition('/')[2]\nmain()\n"
    )
    command.chmod(0o755)
    script = (
        'eval "$(biaslab -sc install=bash)"\ncomplete -p biaslab >/dev/null || exit 9\n'
        f"COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_CWORD={line.count(' ')}\n"
        "hydra_bash_completion\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    env = environment(PATH=f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run([bash, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_choices_and_fields(tmp_path: Path) -> None:
    assert completed(tmp_path, "biaslab accel=hqq") == ["accel=hqq2", "accel=hqq3", "accel=hqq4", "accel=hqq8"]
    assert "model=tiny_llama" in completed(tmp_path, "biaslab accel=hqq4 model=tiny")


@pytest.mark.parametrize("package", ["biaslab", "analysis"])
def test_version(tmp_path: Path, package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", package, "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_a_run_into_a_pipe_is_plain_and_quiet(tmp_path: Path) -> None:
    ended = biaslab(tmp_path, "benchmark=planted", "limit=30", "analysis.n_resamples=199", env={"CI": ""})
    assert ended.code == 0, ended
    assert ended.err == ""
    assert "\x1b" not in ended.out
    assert "\r" not in ended.out
    assert "Report: " in ended.out
    assert not any(word in ended.out for word in ("WARNING", "[HYDRA]", "INFO", "torch_dtype"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]  # nothing appears elsewhere


def test_the_first_word_of_a_newcomer_is_answered(tmp_path: Path) -> None:
    for words in (["--help"], ["help"], ["list"]):
        ended = biaslab(tmp_path, *words)
        assert ended.code == 0
        assert "tiny_llama" in ended.out
    nothing = biaslab(tmp_path, "status")
    advice = "name an outputs folder, or one sweep's (outputs/sweeps/<id>)"
    assert (nothing.code, nothing.err) == (2, f"biaslab: status: no sweep in outputs; {advice}\n")


def read_in_part(folder: Path, line: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose reader is gone after one line."""
    command = f"set -o pipefail; {{ {sys.executable} -m {line}; }} | {{ read line; }}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("verb", ["status", "status watch=0.2", "profile", "list"])
def test_a_verb_whose_reader_has_seen_enough_ends_quietly(tmp_path: Path, verb: str) -> None:
    assert biaslab(tmp_path, "accel=none", "benchmark=planted", "limit=4", "analysis=skip", "tracker=none").code == 0
    if "watch" in verb:  # which ends by itself where nothing is left to wait for
        shutil.rmtree(tmp_path / "outputs" / "results" / "planted")
    for _ in range(3):  # the reader may be quicker or slower
        assert read_in_part(tmp_path, f"biaslab {verb}") == (0, "")


@pytest.mark.parametrize("line", ["--help", "power --help", "recommend"])
def test_the_analysis_ends_quietly_too(tmp_path: Path, line: str) -> None:
    command = f"{sys.executable} -m analysis {line} 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_sweep_whose_reader_is_gone_goes_on_to_its_end(tmp_path: Path) -> None:
    line = "biaslab accel=hqq4 benchmark=[planted,planted_choices] limit=8 analysis.n_resamples=99 tracker=none"
    assert read_in_part(tmp_path, line.replace("[", "\\[").replace("]", "\\]")) == (0, "")
    assert len(list(tmp_path.rglob("cell.json"))) == 4
    assert len(list(tmp_path.rglob("report.html"))) == 1
