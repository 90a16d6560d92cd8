"""Secrets of the environment (tokens, keys, passwords) never reach a log, a record, a ledger or a tracker."""

from __future__ import annotations

import logging
import os
import re

#: Names of environment variables whose values are secret.
SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIAL)", re.IGNORECASE)
#: Shapes of well-known secrets, wherever they come from: Hugging Face, W&B, GitHub, AWS, OpenAI and its like (sk-),
#: Slack, bearer headers, a user's part of a URL.
SHAPES = re.compile(
    r"hf_[A-Za-z0-9]{20,}|wandb_v1_[A-Za-z0-9_]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{16,}=*|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
HIDDEN = "***"
SHORTEST = 8  # a shorter value would hide ordinary words


def redact(text: str) -> str:
    """`text` with every secret replaced by ***."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return SHAPES.sub(HIDDEN, text)


class RedactingFormatter(logging.Formatter):
    """Of the job's log file: messages and tracebacks without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The formatted record, redacted."""
        return redact(super().format(record))
