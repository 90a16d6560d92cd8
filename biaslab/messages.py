"""One line for an error of Hydra or OmegaConf: which value, what is allowed, what is nearest."""

from __future__ import annotations

import dataclasses
import difflib
import re

OPTIONS = re.compile(r"Available options in '([^']*)':\s*(.*?)(?:\n\n|\nConfig search path|$)", re.DOTALL)
NOT_FOUND = re.compile(r"Could not find '([^']*)'")
UNKNOWN_KEY = re.compile(r"Key '([^']*)' (?:is )?not in '([^']*)'")
UNCHOSEN = re.compile(r"Key '([^']*)' is not in struct")
NOT_LOADED = re.compile(r"Could not load '([^'/]+)/([^']+)'")
OVERRIDE = re.compile(r"Could not override '([^']*)'")
AMBIGUOUS = re.compile(r"Ambiguous value for argument '([^'=]+)=(.*)'\Z")
IN_FILE = re.compile(r"^In '([^']*)'")
MERGED = re.compile(r"Error merging override (\S+)")


def one_line(error: Exception) -> str:
    """The error and its cause as one line, with the valid choices or keys and the nearest of them."""
    causes = _chain(error)
    text = str(causes[0])
    if (options := OPTIONS.search(text)) is not None:
        return _unknown_choice(text, options)
    if (listed := NOT_LOADED.search(text)) is not None:
        return _unknown_in_list(listed)
    for cause in sorted(causes, key=lambda cause: getattr(cause, "object_type", None) is None):
        if (key := UNKNOWN_KEY.search(str(cause))) is not None:
            return _unknown_key(causes[0], cause, key)
        if (word := UNCHOSEN.search(str(cause))) is not None and (path := OVERRIDE.search(text)) is not None:
            chosen = path.group(1)
            if word.group(1) not in chosen.split(".")[:-1]:
                return f"{chosen}: a new name in a mapping needs a plus before the key, +{chosen}=..."
            return f"{chosen}: {word.group(1)} is not among what was chosen; choose it first, e.g. {_choose(chosen)}"
    if type(causes[0]).__name__ == "OverrideParseException":
        typed = getattr(causes[0], "override", "") or ""
        if re.fullmatch(r"[a-z]+", typed):
            return _no_verb(typed)
        return f"{typed}: cannot be read ({_first_line(causes[0])}); write group=choice, group=[a,b] or key=value"
    if (several := AMBIGUOUS.search(_first_line(causes[0]))) is not None:
        name, values = several.groups()
        return f"{name}={values}: several values are a sweep, which needs -m; a list is written {name}=[{values}]"
    if (merged := MERGED.search(text)) is not None:
        return f"{merged.group(1)}: {_first_line(causes[min(1, len(causes) - 1)])}"
    full_key = next((key for cause in causes if (key := getattr(cause, "full_key", None))), "")
    words = [line for cause in causes if "$VALUE" not in (line := _first_line(cause))]
    where = f"{full_key}: " if full_key and full_key not in words[0] else ""
    return where + "; ".join(dict.fromkeys(words))


def nearest(word: str, choices: list[str]) -> str:
    """' (did you mean X?)' for the choice closest to `word`, or ''."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _no_verb(word: str) -> str:
    from biaslab.verbs import VERBS

    known = sorted(VERBS)
    return f"{word}: no such verb{nearest(word, known)}; verbs are {', '.join(known)}, settings are written key=value"


def _unknown_choice(text: str, options: re.Match[str]) -> str:
    group, listed = options.group(1), options.group(2).split()
    found = NOT_FOUND.search(text)
    word = found.group(1).removeprefix(f"{group}/") if found else ""
    return f"{group}={word}: no such choice{nearest(word, listed)}; choose one of {', '.join(listed)}"


def _unknown_in_list(listed: re.Match[str]) -> str:
    from biaslab.config import conf_dir

    group, word = listed.groups()
    names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    return f"{group}={word}: no such choice{nearest(word, names)}; choose one of {', '.join(names)}"


def _unknown_key(first: Exception, cause: Exception, key: re.Match[str]) -> str:
    schema = getattr(cause, "object_type", None)
    full_key = getattr(cause, "full_key", None) or key.group(1)
    if not dataclasses.is_dataclass(schema):
        return f"{full_key}: no such key; {_first_line(first)}"
    names = [field.name for field in dataclasses.fields(schema)]
    where = f" in {found.group(1)}.yaml" if (found := IN_FILE.search(str(first))) and "/" in found.group(1) else ""
    return f"{full_key}: no such key{where}{nearest(key.group(1), names)}; {key.group(2)} has {', '.join(names)}"


def _choose(path: str) -> str:
    """The override that would choose what `path` belongs to."""
    group, _, rest = path.partition(".")
    return f"{group}={rest.partition('.')[0]}"


def _chain(error: BaseException) -> list[Exception]:
    chain: list[Exception] = []
    current: BaseException | None = error
    while isinstance(current, Exception) and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
