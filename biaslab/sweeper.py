"""Which words each job of a multirun is made of: Hydra's own product, where a field's word is of those that have it.

`accel=hqq4,wanda50 accel.hqq4.group_size=32,64` means hqq4 with both group sizes and wanda50 once. Hydra would give
every job both words, and a job without hqq4 has no such field. So a job drops the fields of accelerators and
benchmarks that it does not choose but another does; jobs that are equal then are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

Words = tuple[str, ...]

#: Groups of which a job chooses several, each under its own name.
GROUPS = ("accel", "benchmark")
#: A word that sets a field of one choice, or all of it: accel.hqq4.bits=3, +accel.custom.params.x=1, accel.hqq4={...}.
FIELD = re.compile(r"(?:\+{0,2}|~)(accel|benchmark)\.([^.=@]+)(?:[.=]|$)")
PLAIN = re.compile(r"[\w.-]+")


def sweeper() -> Any:
    """Hydra's basic sweeper, with the jobs of `applicable`. Made when it is wanted: Hydra loads that module again."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    class Sweeper(BasicSweeper):  # type: ignore[misc]  # Hydra ships no types
        """See conf/hydra/sweeper/biaslab.yaml."""

        @staticmethod
        def split_arguments(overrides: list[Any], max_batch_size: int | None) -> list[list[list[str]]]:
            """The words of each job, in batches of at most `max_batch_size`."""
            (jobs,) = BasicSweeper.split_arguments(overrides, None)
            kept = [list(words) for words in applicable(tuple(words) for words in jobs)]
            return [list(batch) for batch in BasicSweeper.split_overrides_to_chunks(kept, max_batch_size)]

    Sweeper.__qualname__ = Sweeper.__name__  # Hydra looks it up by this
    return Sweeper


def applicable(jobs: Iterable[Words]) -> list[Words]:
    """The different jobs, each without the fields of what it does not choose though another job does.

    A field that no job's choice has stays everywhere, and so it does where a job's choice is no plain name: composing
    it says what is wrong.
    """
    jobs = list(jobs)
    chosen = [{group: _chosen(group, words) for group in GROUPS} for words in jobs]
    known = {group: set().union(*(names[group] or () for names in chosen)) for group in GROUPS}
    kept = [
        tuple(word for word in words if not _foreign(word, names, known))
        for words, names in zip(jobs, chosen, strict=True)
    ]
    return list(dict.fromkeys(kept))


def held_back(argv: Sequence[str]) -> list[str]:
    """A typed line as Hydra is to see it: fields of swept choices marked as swept too.

    Before it makes jobs Hydra composes the words that are not swept, with the default choices. A field of another
    choice would fail there, though each job that it is meant for has it; a swept word is left out.
    """
    if not {"-m", "--multirun"} & set(argv):
        return list(argv)
    plain = {group for group in GROUPS for word in argv if word.startswith(f"{group}=") and not _is_sweep(word)}
    return [_marked(word) if (found := FIELD.match(word)) and found[1] not in plain else word for word in argv]


def _marked(word: str) -> str:
    """`key=value` as key=choice(value), where that expands to the very word."""
    from hydra.errors import OverrideParseException

    key, equals, value = word.partition("=")
    marked = f"{key}=choice({value})"
    if not equals or _is_sweep(word):
        return word
    try:
        before, after = _parsed(word), _parsed(marked)
    except OverrideParseException:
        return word
    return marked if list(after.sweep_string_iterator()) == [before.get_value_element_as_str()] else word


def _is_sweep(word: str) -> bool:
    from hydra.errors import OverrideParseException

    try:
        return bool(_parsed(word).is_sweep_override())
    except OverrideParseException:
        return False


def _foreign(word: str, chosen: Mapping[str, frozenset[str] | None], known: Mapping[str, set[str]]) -> bool:
    """Whether a word is a field of what this job does not choose and another does."""
    found = FIELD.match(word)
    if found is None:
        return False
    names = chosen[found[1]]
    return names is not None and found[2] not in names and found[2] in known[found[1]]


def _chosen(group: str, words: Words) -> frozenset[str] | None:
    """The names that a job chooses of a group; None where no word says so, or not plainly."""
    word = next((word for word in reversed(words) if word.startswith(f"{group}=")), None)
    return None if word is None else _names(word)


@cache
def _names(word: str) -> frozenset[str] | None:
    value = _parsed(word).value()
    names = list(map(str, value if isinstance(value, list) else [value]))
    return frozenset(names) if all(map(PLAIN.fullmatch, names)) else None


def _parsed(word: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides([word])[0]


def by_keys(jobs: Sequence[Words]) -> Iterator[list[int]]:
    """Places of the jobs whose words have the same keys, group by group."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, words in enumerate(jobs):
        groups.setdefault(tuple(word.partition("=")[0] for word in words), []).append(place)
    yield from groups.values()
