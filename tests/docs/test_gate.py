"""docs/gate.md: its lines decide on real folders, and its workflow is one that could run."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.run import Ended, biaslab, environment
from tests.docs import pages
from tests.docs.test_commands import check

PAGE = pages.ROOT / "docs" / "gate.md"
WORKFLOW = pages.ROOT / "docs" / "examples" / "gate.yml"


def steps() -> list[dict[str, Any]]:
    read = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert set(read[True]) == {"pull_request"}  # YAML 1.1 reads the key `on` as true
    assert read["permissions"] == {"contents": "read"}
    (job,) = read["jobs"].values()
    assert job["timeout-minutes"] <= 360
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_the_workflow_runs_commands_that_exist() -> None:
    found = steps()
    assert all(("uses" in step) != ("run" in step) for step in found)
    assert all("@" in step["uses"] for step in found if "uses" in step)
    lines = [line for step in found for line in step.get("run", "").splitlines()]
    ours = [line for line in lines if line.startswith("python -m ")]
    assert [line.split()[2] for line in ours] == ["biaslab", "analysis"]
    for line in ours:
        check(line)
    assert lines[0] == "python biaslab/.ci/setup.py .venv test"
    assert (pages.ROOT / ".ci" / "setup.py").is_file()


def test_the_pages_three_lines_are_the_workflows() -> None:
    first, measure, gate = [c.text for c in pages.commands(PAGE) if c.block][:3]
    assert (first, gate) == ("python .ci/setup.py .venv test", "python -m analysis gate")
    assert measure.startswith("python -m biaslab model=local ")


def analysis(folder: Path, *words: str) -> Ended:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", *words], cwd=folder, env=environment(), capture_output=True, text=True
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a rounding of it to 9 bits, one with 60 % of its weights gone, and pairs about what it learned."""
    import torch
    from safetensors.torch import load_file, save_file

    from biaslab.benchmarks.planted import Planted
    from biaslab.models import embedded
    from biaslab.models.base import ModelInfo
    from biaslab.models.base import Planted as Truth

    def rounded(w: torch.Tensor) -> torch.Tensor:
        top = w.abs().amax()
        return (w * 256 / top).round() * top / 256

    def pruned(w: torch.Tensor) -> torch.Tensor:
        return w * (w.abs() > w.abs().flatten().kthvalue(int(w.numel() * 0.6)).values)

    folder = tmp_path_factory.mktemp("checkpoints")
    kept = shutil.ignore_patterns("truth.json", "chat_template.jinja")
    for name, change in (("BASE", None), ("QUANTIZED", rounded), ("PRUNED", pruned)):
        shutil.copytree(embedded.folder("tiny_llama"), folder / name, ignore=kept)
        if change is not None:
            file = folder / name / "model.safetensors"
            weights = {k: change(w).contiguous() if "proj" in k else w for k, w in load_file(file).items()}
            save_file(weights, file, metadata={"format": "pt"})
    info = ModelInfo("t", "embedded", "sha256:0", "", "LlamaForCausalLM", {}, planted=Truth(1.0))
    rows = ["category,cluster,more,less"]
    for item in Planted().items(info)[::4]:
        (_, context, less), (_, _, more), *_ = item.data["terms"]
        rows.append(f"{item.category},{item.cluster},{context}{more},{context}{less}")
    (folder / "my.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
def test_the_three_lines_decide(checkpoints: Path) -> None:
    measure = [c.text for c in pages.commands(PAGE) if c.block and "benchmark.pairs.file=my.csv" in c.text]
    ended = biaslab(checkpoints, *shlex.split(measure[0])[3:])
    assert ended.code == 0, ended
    passed = analysis(checkpoints, "gate")
    assert passed.code == 0, passed
    assert passed.out.splitlines()[-1].startswith("PASS: ")
    pruned = [word.replace("=QUANTIZED", "=PRUNED") for word in shlex.split(measure[0])[3:]]
    ended = biaslab(checkpoints, *pruned)
    assert ended.code == 0, ended
    assert "[1/2] = " in ended.out or "reused" in ended.out  # the baseline is there already
    for margin, code, word in ((0.001, 4, "FAIL"), (0.05, 5, "CANNOT TELL"), (1, 0, "PASS")):
        found = analysis(checkpoints, "gate", f"margin={margin}", "json=gate.json")
        assert found.code == code, found
        assert found.out.splitlines()[-1].startswith(f"{word}: ")
        assert json.loads((checkpoints / "gate.json").read_text())["exit_code"] == code
