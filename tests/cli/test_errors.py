"""Every wrong line: exit code 2 and one line that names the value, what is allowed, what to do."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run import ROOT, biaslab, environment

WRONG = {
    "model=lama": r"model=lama: no such choice (did you mean llama?); choose one of custom, hub, llama",
    "accel=hqq5": r"accel=hqq5: no such choice (did you mean hqq",
    "benchmark=[planted,crows]": r"benchmark=crows: no such choice (did you mean crows_pairs?)",
    "experiment=nope": r"experiment=nope: no such choice",
    "accel.hqq4.bitz=3": r"accel.hqq4.bitz: no such key (did you mean bits?); Hqq has skip, bits, group_size",
    "accel.hqq4.bits=x": r"accel.hqq4.bits=x: Value 'x' of type 'str' could not be converted to Integer",
    "accel.wanda50.sparsity=.3": r"wanda50 is not among what was chosen; choose it first, e.g. accel=wanda50",
    "bits=3": r"bits: no such key; Config has model, accel, benchmark",
    "accel.hqq4.bits=9": r"accel.hqq4.bits=9: ",
    "benchmark=[]": r"benchmark=[]: name at least one benchmark",
    "accel=[]": r"accel=[]: name at least one accelerator, or accel=none",
    "accel=[hqq4,wanda50]": r"accel=[hqq4,wanda50]: wanda50 prunes dense weights",
    "accel=[hqq4,hqq8]": r"accel=[hqq4,hqq8]: ",
    "accel=[none,hqq4]": r"accel=[none,hqq4]: ",
    "accel=hqq4,wanda50": r"accel=hqq4,wanda50: several values are a sweep, which needs -m; a list is written accel=[",
    "statsu": r"statsu: no such verb (did you mean status?); verbs are cache, ",
    "accel=[wanda50": r"accel=[wanda50: cannot be read",
    "limit=0": r"limit=0: must be at least 1, or null for all",
    "seed=-1": r"seed=-1: must be 0 to 2147483647",
    "engine.padding_side=up": r"engine.padding_side=up: choose one of left, right",
    "decoding.repeats=3": r"decoding.repeats=3: greedy decoding gives the same answer every time",
    "dtype=int8": r"dtype=int8: choose one of auto, float32",
    "analysis.alpha=1": r"analysis.alpha=1.0: must be above 0, below 0.5",
    "model.name=../x": r"model.name='../x': letters, digits",
    "model=local": r"model.path=: model.source=local needs model.path=...",
    "model=hub": r"model.id=: model.source=hub needs model.id=...",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_is_one_line_and_code_2(tmp_path: Path, line: str) -> None:
    ended = biaslab(tmp_path, line)
    assert ended.code == 2, ended
    assert ended.err.startswith("biaslab: ")
    assert WRONG[line] in ended.err
    assert ended.err.count("\n") == 1
    assert ended.out == ""


REFUSED = {
    ("model=local", "model.path=/nowhere"): "model.path=/nowhere: no such folder",
    ("model=llama",): "meta-llama/Llama-3.1-8B-Instruct: not on this machine and HF_HUB_OFFLINE is set",
    ("benchmark=crows_pairs",): "could not be fetched",
}


@pytest.mark.parametrize("args", REFUSED, ids=" ".join)
def test_what_is_not_here_is_one_line_and_code_2(tmp_path: Path, args: tuple[str, ...]) -> None:
    offline = {"BIASLAB_CACHE_DIR": str(tmp_path / "cache"), "https_proxy": "http://127.0.0.1:9"}
    ended = biaslab(tmp_path, *args, env=offline)
    assert ended.code == 2, ended
    assert REFUSED[args] in ended.err
    assert ended.err.count("\n") == 1


def test_a_multirun_with_a_wrong_job_runs_none_of_them(tmp_path: Path) -> None:
    ended = biaslab(tmp_path, "-m", "model=tiny_llama,tiny_mistral", "seed=0,-1")
    assert ended.code == 2
    assert "seed=-1: must be" in ended.err
    assert not list(tmp_path.rglob("cell.json"))


def test_a_misspelt_key_in_an_experiment_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "typo.yaml").write_text("# @package _global_\nengine:\n  max_bacht: 3\n")
    ended = biaslab(tmp_path, "--config-dir", str(tmp_path / "mine"), "experiment=typo")
    assert ended.code == 2
    assert "engine.max_bacht: no such key in experiment/typo.yaml (did you mean max_batch?)" in ended.err


def test_verbs_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    assert biaslab(tmp_path, "status").err == (
        "biaslab: status: no sweep in outputs; name an outputs folder, or one sweep's (outputs/sweeps/<id>)\n"
    )
    assert biaslab(tmp_path, "status", "nowhere").code == 2
    assert biaslab(tmp_path, "list", "x").code == 2


@pytest.mark.parametrize("args", [["--help"], ["accel.hqq4.bitz=3"], ["model=lama"], ["benchmark=[]"]], ids=" ".join)
def test_help_and_errors_import_no_torch_and_answer_quickly(tmp_path: Path, args: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['biaslab', *{args!r}]\n"
        "try:\n    runpy.run_module('biaslab', run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'pingouin', 'wandb'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    best = 99.0
    for _ in range(3):  # processor time, so that a busy machine does not matter
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "HEAVY []" in done.stdout
    assert best < 1.5


def test_every_choice_in_conf_composes_and_validates(tmp_path: Path) -> None:
    """Composes each file of each group through Hydra, as an override of the default config."""
    code = (
        "from hydra import compose, initialize_config_dir\n"
        "from biaslab import config\n"
        "from biaslab.verbs import choices\n"
        "config.register(); config.register_resolvers()\n"
        "more = {'hub': ['model.id=a/b'], 'local': ['model.path=x']}\n"
        "own = {'accel': ['accel.custom.target=biaslab.accel.magnitude.Magnitude'], "
        "'benchmark': ['benchmark.custom.target=biaslab.benchmarks.planted.Planted'], "
        "'model': ['model.target=biaslab_own.Mine'], 'tracker': ['tracker.target=biaslab_own.MyTracker']}\n"
        "more |= {'prequantized': ['accel.prequantized.path=x']}\n"
        "more |= {b: [f'benchmark.{b}.file=x.csv'] for b in ('pairs', 'choices', 'prompts')}\n"
        "n = 0\n"
        "with initialize_config_dir(str(config.conf_dir()), version_base='1.3'):\n"
        "    for group in ('model', 'accel', 'benchmark', 'engine', 'tracker', 'analysis', 'decoding', 'experiment'):\n"
        "        for name, _ in choices(group):\n"
        "            extra = own[group] if name == 'custom' else more.get(name, [])\n"
        "            done = config.to_config(compose('config', [f'{group}={name}', *extra]))\n"
        "            config.validate(done); n += 1\n"
        "print(n)\n"
    )
    (tmp_path / "biaslab_own.py").write_text(
        "from dataclasses import dataclass\nfrom biaslab.models.base import Model\n"
        "from biaslab.tracking.base import NoTracker\n\n@dataclass\nclass MyTracker(NoTracker):\n    pass\n\n"
        "@dataclass\nclass Mine(Model):\n    name = 'mine'\n    def load(self):\n        raise NotImplementedError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = [p for p in (ROOT / "conf").glob("*/*.yaml") if p.parent.name != "hydra"]
    assert int(done.stdout) == len(files)
