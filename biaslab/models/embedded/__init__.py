"""The embedded models: folders beside this file, each with its weights, its planted truth and its note."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from biaslab.errors import DataMismatch


def names() -> list[str]:
    """Names of the models that ship."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/truth.json"))


def folder(name: str) -> Path:
    """The transformers folder of an embedded model."""
    return Path(__file__).parent / name


@lru_cache(maxsize=16)
def truth(name: str) -> Mapping[str, Any]:
    """truth.json: the planted scale, the recipe, the seed, the weights' sha256 and the note."""
    content: dict[str, Any] = json.loads((folder(name) / "truth.json").read_text(encoding="utf-8"))
    return content


def note(name: str) -> str:
    """One line to be shown wherever the model is ("" for an ordinary one)."""
    return str(truth(name)["note"])


def verify(name: str) -> None:
    """DataMismatch if the weights, or the tables behind their truth, are not those that were shipped."""
    from biaslab.models.embedded.grammar import Grammar

    path = folder(name) / "model.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != truth(name)["sha256"]:
        raise DataMismatch(f"{path}: sha256 {found[:12]}... is not the shipped one; install biaslab again")
    tables = Grammar().fingerprint()
    expected = truth(name)["tables"]
    if tables != expected:
        # The tables are drawn from a seed, so another random stream would silently be another truth.
        raise DataMismatch(
            f"{name}: this numpy draws planted tables {tables[:12]}..., not the {expected[:12]}... that "
            "the model was trained on; install the numpy that constraints.txt names"
        )
