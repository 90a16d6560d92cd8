"""`python -m tests.browser [pytest's words]`: the browser tests where a browser is, one line where none is."""

from __future__ import annotations

import sys

import pytest

from tests.browser.find import lacking


def main(argv: list[str]) -> int:
    """Exit code of the tests; 0 with a line that says so where they cannot run, unless
    `--strict-browser` wants them to."""
    if "--strict-browser" not in argv and (reason := lacking()):
        print(f"browser tests not run: {reason}")
        return 0
    return int(pytest.main(["-m", "browser", "tests/browser", *argv]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
