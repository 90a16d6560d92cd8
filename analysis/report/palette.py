"""One fixed look for each name: colour, marker and dash, so that a model is the same in every report.

Colours are Okabe & Ito's, told apart by colour-blind readers; markers and dashes tell them apart in grey.
Names the project ships have places of their own; any other name gets one from a hash of the name, moved on
when the report already uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#6A4C93")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "plus", "down", "ring")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "6 2 1 2")
KNOWN = ("tiny_llama", "tiny_mistral", "tiny_sparse", "llama", "mistral", "llama2")


@dataclass(frozen=True)
class Look:
    """How a name is drawn. colour : hex; marker : name in MARKERS; dash : SVG stroke-dasharray."""

    colour: str
    marker: str
    dash: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each of `names`; the shipped names' never change, no two of the first eight are alike."""
    taken: dict[int, str] = {}
    found: dict[str, Look] = {}
    for name in sorted(names, key=lambda n: (n not in KNOWN, n)):
        place = KNOWN.index(name) if name in KNOWN else int(hashlib.sha256(name.encode()).hexdigest(), 16)
        place %= len(COLOURS)
        for _ in COLOURS:
            if place not in taken:
                break
            place = (place + 1) % len(COLOURS)
        taken.setdefault(place, name)
        found[name] = Look(COLOURS[place], MARKERS[place], DASHES[place])
    return {name: found[name] for name in names}
