"""key=value words of the command line: the verb's own, the settings of the analysis, those of an import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs
from analysis.settings import Settings

LISTS = {"accels"}  # keys whose value is names
FREE = ("margins.by_benchmark.",)  # keys below which any name may stand
Schema = TypeVar("Schema")


@dataclass(frozen=True)
class Request:
    """What was asked: `own` are the verb's words, as text."""

    own: Mapping[str, str]
    settings: Settings
    inputs: Inputs


def parse_words(words: Sequence[str], own: Iterable[str]) -> Request:
    """The request from key=value words; `own` are the keys that belong to the verb.

    Raises AnalysisError for a word without "=", a key given twice, an unknown key, or a value of the wrong type.
    """
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise AnalysisError(f"{word!r}: write key=value, such as results=outputs/sweeps/ID; see --help")
        if key in values:
            raise AnalysisError(f"{key}: given twice, as {values[key]!r} and {value!r}")
        values[key] = value
    own, settings, inputs = tuple(own), settings_keys(), input_keys()
    for key in values:
        if key not in (*own, *settings, *inputs) and not key.startswith(FREE):
            _refuse(key, [*own, *settings, *inputs])
    of_inputs = {k: v for k, v in values.items() if k in inputs}
    rest = {k: v for k, v in values.items() if k not in inputs and k not in own}
    merged = _merged(Settings, rest)
    for key in LISTS & rest.keys():
        setattr(merged, key, names(rest[key]))
    for key in (k for k in rest if k.startswith(FREE)):  # a benchmark's name may hold a dot, so it is no path
        margin = number_of(rest, key)
        assert margin is not None
        merged.margins.by_benchmark[key.removeprefix(FREE[0])] = margin
    return Request({k: v for k, v in values.items() if k in own}, merged, _merged(Inputs, of_inputs))


def names(text: str) -> list[str]:
    """The names in "a,b" or "[a,b]"; empty for none. A comma between brackets is part of a name.

    >>> names('[hqq4(axis=1,group_size=32), "b"]')
    ['hqq4(axis=1,group_size=32)', 'b']
    """
    parts = re.split(r",(?![^()]*\))", text.strip().removeprefix("[").removesuffix("]"))
    return [name for part in parts if (name := part.strip().strip("\"'"))]


def number_of(own: Mapping[str, str], key: str) -> float | None:
    """The finite number given for `key`, None where none was; AnalysisError for anything else."""
    if key not in own:
        return None
    try:
        value = float(own[key])
    except ValueError:
        value = float("nan")
    if abs(value) == float("inf") or value != value:
        raise AnalysisError(f"{key}={own[key]}: must be a number")
    return value


def settings_keys() -> dict[str, Any]:
    """Every setting of the analysis with its default; `skip` is biaslab's, for the end of a run."""
    return {k: v for k, v in _flat(asdict(Settings())).items() if k != "skip"}


def input_keys() -> dict[str, Any]:
    """Every setting of the import with its default."""
    return _flat(asdict(Inputs()))


def _refuse(key: str, known: Sequence[str]) -> None:
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise AnalysisError(f"{key}: unknown; {hint}choose from {', '.join(known)}")


def _merged(schema: type[Schema], values: Mapping[str, str]) -> Schema:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged = OmegaConf.structured(schema)
    for key, value in values.items():
        if key.startswith(FREE) or key in LISTS:
            continue
        try:
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([f"{key}={value}"]))
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise AnalysisError(f"{key}={value}: {reason}") from error
    out = OmegaConf.to_object(merged)
    assert isinstance(out, schema)
    return out


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out
