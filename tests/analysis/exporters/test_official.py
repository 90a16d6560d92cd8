"""Exported files before those who own the formats: every_eval_ever's schema, lm_eval's and datasets' readers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from analysis.exporters import export
from analysis.load import load
from tests.analysis.fake import make_sweep

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("sweep")
    sweep = make_sweep(root, missing=0.1, repeats=2)
    return load(sweep)


def schema(name: str) -> Any:
    """A schema of the installed package, as a file: the package itself needs a newer Python than we do."""
    spec = find_spec("every_eval_ever")
    if spec is None or spec.origin is None:
        pytest.skip("needs every_eval_ever 0.3: pip install --no-deps --ignore-requires-python every-eval-ever==0.3.0")
    return json.loads((Path(spec.origin).parent / "schemas" / name).read_text(encoding="utf-8"))


def test_every_eval_ever_by_its_own_schema(loaded: Any, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    aggregate, instance = schema("eval.schema.json"), schema("instance_level_eval.schema.json")
    assert (aggregate["version"], instance["version"]) == ("0.3.0", "0.3.0")
    checks = [jsonschema.Draft7Validator(s) for s in (aggregate, instance)]
    export(loaded, "every_eval_ever", tmp_path / "out")
    files = sorted((tmp_path / "out").rglob("*.json"))
    assert len(files) == len(loaded.cells)
    for file in files:
        checks[0].validate(json.loads(file.read_text()))
        for line in file.with_name(f"{file.stem}_samples.jsonl").read_text().splitlines():
            checks[1].validate(json.loads(line))
    broken = json.loads(files[0].read_text()) | {"model_info": {}}
    assert not checks[0].is_valid(broken)  # and the check is one


def test_lm_eval_reads_its_own_layout(loaded: Any, tmp_path: Path) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    export(loaded, "lm_eval", tmp_path / "out")
    folder = tmp_path / "out" / "tiny_llama" / "hqq4"
    names = sorted(map(str, folder.iterdir()))
    results, samples = utils.get_results_filenames(names), utils.get_sample_results_filenames(names)
    assert len(results) == len(samples) == 1
    assert utils.get_file_task_name(Path(samples[0]).name) == "planted"
    assert utils.get_file_datetime(samples[0]) == utils.get_file_datetime(results[0]).removesuffix(".json")
    assert utils.get_latest_filename(samples) == samples[0]
    content = json.loads(Path(results[0]).read_text())
    shown, value = utils.make_table(content), content["results"]["planted"]["score,none"]
    assert f"|{value:.4f}".rstrip("0") in shown  # the table drops a last 0
    assert "planted" in shown


def test_datasets_loads_the_samples_of_all_arms_as_one_table(loaded: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(loaded, "lm_eval", tmp_path / "out")
    files = sorted(map(str, (tmp_path / "out").rglob("samples_*.jsonl")))
    table = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(table) == 120 * len(loaded.cells)
    assert sum(x is None for x in table["score"]) > 0
    assert set(table["filter"]) == {"none"}
