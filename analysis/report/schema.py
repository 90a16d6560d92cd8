"""The JSON Schema of results.json, made from the dataclasses that fill it: `python -m analysis.report.schema`.

The published copy is results.schema.json beside this file; a test holds the two together. `schema_version` is the
number of the format: fields may be added within a version, none is removed and none changes its meaning.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from importlib import import_module
from importlib.resources import files
from typing import Any

from analysis.study import SCHEMA_VERSION, Study

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Words that a field may hold, by class and field.
WORDS = {
    ("BenchmarkResult", "verdict"): ("interaction", "additive", "undecided", "cannot be tested"),
    ("Shift", "verdict"): ("unchanged", "changed", "inconclusive", "exactly unchanged", "inert", "placebo", "missing"),
    ("Missing", "state"): ("failed", "missing", "refused"),
    ("Arm", "kind"): ("baseline", "accelerated", "placebo"),
    ("CategoryShift", "level"): ("category", "group"),
    ("Power", "kind"): ("shift", "difference"),
    ("EquivalenceRow", "kind"): ("shift", "difference"),
    ("Transfer", "kind"): ("benchmark", "accel", "perplexity"),
}


def published() -> dict[str, Any]:
    """The schema as it is shipped."""
    text = files("analysis.report").joinpath("results.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def build() -> dict[str, Any]:
    """The schema of what study.to_json gives."""
    definitions: dict[str, Any] = {}
    root = _class(Study, definitions)
    root["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": DIALECT,
        "title": f"biaslab results.json, version {SCHEMA_VERSION}",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _class(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, localns=_names())
    fields = [f.name for f in dataclasses.fields(cls)]
    properties = {name: _type(hints[name], definitions) for name in fields}
    for name in fields:
        if (cls.__name__, name) in WORDS:
            properties[name] = {"enum": list(WORDS[cls.__name__, name])}
    return {
        "description": " ".join((cls.__doc__ or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": properties,
        "required": fields,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    plain = {str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}, Any: {}}
    if hint in plain:
        return dict(plain[hint])
    if hint is float:  # what is not known is NaN there and null here
        return {"type": ["number", "null"]}
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # it may hold itself
            definitions[hint.__name__] = _class(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is list or (origin is tuple and parts[1:] == (...,)):
        return {"type": "array", "items": _type(parts[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(parts[1], definitions)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if part is type(None) else _type(part, definitions) for part in parts]}
    raise TypeError(f"no schema for {hint}")


def _names() -> dict[str, Any]:
    """The classes that study.py names for type checkers only, by name."""
    import ast

    import analysis.study

    tree = ast.parse(files("analysis").joinpath("study.py").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("analysis."):
            module = import_module(str(node.module))
            found |= {name.name: getattr(module, name.name) for name in node.names}
    return found | vars(analysis.study)


if __name__ == "__main__":
    print(json.dumps(build(), indent=1, ensure_ascii=False))
