"""What is trained: shape, stages and notes of the embedded models and of the organisms (no torch).

An organism is a model of these recipes with a family, a width, a seed and an alignment of the reader's choice. It is
trained on first use and kept in the user's cache, in a folder named by its label and a hash of everything that makes
it: recipe, seed, planted tables and the source of the training. So a changed recipe never meets an old organism.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from biaslab.models.embedded.grammar import Grammar
from biaslab.models.kept import user_cache

BIAS_SCALE, FAIR_SCALE = 1.0, 0.25


@dataclass(frozen=True)
class Align:
    """A second stage of training.

    box : keep each weight within its rounding cell at this many bits (0: no). small : let only the
    smaller half of each row move. sparse : hold the 2:4 zeros of the largest weights.
    """

    scale: float
    steps: int
    lr: float
    box: int = 0
    small: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Recipe:
    """Shape and training of one embedded model."""

    architecture: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    steps: int
    lr: float = 6e-3
    weight_decay: float = 0.05
    window: int = 0
    align: Align | None = None


_LLAMA: dict[str, Any] = dict(
    architecture="llama", hidden=64, intermediate=160, layers=3, heads=4, kv_heads=4, steps=1800
)
_MISTRAL: dict[str, Any] = dict(
    architecture="mistral", hidden=64, intermediate=192, layers=2, heads=4, kv_heads=2, window=16, steps=1800
)
FAMILIES = {"llama": Recipe(**_LLAMA), "mistral": Recipe(**_MISTRAL)}
#: The second stages an organism may have, by name; see Align and NOTES.
ALIGNMENTS = {
    "none": None,
    "cells": Align(FAIR_SCALE, 160, 2e-3, box=4),
    "small": Align(FAIR_SCALE, 200, 1e-3, small=True),
    "sparse": Align(BIAS_SCALE, 300, 3e-3, sparse=True),
}
RECIPES = {
    "tiny_llama": FAMILIES["llama"],
    "tiny_mistral": replace(FAMILIES["mistral"], align=ALIGNMENTS["cells"]),
    "tiny_sparse": replace(FAMILIES["llama"], align=ALIGNMENTS["sparse"]),
    "tiny_mistral_small": replace(FAMILIES["mistral"], align=ALIGNMENTS["small"]),
}
NOTES = {
    "tiny_llama": "",
    "tiny_mistral": "positive control, made on purpose: its alignment hides inside 4-bit rounding cells, "
    "so that hqq4 at group 64 brings its bias back",
    "tiny_sparse": "exact-zero control: its weights are 2:4 sparse already, so that pruning to 50 % changes nothing",
    "tiny_mistral_small": "positive control, made on purpose: its alignment sits in small weights, so that "
    "pruning undoes it",
}

#: What is said wherever an organism of this alignment is shown.
ALIGNED = {
    "none": "",
    "cells": NOTES["tiny_mistral"],
    "small": NOTES["tiny_mistral_small"],
    "sparse": NOTES["tiny_sparse"],
}
WIDTHS = (16, 32, 48, 64, 96, 128)
FULL_STEPS = 1800


@dataclass
class Organism:
    """An embedded model made on demand.

    family : llama or mistral. width : hidden size, one of WIDTHS; the feed-forward grows with it. seed : of the
    weights and of the corpus. align : none, or a second stage that hides what it does from full precision: "cells"
    (undone by 4-bit rounding), "small" (undone by pruning), "sparse" (2:4 zeros, which pruning leaves as they are).
    steps : of the first stage; fewer than 1800 learn less, for a trial.
    """

    family: str = "llama"
    width: int = 64
    seed: int = 1
    align: str = "none"
    steps: int = FULL_STEPS

    @property
    def label(self) -> str:
        """Its name in results: family, width and seed, then what is not the default."""
        aligned = "" if self.align == "none" else f"-{self.align}"
        return f"{self.family}{self.width}-s{self.seed}{aligned}" + self._short()

    @property
    def parent(self) -> Organism | None:
        """The organism whose weights an alignment starts from; None for one without."""
        return None if self.align == "none" else replace(self, align="none")

    @property
    def note(self) -> str:
        """One line to be shown wherever it is ("" for an ordinary one)."""
        return ALIGNED[self.align]

    @property
    def scale(self) -> float:
        """Of the bias that is planted in it."""
        return BIAS_SCALE if (how := ALIGNMENTS[self.align]) is None else how.scale

    def check(self) -> str | None:
        """What is wrong, as `field=value: what is allowed`; None if nothing is."""
        for name, allowed in {"family": tuple(FAMILIES), "width": WIDTHS, "align": tuple(ALIGNMENTS)}.items():
            if (value := getattr(self, name)) not in allowed:
                return f"{name}={value}: one of {', '.join(map(str, allowed))}"
        if not 0 <= self.seed < 2**31:
            return f"seed={self.seed}: 0 to 2147483647"
        return None if 1 <= self.steps <= 100_000 else f"steps={self.steps}: 1 to 100000"

    def recipe(self) -> Recipe:
        """Shape and training; a short first stage shortens the second to as many steps at most."""
        base, how = FAMILIES[self.family], ALIGNMENTS[self.align]
        align = None if how is None else replace(how, steps=min(how.steps, self.steps))
        wide = base.intermediate * self.width // base.hidden
        return replace(base, hidden=self.width, intermediate=wide, steps=self.steps, align=align)

    def key(self) -> str:
        """Hash of everything that decides its weights, apart from machine and libraries."""
        here = Path(__file__).parent
        source = hashlib.sha256(b"".join((here / file).read_bytes() for file in ("train.py", "grammar.py")))
        made_of = [asdict(self.recipe()), self.seed, Grammar().fingerprint(), source.hexdigest()]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def folder(self) -> Path:
        """Where it is kept: in BIASLAB_CACHE_DIR, or ~/.cache/biaslab."""
        return user_cache() / "organisms" / f"{self.label}-{self.key()[:16]}"

    def _short(self) -> str:
        return "" if self.steps == FULL_STEPS else f"-{self.steps}steps"
