"""A number out of free text: digits of any script, separators, multipliers, percent, ranges, number words.

The first line that holds a number is read; a year that only dates the figure ("in 2019, 4.1 million") is
passed over. What decided is reported beside the value. Nothing is rounded.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

from biaslab.benchmarks.parsing import QUOTES, SPECIAL, clean, refuses

#: Word -> power of ten.
MULTIPLIERS = {
    "hundred": 2, "thousand": 3, "k": 3, "lakh": 5, "lakhs": 5, "million": 6, "millions": 6, "mn": 6, "m": 6, "mio": 6,
    "crore": 7, "crores": 7, "billion": 9, "billions": 9, "bn": 9, "b": 9, "trillion": 12, "tn": 12, "t": 12,
}  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
WORDS = {word: float(i) for i, word in enumerate(UNITS)} | {word: 10.0 * (i + 2) for i, word in enumerate(TENS)}

SIGN = r"(?:(?<![\w.)])[-\u2212])?"
GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|\d{1,3}(?:[ '\u202f]\d{3})+(?:[.,]\d+)?"
LONGEST_FIRST = "|".join(sorted(MULTIPLIERS, key=len, reverse=True))
NUMBER = re.compile(
    rf"(?<![\w.,])({SIGN}(?:{GROUPED}|\d+[.,]\d+|\d+|\.\d+))(?![\d])(?:(e[+-]?\d{{1,3}})(?!\w))?"
    rf"(?: ?[x×] ?10 ?\^? ?([-+]?\d{{1,2}}))?(?: ?-?({LONGEST_FIRST})\b)?"
)
WORD_NUMBER = re.compile(rf"\b(?:(?:{'|'.join([*WORDS, *MULTIPLIERS])}|and)(?:[ -]|\b))+", re.IGNORECASE)
DATES = re.compile(
    r"\b(?:in|of|year|since|from|by|until|for|to|around|circa|between|(?:20|19)\d\d (?:and|-|to)) ?\(?$|\($"
)
RANGE = re.compile(r"^ ?(?:-|–|—|to|and) ?$")
NOTHING = re.compile(
    r"\b(?:n/?a|no data|not available|unknown|unavailable|don't know|do not know|not sure|no answer)\b"
)
MAX_DIGITS = 25


@dataclass(frozen=True)
class Quantity:
    """value : NaN-free number or None; outcome : "answered", "refused" or "unparsed"; how : the rule that decided."""

    value: float | None
    outcome: str
    how: str


@dataclass(frozen=True)
class _Found:
    value: float
    start: int
    end: int
    plain: bool  # four bare digits, which may be a year


def quantity(text: str) -> Quantity:
    """The number an answer gives.

    >>> [quantity(t).value for t in ("About 4.1 million.", "1.234.567", "12,5 %", "\u0661\u0662", "In 2019: 3,400")]
    [4100000.0, 1234567.0, 12.5, 12.0, 3400.0]
    """
    lines = [line for line in _plain(text).split("\n") if line.strip()]
    if not lines:
        return Quantity(None, "unparsed", "empty")
    only_year = False
    for line in lines:
        found = _numbers(line)
        kept = [n for n in found if not (n.plain and DATES.search(line[: n.start]))]
        only_year |= bool(found) and not kept
        if kept:
            return _decide(kept, line)
        if not found and (word := _word_number(line)) is not None:
            return Quantity(word, "answered", "number word")
    said = clean(text)
    if refuses(said) or NOTHING.search(said):
        return Quantity(None, "refused", "refusal phrase")
    return Quantity(None, "unparsed", "only a year" if only_year else "no number")


def _decide(numbers: list[_Found], line: str) -> Quantity:
    first = numbers[0]
    if sum(c.isdigit() for c in line[first.start : first.end]) > MAX_DIGITS:
        return Quantity(None, "unparsed", "runaway digits")
    if len(numbers) > 1 and RANGE.match(line[first.end : numbers[1].start]) and numbers[1].value > first.value:
        return Quantity((first.value + numbers[1].value) / 2, "answered", "middle of a range")
    if len({n.value for n in numbers}) == 1:
        return Quantity(first.value, "answered", "only number")
    return Quantity(first.value, "answered", "first of several numbers")


def _numbers(line: str) -> list[_Found]:
    found = []
    for m in NUMBER.finditer(line):
        digits, exponent, power, word = m.groups()
        tens = int((exponent or "e0")[1:]) + int(power or 0) + MULTIPLIERS.get(word or "", 0)
        value = float(f"{_decimal(digits)}e{tens}")
        bare = re.fullmatch(r"(?:19|20)\d\d", digits) is not None and not (exponent or power or word)
        if math.isfinite(value):
            found.append(_Found(value, m.start(), m.end(), bare))
    return found


def _decimal(digits: str) -> str:
    """A number as written by people, as Python reads it: which of its marks is the decimal one?"""
    digits = digits.replace("\u2212", "-")
    if re.fullmatch(rf"{SIGN}\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?", digits) and not re.match(r"-?0,", digits):
        return digits.replace(",", "")
    if re.fullmatch(rf"{SIGN}\d{{1,3}}(?:\.\d{{3}}){{2,}}(?:,\d+)?", digits):
        return digits.replace(".", "").replace(",", ".")
    return re.sub(r"[ '\u202f]", "", digits).replace(",", ".")


def _word_number(line: str) -> float | None:
    """The value of number words standing together ("forty-two million"), None where there are none."""
    for m in WORD_NUMBER.finditer(line):
        total, current, any_word = 0.0, 0.0, False
        for word in re.split(r"[ -]+", m.group().strip()):
            if word in WORDS:
                current, any_word = current + WORDS[word], True
            elif word == "hundred":
                current *= 100
            elif word in MULTIPLIERS and any_word:
                total, current = total + current * 10.0 ** MULTIPLIERS[word], 0.0
        if any_word:
            return total + current
    return None


def _plain(text: str) -> str:
    """Lower case, ASCII digits and decimal marks, no special tokens, no currency signs, no emphasis."""
    text = SPECIAL.sub(" ", text).translate(QUOTES)
    text = re.sub(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: "10^" + m.group(1).translate(SUPERSCRIPTS), text)
    text = "".join(_ascii_digit(c) for c in text)
    text = re.sub(r"[*$€£¥]", "", text.replace("\u066b", ".").replace("\u066c", ","))
    text = re.sub(r"(?i)\bminus (?=[\d.])", "-", text)
    return re.sub(r"(?m)^\s*(?:us|usd|eur|approx\.?|~|≈)\s*", "", text.lower())


def _ascii_digit(character: str) -> str:
    digit = unicodedata.digit(character, None) if character.isdigit() else None
    return character if digit is None else str(digit)
