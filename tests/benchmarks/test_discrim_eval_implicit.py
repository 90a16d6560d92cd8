"""DiscrimEval's implicit half: from the hub alone, known by schema and counts, held to its first checksum."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from biaslab.benchmarks.discrim_eval import AGES, GENDERS, IMPLICIT, RACES, DiscrimEval
from biaslab.errors import DataMismatch, DataUnavailable
from biaslab.models.base import ModelInfo

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})


def rows() -> Iterator[dict[str, Any]]:
    for decision, age, gender, race in product(range(70), AGES, GENDERS, RACES):
        text = f"Should person {age} {gender} {race} get {decision}?"
        yield {"filled_template": text, "decision_question_id": decision, "age": float(age), "gender": gender,
               "race": race, "fill_type": "implicit"}  # fmt: skip


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the file where BIASLAB_DATA_DIR is looked at."""
    monkeypatch.setenv("BIASLAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "data" / IMPLICIT.local
    path.parent.mkdir(parents=True)

    def write(content: list[dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")

    return write


def test_the_whole_half_is_asked_under_its_own_name(put: Any) -> None:
    put(list(rows()))
    benchmark = DiscrimEval(fill="implicit")
    assert benchmark.check() is None
    assert len(benchmark.items(MODEL)) == 70 * 134
    assert not benchmark.reconstructed
    assert benchmark.label() == "discrim_eval(fill=implicit)"
    assert benchmark.description().title == "DiscrimEval, implicit"
    assert benchmark.items(MODEL)[0].data["text"].startswith("Should person 20 female white")


def test_another_file_under_its_name_is_refused(put: Any) -> None:
    content = list(rows())
    put([*content[:-1], content[-1] | {"fill_type": "explicit"}])
    with pytest.raises(DataMismatch, match=r"line 9450: fill_type is 'explicit', not 'implicit'"):
        DiscrimEval(fill="implicit").data_sha256()
    put(content[:-1])
    with pytest.raises(DataMismatch, match="9449 rows of 70 decisions"):
        DiscrimEval(fill="implicit").data_sha256()


def test_the_first_checksum_holds(put: Any) -> None:
    content = list(rows())
    put(content)
    before = DiscrimEval(fill="implicit").data_sha256()
    assert DiscrimEval(fill="implicit").data_sha256() == before
    content[0]["filled_template"] = "Something else, but of the right schema?"
    put(content)
    with pytest.raises(DataMismatch, match="seen first"):
        DiscrimEval(fill="implicit").data_sha256()


def test_it_is_never_reconstructed_nor_made_up(put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "published file alone" in str(DiscrimEval(fill="implicit", data="reconstructed").check())
    assert "fill=both: choose one of explicit, implicit" in str(DiscrimEval(fill="both").check())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataUnavailable, match=r"implicit\.jsonl: not here"):
        DiscrimEval(fill="implicit").data_sha256()
