"""`python -m biaslab data fetch|verify|where [benchmark ...]`: the files behind the benchmarks, and their licences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from biaslab.benchmarks import registry
from biaslab.benchmarks.sources import PinnedFile, checked, is_here, locate, where
from biaslab.errors import BiaslabError, ConfigError

#: What a line says of a file, and whether the file is as it should be.
Word = tuple[str, bool]


def main(argv: Sequence[str]) -> int:
    """Run one action on the named benchmarks' files, all of them by default; 3 if a file is absent or wrong."""
    if not argv or argv[0] not in ACTIONS:
        given = " ".join(["data", *argv[:1]])
        raise ConfigError(f"{given}: say data {'|'.join(ACTIONS)} [benchmark ...]")
    action, fine = ACTIONS[argv[0]], True
    for name, file in _files(argv[1:]):
        word, good = action(file)
        fine &= good
        print(f"{name:18} {word}\n{'':18} licence: {file.licence}", flush=True)
    return 0 if fine else 3


def _files(names: Sequence[str]) -> Iterator[tuple[str, PinnedFile]]:
    known = {name: cls.files for name, cls in registry().items() if cls.files}
    for name in names or known:
        if name not in registry():
            raise ConfigError(f"data: no benchmark {name!r}; those with files: {', '.join(known)}")
        for file in registry()[name].files:
            yield name, file


def _fetch(file: PinnedFile) -> Word:
    try:
        return f"ok       {locate(file)}", True
    except BiaslabError as error:
        return f"FAILED   {error}", False


def _verify(file: PinnedFile) -> Word:
    if not is_here(file):
        return f"absent   {where(file)}: fetched on first use from {file.url or 'nowhere'}", False
    try:
        return f"ok       {checked(where(file), file)}", True
    except BiaslabError as error:
        return f"WRONG    {error}", False


def _where(file: PinnedFile) -> Word:
    state = "here    " if is_here(file) else "absent  "
    return f"{state} {where(file)}  <- {file.url or 'published nowhere'}", True


ACTIONS: dict[str, Callable[[PinnedFile], Word]] = {"fetch": _fetch, "verify": _verify, "where": _where}
