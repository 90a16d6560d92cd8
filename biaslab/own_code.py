"""Where in a user's own files an error arose, or a method is written: named in its one line."""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from pathlib import Path

#: What is no user's: biaslab, its analysis, Python's own library and whatever is installed.
OTHERS = (
    Path(__file__).parent,
    Path(__file__).parents[1] / "analysis",
    *(Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def raised_in(error: BaseException) -> str:
    """The user's method that an exception went through and the line it got to, "AtWork.score, at_work.py:44", or "".

    The method is the one that biaslab called; the line is the last of the user's own, in whatever it called.
    """
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(code, line) for code, line in frames if _is_users(code.co_filename)]
    if not own:
        return ""
    file, line = own[-1][0].co_filename, own[-1][1]
    return ", ".join([*_named(own[0][0].co_qualname), f"{_shown(file)}:{line}"])


def defined_in(cls: type, method: str) -> str:
    """A class's method and where it is written: "AtWork.score, at_work.py:40"."""
    found = inspect.unwrap(getattr(cls, method))
    code = getattr(found, "__code__", None)
    if code is None:  # not written in Python
        return f"{cls.__name__}.{method}"
    return f"{found.__qualname__}, {_shown(code.co_filename)}:{code.co_firstlineno}"


def _named(qualname: str) -> list[str]:
    return [] if qualname == "<module>" else [qualname]


def _is_users(file: str) -> bool:
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in OTHERS)


def _shown(file: str) -> str:
    """The path from the working folder if it is below it, else in full."""
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
