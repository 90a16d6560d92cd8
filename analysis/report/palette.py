"""One fixed look for each name: colour, marker and dash, so that a model or an accelerator is the same in every
figure and every report.

The eight colours were searched for: every pair differs by more than 17 (CIE 1976 colour difference) to the common
eye and under protanopia, deuteranopia and tritanopia (Machado et al. 2009), and each keeps a contrast of 3 : 1
to a white and to a dark page. That leaves them alike in grey, so marker and dash differ too: 64 looks before one
comes twice.
Names that the project ships have places of their own; any other gets one from a hash of the name, moved on when
the report already uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#72A161", "#8C86FF", "#965226", "#0EA3BA", "#835374", "#909389")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "plus", "down", "ring")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "6 2 1 2")
PLACES = len(COLOURS) * len(MARKERS)
#: Their order is their look: append, never insert.
MODELS = ("tiny_llama", "tiny_mistral", "tiny_sparse", "llama", "mistral", "llama2")
ACCELS = ("hqq4", "wanda50", "wanda50+hqq4", "kv4", "sparsegpt50", "bnb4", "awq4", "gptq4", "hqq8", "wanda24", "kv8",
          "magnitude50", "sparsegpt24", "bnb8", "hqq3", "hqq2", "kv2", "bnb_fp4", "ao_int8", "ao_int4", "ao_fp8",
          "prequantized", "placebo_rerun", "placebo_batch", "placebo_dtype", "hqq4+kv4", "none")  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How a name is drawn. colour : hex; marker : name in MARKERS; dash : SVG stroke-dasharray."""

    colour: str
    marker: str
    dash: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each model; the shipped names' never change, no two of the first 64 are alike."""
    return _looks(names, MODELS)


def accel_looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each accelerator, likewise."""
    return _looks(names, ACCELS)


def _looks(names: Sequence[str], known: Sequence[str]) -> dict[str, Look]:
    taken: set[int] = set()
    found: dict[str, Look] = {}
    for name in sorted(set(names), key=lambda n: (n not in known, n)):
        place = known.index(name) if name in known else _free(name, taken)
        taken.add(place)
        found[name] = look(place)
    return {name: found[name] for name in names}


def look(place: int) -> Look:
    """The look of a place: the first eight share neither colour, marker nor dash, the next eight no pair of them.

    >>> look(0).marker, look(8).marker, look(0).colour == look(8).colour
    ('circle', 'square', True)
    """
    n = len(COLOURS)
    colour, turn = place % n, place // n
    other = (colour + turn) % n
    return Look(COLOURS[colour], MARKERS[other], DASHES[other])


def _free(name: str, taken: set[int]) -> int:
    """A place from the hash of `name`: a colour that nobody has while there is one, else a pair that nobody has."""
    n = len(COLOURS)
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    colours = {place % n for place in taken}
    for step in range(n):
        if (place := (start + step) % n) not in colours:
            return place
    return next((p for step in range(PLACES) if (p := (start + step) % PLACES) not in taken), start % PLACES)
