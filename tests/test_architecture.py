"""Knowledge runs one way: who may import whom, and what importing a package must not pull in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run import ROOT, environment


def imports(folder: str) -> dict[str, set[str]]:
    """Every module named in an import statement, anywhere in a file, by file."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[str(path.relative_to(ROOT))] = names
    return found


def offenders(folder: str, *forbidden: str) -> list[tuple[str, str]]:
    return [
        (file, name)
        for file, names in imports(folder).items()
        for name in sorted(names)
        if any(name == f or name.startswith(f"{f}.") for f in forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("analysis", ("biaslab", "torch", "transformers", "hydra")),
        ("biaslab/benchmarks", ("biaslab.accel", "biaslab.engine.core", "biaslab.results", "torch", "hqq")),
        ("biaslab/accel", ("biaslab.benchmarks", "biaslab.results", "biaslab.sweep", "analysis")),
        ("biaslab/engine", ("biaslab.benchmarks", "biaslab.accel", "biaslab.results", "biaslab.config", "analysis")),
        ("biaslab/models", ("biaslab.benchmarks", "biaslab.accel", "biaslab.results", "biaslab.config", "analysis")),
        ("biaslab/tracking", ("biaslab.benchmarks", "biaslab.accel", "biaslab.engine", "biaslab.models", "torch")),
        ("biaslab/results", ("biaslab.benchmarks", "biaslab.accel", "biaslab.engine", "biaslab.models", "torch")),
    ],
)
def test_nobody_looks_upstream(folder: str, forbidden: tuple[str, ...]) -> None:
    known = [] if folder != "biaslab/models" else [  # the embedded models are measured with their own benchmark
        (f, n) for f, n in offenders(folder, *forbidden) if f.endswith("embedded/measure.py")
    ]  # fmt: skip
    assert [o for o in offenders(folder, *forbidden) if o not in known] == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("analysis", {"torch", "biaslab", "pandas", "pingouin", "matplotlib"}),
        ("analysis.report", {"torch", "biaslab", "matplotlib", "jinja2"}),
        ("biaslab.benchmarks", {"torch", "transformers", "hqq", "pandas"}),
        ("biaslab.accel", {"torch", "transformers", "hqq"}),
        ("biaslab.config", {"torch", "transformers", "pandas"}),
        ("biaslab.models.loading", {"torch", "transformers"}),
    ],
)
def test_importing_is_light(module: str, heavy: set[str], tmp_path: Path) -> None:
    discover = "from biaslab import accel, benchmarks; accel.families(); benchmarks.registry()\n"
    code = f"import sys, {module}\n{discover if module.startswith('biaslab') else ''}"
    code += f"print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert done.stdout.strip() == "[]", done


def test_a_whole_analysis_never_loads_torch_or_biaslab(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.analysis.fake import make_sweep\n"
        "from analysis.__main__ import main\n"
        "sweep = make_sweep(Path('.'))\n"
        "code = main([f'results={sweep}', 'n_resamples=99'])\n"
        "print('LOADED', code, sorted({'torch', 'biaslab', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert "LOADED 0 []" in done.stdout, done
