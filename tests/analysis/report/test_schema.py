"""results.json: a published schema that fits what is written, of ordinary and of odd studies."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from analysis.analyse import analyse
from analysis.report.schema import DIALECT, WORDS, build, published
from analysis.settings import Settings
from analysis.study import Study, to_json
from tests.analysis.fake import make_sweep

jsonschema = pytest.importorskip("jsonschema", reason="needs the package jsonschema, of the extra `test`")

ODD: dict[str, dict[str, Any]] = {
    "a failed cell": {"failed": [("tiny_llama", "hqq4")]},
    "a whole model missing": {"failed": [("tiny_llama", a) for a in ("none", "hqq4", "wanda50")]},
    "one model": {"models": ("tiny_llama",)},
    "placebo only": {"accels": ("placebo_batch",)},
    "inert": {"inert": ("hqq4", "wanda50")},
    "refusals": {"missing": 0.2},
    "too few clusters": {"n_clusters": 3},
    "rates, sampled": {"score_kind": "rate", "repeats": 3, "direction": None},
    "a stack beside": {"accels": ("hqq4", "wanda50", "wanda50+hqq4", "placebo_batch")},
}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = published()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def strict(study: Study) -> Any:
    """What is written, read again; any NaN or infinity fails."""

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(json.dumps(to_json(study), allow_nan=False), parse_constant=refuse)


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    assert published() == build(), "run: python -m analysis.report.schema > analysis/report/results.schema.json"
    assert published()["$schema"] == DIALECT
    assert published()["properties"]["schema_version"] == {"const": 1}


def test_an_ordinary_report_fits(study: Study, validator: Any) -> None:
    validator.validate(strict(study))


@pytest.mark.parametrize("odd", ODD)
def test_odd_reports_fit(odd: str, validator: Any, tmp_path: Path) -> None:
    sweep = make_sweep(
        tmp_path, **({"n_clusters": 8, "items_per_cluster": 3, "accels": ("hqq4", "wanda50")} | ODD[odd])
    )
    study = analyse(sweep, Settings(n_resamples=99))
    if odd.startswith(("a failed", "a whole")):
        assert study.missing
    if odd == "one model":
        assert study.benchmarks[0].verdict == "cannot be tested"
    validator.validate(strict(study))


def test_what_is_not_known_is_null(study: Study, validator: Any) -> None:
    arm = dataclasses.replace(study.arms[0], perplexity=math.nan, peak_memory_bytes=math.inf)
    content = strict(dataclasses.replace(study, arms=[arm]))
    assert content["arms"][0]["perplexity"] is None
    assert content["arms"][0]["peak_memory_bytes"] is None
    validator.validate(content)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("benchmarks", 0, "verdict"), "fair"),
        (("benchmarks", 0, "shifts", 0, "verdict"), "no effect"),
        (("benchmarks", 0, "shifts", 0, "estimate", "value"), "0.1"),
        (("benchmarks", 0, "n_items"), 1.5),
        (("arms", 0, "inert"), None),
    ],
)
def test_the_schema_refuses_what_is_wrong(path: tuple[Any, ...], value: Any, study: Study, validator: Any) -> None:
    content = copy.deepcopy(strict(study))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert [list(e.absolute_path) for e in validator.iter_errors(content)] == [list(path)]


def test_a_field_that_is_gone_is_refused(study: Study, validator: Any) -> None:
    content = strict(study)
    del content["benchmarks"][0]["omnibus"]["p_holm"]
    assert not validator.is_valid(content)


def test_words_are_of_fields_that_exist() -> None:
    classes = published()["$defs"]
    for cls, name in WORDS:
        assert classes[cls]["properties"][name] == {"enum": list(WORDS[cls, name])}
