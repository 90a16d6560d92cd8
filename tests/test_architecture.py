"""Knowledge runs one way: who may import whom, and what importing a package must not pull in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
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


def test_every_library_that_is_imported_or_asked_for_is_declared() -> None:
    """In pyproject.toml, by the name of the distribution; SparseML's own environment has pins of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(x for extra in project["optional-dependencies"].values() for x in extra)]
    declared = {re.split(r"[>=\[;]", line)[0].strip().lower().replace("_", "-") for line in lines}
    names = {"omegaconf": "omegaconf", "hydra": "hydra-core", "hydra_plugins": "hydra-submitit-launcher",
             "optimum": "optimum-quanto", "vaderSentiment": "vadersentiment"}  # fmt: skip
    #: What comes with a declared library and belongs to it: transformers' own, hydra's own, a test's runner.
    with_others = {"huggingface_hub": "transformers", "httpx": "transformers", "tokenizers": "transformers",
                   "loguru": "llmcompressor", "IPython": "ipykernel", "markupsafe": "jinja2",
                   "yaml": "omegaconf"}  # fmt: skip
    own = {"biaslab", "analysis", *sys.stdlib_module_names}
    for folder in ("biaslab", "analysis"):
        for file, modules in imports(folder).items():
            if file.endswith("sparseml_worker.py"):
                continue
            for top in {m.partition(".")[0] for m in modules} - own:
                name = names.get(with_others.get(top, top), with_others.get(top, top)).lower().replace("_", "-")
                assert name in declared, f"{file} imports {top}"
    for name in ("accelerate",):  # taken by transformers on our behalf, whenever a device map is given
        assert name in {re.split(r"[>=]", line)[0] for line in project["dependencies"]}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("analysis", {"torch", "biaslab", "pandas", "pingouin", "matplotlib"}),
        ("biaslab", {"torch", "transformers", "pandas", "numpy", "hydra", "analysis"}),
        ("analysis.report", {"torch", "biaslab", "matplotlib", "jinja2"}),
        ("biaslab.benchmarks", {"torch", "transformers", "hqq", "pandas"}),
        ("biaslab.accel", {"torch", "transformers", "hqq"}),
        ("biaslab.config", {"torch", "transformers", "pandas"}),
        ("biaslab.models.loading", {"torch", "transformers"}),
    ],
)
def test_importing_is_light(module: str, heavy: set[str], tmp_path: Path) -> None:
    discover = "from biaslab import accel, benchmarks; accel.families(); benchmarks.registry()\n"
    code = f"import sys, {module}\n{discover if module.startswith('biaslab.') else ''}"
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
