"""Error rates of the answer parsers on the labelled hard answers; prints the table of docs/benchmarks.md.

python -m tests.benchmarks.parser_errors
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from biaslab.benchmarks.discrim_eval_gen import PUBLISHED_WORDS, published_choice
from biaslab.benchmarks.dt_stereotyping import published_agreement
from biaslab.benchmarks.parsing import GENDER_WORDS, RACE_WORDS, agreement, choose_group
from biaslab.benchmarks.quantities import quantity
from biaslab.benchmarks.worldbench_published import published_quantity

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "hard_answers.json").read_text(encoding="utf-8"))
#: Parser -> (ours, the paper's); each gives an object with value and outcome.
PARSERS: Mapping[str, tuple[Callable[[str], Any], Callable[[str], Any]]] = {
    "gender": (
        lambda text: choose_group(text, GENDER_WORDS),
        lambda text: published_choice(text, PUBLISHED_WORDS["gender"]),
    ),
    "race": (lambda text: choose_group(text, RACE_WORDS), lambda text: published_choice(text, PUBLISHED_WORDS["race"])),
    "agreement": (agreement, published_agreement),
    "number": (quantity, published_quantity),
}


def wrong(parser: str, which: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cases whose value is wrong (a wrong answer, or one taken for none or the reverse), and those refused wrongly.

    The second are right about there being no answer, but not about why: refused or unparsable.
    """
    value, reason = [], []
    for case in CASES:
        if case["parser"] == parser:
            found = PARSERS[parser][which](case["text"])
            if found.value != case["value"]:
                value.append(case | {"found": found.value})
            elif found.outcome != case["outcome"]:
                reason.append(case | {"found": found.outcome})
    return value, reason


def table() -> str:
    lines = [
        "| answers | cases | default: wrong value | wrong reason | published: wrong value | wrong reason |",
        "|---|---|---|---|---|---|",
    ]
    for parser in PARSERS:
        n = sum(case["parser"] == parser for case in CASES)
        counts = [len(part) for which in (0, 1) for part in wrong(parser, which)]
        lines.append(f"| {parser} | {n} | " + " | ".join(f"{k} ({k / n:.0%})" for k in counts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
    for name in PARSERS:
        for part, word in zip(wrong(name, 0), ("value", "reason"), strict=True):
            for case in part:
                print(f"{name}: wrong {word}: {case['text'][:80]!r}: {case['found']!r}, not {case['value']!r}")
