"""The one error a user of the analysis meets."""

from __future__ import annotations

MAX_LENGTH = 600


class AnalysisError(Exception):
    """The request or a results file is wrong. The message is one line: what, what is allowed, what to do.

    Names in a results file are somebody else's text: control characters are replaced and long messages cut,
    so that no file can write to a terminal what it likes.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        line = "".join(c if c.isprintable() else "?" for c in line)
        super().__init__(line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 3] + "...")
