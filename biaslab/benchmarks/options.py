"""Options of a choice: every spelling that counts as giving one, or the one token that published code reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from biaslab.engine.requests import Choice, Option, Prompt


@lru_cache(maxsize=256)
def spelled(word: str) -> Option:
    """The option `word` as it stands, capitalised, in capitals and in small letters, with and without a blank.

    >>> spelled("yes").spellings
    ('yes', ' yes', 'Yes', ' Yes', 'YES', ' YES')
    """
    cases = dict.fromkeys((word, word.capitalize(), word.upper(), word.lower()))
    return Option(word, tuple(blank + case for case in cases for blank in ("", " ")))


def choice(prompt: Prompt, words: Sequence[str], variant: str) -> Choice:
    """A choice among `words`: by all their spellings, or (`published`) by one vocabulary entry each."""
    if variant == "published":
        return Choice(prompt, tuple(Option(word, (word,)) for word in words), as_piece=True)
    return Choice(prompt, tuple(spelled(word) for word in words))


def letters(n: int) -> list[str]:
    """The first `n` letters of options: A, B, C ..."""
    return [chr(ord("A") + i) for i in range(n)]
