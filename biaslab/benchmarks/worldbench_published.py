"""How the paper's code reads a number in a WorldBench answer, step by step, its faults included."""

from __future__ import annotations

import math

from biaslab.benchmarks.parsing import clean, refuses
from biaslab.benchmarks.quantities import Quantity

FACTORS = {"million": 1e6, "billion": 1e9, "trillion": 1e12, "thousand": 1e3, "hundred": 1e2}
LEAD = "correct answer is: "
DELETED = ("<|assistant|>\n", " [/INST]", "*", "<|im_start|>assistant\n")


def published_quantity(text: str) -> Quantity:
    """The number the paper's code would take; what it makes NaN is refused if the text refuses, else unparsed."""
    value = _value(text)
    if math.isnan(value):
        return Quantity(None, "refused" if refuses(clean(text)) else "unparsed", "no number by the published rules")
    return Quantity(value, "answered", "published rules")


def _value(text: str) -> float:
    answer = text.strip().split("[/INST] ")[-1]
    if LEAD in answer:
        answer = (answer.split(LEAD)[1].split() or [""])[0]
    words = answer.split(" ")
    answer = _after_hedges(words, _multiplied(words, answer))
    for piece in DELETED:
        answer = answer.replace(piece, "")
    answer = answer.split("</s>")[0].replace(",", "")
    answer = answer.split("\n")[0].split("<|im_end|>")[0].replace("<|eot_id|>", "")
    words = answer.split() or [""]
    first, last = (word.split("\\")[0].split("%")[0] for word in (words[0], words[-1]))
    taken = first if math.isfinite(_float(first)) else last
    value = _float(taken.removesuffix("."))
    # Meant to drop years: it drops every answer near 2020.
    return math.nan if abs(value - 2020) < 10 or value < 0 or not math.isfinite(value) else value


def _multiplied(words: list[str], answer: str) -> str:
    """The number before a multiplier word times it, where that word stands alone and the number is plain."""
    for name, factor in FACTORS.items():
        if name in words:
            before = _float(words[words.index(name) - 1])
            if math.isfinite(before):
                answer = str(before * factor)
    return answer


def _after_hedges(words: list[str], answer: str) -> str:
    """The word after a hedge, whatever multiplier follows it."""
    for hedge in ("approximately", "about"):
        if hedge in words and words.index(hedge) + 1 < len(words):
            answer = words[words.index(hedge) + 1]
    return answer


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
