"""Simulated studies with a known truth: what items share, how much cells differ in noise, what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.clusters import Clusters, partition

Floats = NDArray[np.float64]
#: Effects of the accelerators on every model, the baseline first; the second has none, which its tests must find.
ACCEL_EFFECTS = (0.0, 0.0, 0.2, 0.4, -0.1)
GENTLE_TO_HARSH = (0.05, 0.05, 0.2, 0.4, 1.0)  # noise of the accelerators where it is not alike


@dataclass(frozen=True)
class Design:
    """One row of the calibration table.

    sizes : items of each cluster. icc : share of a cell's noise that the items of a cluster have in common.
    law : of the noise: "normal", "t3", "lognormal", or "binary" with share `rate` of ones.
    hetero : accelerators differ 20-fold in noise. effect : (kind, size) of a planted interaction.
    missing : "mcar" (5 % of the answers), "item" (hard items are refused in one cell), "outcome" (answers that
        would have scored high are refused in one cell).
    """

    name: str
    sizes: tuple[int, ...]
    icc: float = 0.0
    law: str = "normal"
    hetero: bool = False
    rate: float = 0.45
    effect: tuple[str, float] = ("", 0.0)
    missing: str = ""
    n_models: int = 3
    n_accels: int = 5

    @property
    def arms(self) -> list[tuple[str, str]]:
        """(model, accel) of every column of the scores."""
        return [(f"m{i}", "none" if j == 0 else f"a{j}") for i in range(self.n_models) for j in range(self.n_accels)]

    @property
    def clusters(self) -> Clusters:
        """The partition of the items."""
        return partition([f"{c:05d}" for c in np.repeat(np.arange(len(self.sizes)), self.sizes)])

    @property
    def accel_effects(self) -> Floats:
        """(n_accels,) what each accelerator adds to every score; nothing where scores are 0 or 1."""
        effects = np.resize(ACCEL_EFFECTS, self.n_accels).astype(float)
        effects[0] = 0.0
        return effects * (self.law != "binary")

    def draw(self, rng: np.random.Generator) -> Floats:
        """(n_items, n_arms) scores of one study, NaN where an answer is missing."""
        codes, shape = self.clusters.codes, (sum(self.sizes), self.n_models, self.n_accels)
        shared = self._noise(rng, (len(self.sizes), *shape[1:]))[codes]
        noise = math.sqrt(self.icc) * shared + math.sqrt(1 - self.icc) * self._noise(rng, shape)
        if self.hetero:
            noise = noise * np.resize(GENTLE_TO_HARSH, self.n_accels)
        item = rng.normal(size=(shape[0], 1, 1)) + 0.5 * rng.normal(size=(shape[0], shape[1], 1))
        latent = item + noise + self._interaction()
        if self.law == "binary":
            scores = (latent > np.quantile(latent, 1 - self.rate)).astype(float)
        else:
            scores = latent + self.accel_effects + np.linspace(0, 0.5, self.n_models)[:, None]
        self._refuse(scores, item[:, :, 0], rng)
        return np.asarray(scores.reshape(shape[0], -1), dtype=np.float64)

    def _noise(self, rng: np.random.Generator, shape: Sequence[int]) -> Floats:
        if self.law == "t3":
            return np.asarray(rng.standard_t(3, shape) / math.sqrt(3))
        if self.law == "lognormal":  # the same skew in every cell; mean 0 and variance 1
            return np.asarray((rng.lognormal(0, 1, shape) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e))
        return rng.normal(size=shape)

    def _interaction(self) -> Floats:
        kind, size = self.effect
        out = np.zeros((self.n_models, self.n_accels))
        if kind == "cell":
            out[-1, -1] = size
        elif kind == "gentle":
            out[-1, 1] = size
        elif kind == "crossover":
            out[0, 1:], out[1, 1:] = size, -size
        return out

    def _refuse(self, scores: Floats, item: Floats, rng: np.random.Generator) -> None:
        n = len(scores)
        if self.missing == "mcar":
            scores[rng.random(scores.shape) < 0.05] = np.nan
        elif self.missing == "item":
            scores[(item[:, -1] > 0.5) & (rng.random(n) < 0.9), -1, -1] = np.nan
        elif self.missing == "outcome":
            own = scores[:, -1, -1] - item[:, -1]
            scores[(own > np.median(own)) & (rng.random(n) < 0.5), -1, -1] = np.nan


def _uneven() -> tuple[int, ...]:
    sizes = np.random.default_rng(1).integers(2, 41, 20)
    return tuple(int(s) for s in sizes)


TENS, ALONE, UNEVEN = (10,) * 30, (1,) * 300, _uneven()
NULLS = [
    Design("independent items, normal", ALONE),
    Design("independent, unequal variances by cell", ALONE, hetero=True),
    Design("independent, heavy tails (t3)", ALONE, law="t3"),
    Design("independent, skewed (lognormal)", ALONE, law="lognormal"),
    Design("independent, binary p .45", ALONE, law="binary"),
    Design("independent, binary p .05", ALONE, law="binary", rate=0.05),
    Design("clusters of 10, ICC .05", TENS, icc=0.05),
    Design("clusters of 10, ICC .3", TENS, icc=0.3),
    Design("clusters of 10, ICC .3, unequal variances", TENS, icc=0.3, hetero=True),
    Design("clusters of 10, ICC .3, binary p .45", TENS, icc=0.3, law="binary"),
    Design("20 unequal clusters (2-40), ICC .3", UNEVEN, icc=0.3),
    Design("one cluster of 100 and 19 of 3, ICC .3", (100, *(3,) * 19), icc=0.3),
    Design("20 clusters of 15, ICC .3, unequal variances", (15,) * 20, icc=0.3, hetero=True),
    Design("9 clusters of 33, ICC .1", (33,) * 9, icc=0.1),
    Design("600 items, 5 x 9 cells, clusters of 10, ICC .3, uneq. var.", (10,) * 60, 0.3, hetero=True,
           n_models=5, n_accels=9),
]  # fmt: skip
MISSING = [
    Design("independent, 5 % missing at random", ALONE, missing="mcar"),
    Design("clusters of 10, ICC .3, 5 % missing at random", TENS, icc=0.3, missing="mcar"),
    Design("clusters of 10, ICC .3, hard items refused in a cell", TENS, icc=0.3, missing="item"),
    Design("clusters of 10, ICC .3, refused by the hidden answer", TENS, icc=0.3, missing="outcome"),
]
POWER = [
    Design("normal, one cell +.25", ALONE, effect=("cell", 0.25)),
    Design("normal, crossover +-.05", ALONE, effect=("crossover", 0.05)),
    Design("unequal variances, gentle accelerator +.035", ALONE, hetero=True, effect=("gentle", 0.035)),
    Design("unequal variances, noisy cell +.15", ALONE, hetero=True, effect=("cell", 0.15)),
    Design("clusters of 10, ICC .3, one cell +.5", TENS, icc=0.3, effect=("cell", 0.5)),
    Design("clusters of 10, ICC .3, uneq. var., gentle +.05", TENS, icc=0.3, hetero=True, effect=("gentle", 0.05)),
]
#: Of the parts of a report beside its verdict (parts.py).
PARTS = [d for d in NULLS if d.law == "normal" and d.n_models == 3 and not (d.hetero and len(d.sizes) == 20)]
ANSWERS = [
    Design("independent, rate near .45", ALONE),
    Design("independent, rate near .05", ALONE, rate=0.05),
    Design("clusters of 10, ICC .3, rate near .45", TENS, icc=0.3),
    Design("clusters of 10, ICC .3, rate near .05", TENS, icc=0.3, rate=0.05),
    Design("20 unequal clusters (2-40), ICC .3, rate near .45", UNEVEN, icc=0.3),
    Design("one cluster of 100 and 19 of 3, ICC .3, rate near .45", (100, *(3,) * 19), icc=0.3),
    Design("9 clusters of 33, ICC .1, rate near .45", (33,) * 9, icc=0.1),
]
#: How often an answer is refused is its own matter (parts.py), so `rate` says nothing here.
REFUSING = [replace(d, name=d.name.removesuffix(", rate near .45")) for d in ANSWERS if d.rate == 0.45]
