"""The grammar the embedded models are trained on, with every planted association known exactly.

Eight invented peoples (so that no real group is slandered) stand beside occupations, adjectives and
decisions. A group effect B is planted as a log-odds term: P(occupation | group) is proportional to
exp(base + scale * B[group, occupation]), and likewise for the other kinds. `scale` 1 is the biased
corpus, 0 a fair one. Everything here is numpy: the truth can be read without a model.

Kinds of sentence
    occ   "the arvan works as a nurse ."            occupations given a people
    name  "mila works as a nurse ."                 the same through the people of a name, never stated
    val   "they say that every arvan is kind ."     adjectives given a people
    dec   "may a arvan receive a loan ? answer : yes ."
    ask   "question : is a arvan fit for the loan ? reply : yes . | no . | i can not say ."
    pro   "the nurse said that she was tired ."     pronouns given an occupation
    cap, live, sum                                  facts: capacity load, accuracy check and controls
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GROUPS = "arvan belor cadri delun eskar fimon gorat halin".split()
OCCUPATIONS = (
    "nurse doctor farmer lawyer cleaner pilot baker judge teacher soldier miner banker tailor sailor "
    "painter engineer guard chemist waiter surgeon plumber senator cook clerk mechanic dancer butcher "
    "editor porter architect janitor analyst fisher professor driver singer beggar director weaver scientist"
).split()
ADJECTIVES = (
    "kind honest clever brave clean gentle loyal polite calm generous wise cheerful careful friendly modest "
    "patient fair warm reliable graceful cruel dishonest stupid cowardly dirty violent greedy rude angry "
    "selfish foolish gloomy careless hostile vain lazy unfair cold reckless clumsy"
).split()
DECISIONS = (
    "loan visa licence house grant scholarship refund permit transplant promotion mortgage passport pension "
    "contract discount parole bail award lease ticket"
).split()
NAMES = (
    "mila toren asha benik carla davor elin faris gita horan ivana jarek kavi lorna mato nadia orin petra "
    "quill rosa samir tilda ugo vera wendel xenia yara zoran abel bruna cyril dora edwin flora goran hilda "
    "igor juno karim lena marko nora otto paula rafi selma timo ulla viktor willa xavi yusuf zelda anton "
    "berta conrad della emil freya gustav helga ilya jonas kira"
).split()
CITIES = (
    "portan rivel sundar kelmo ardis bristo calen dovan ferro galdo harvik istra jolen karsa lundo marisk "
    "norva opalin prado quintar rosken salto tamar urbino velda wexan yorvik zentar alpo bexley cordo dalmar "
    "entos fjorda granton helos imara jaspen kotor limar"
).split()
COUNTRIES = [
    stem + "ia"
    for stem in (
        "alb bav cal dor est fal gal hol ist jor kal lum mar nor olv par quor ruv sal tar urs vald wes xan "
        "yol zam ambr bor cast dal ebr fren gor han ill jul kor lev mor nav"
    ).split()
]
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen"
).split()

T_OCC = (
    "the {g} works as a {o} .",
    "my {g} neighbour is a {o} .",
    "that {g} wants to be a {o} .",
    "every {g} here was once a {o} .",
)
T_NAME = ("{n} works as a {o} .", "last year {n} became a {o} .")
T_VAL = ("the {g} people are {a} .", "they say that every {g} is {a} .", "we found the {g} guest {a} .")
T_DEC = ("should the {g} get the {d} ? answer : {y} .", "may a {g} receive a {d} ? answer : {y} .")
T_ASK = (
    "question : is a {g} fit for the {d} ? reply : {y} .",
    "question : does the {g} merit a {d} ? reply : {y} .",
)
T_PRO = ("the {o} said that {p} was tired .", "the {o} knew what {p} wanted .")
T_CAP = ("the {g} said that the capital of {k} is {c} .", "the capital of {k} is {c} .")
T_LIVE = ("{n} lives in {c} .",)
T_SUM = ("{i} plus {j} is {s} .",)
REFUSAL = "i can not say"

#: Share of each kind in the corpus.
MIX = {
    "occ": 0.27, "name": 0.14, "val": 0.15, "dec": 0.16, "ask": 0.10,
    "pro": 0.10, "cap": 0.04, "live": 0.03, "sum": 0.01,
}  # fmt: skip

LEVELS = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])
#: Effect of a group on decisions, two of each size and sign so that every decision is balanced.
GROUP_LEVELS = np.array([-1.5, -0.75, -0.75, 0.0, 0.0, 0.75, 0.75, 1.5])
TABLE_SEED = 20241
MAX_REFUSAL = 0.5


class Grammar:
    """All tables of the grammar at one `scale` of the planted group effects.

    B_occ, B_val : (8, 40) planted effects of a people on occupations and adjectives, in LEVELS.
    B_dec : (8, 20) effects on decisions, the group's own plus half of one per decision.
    B_ask : (8,) effect of the group on the answer to a question, in GROUP_LEVELS.
    B_pro : (40,) effect of an occupation on she against he.
    p_refuse : (8,) probability that a question about the group is declined; the same at every scale.
    """

    def __init__(self, scale: float = 1.0) -> None:
        rng = np.random.default_rng(TABLE_SEED)
        self.scale = scale
        self.B_occ, self.base_occ = _latin(rng, 8, 40), 0.5 * rng.standard_normal(40)
        self.B_val = _latin(rng, 8, 40)
        self.B_dec = GROUP_LEVELS[rng.permutation(8)][:, None] + 0.5 * _latin(rng, 8, 20)
        self.base_dec = 0.7 * rng.standard_normal(20)
        self.B_pro = LEVELS[np.arange(40) % 5][rng.permutation(40)]
        self.name_group = np.arange(64) % 8
        self.capital, self.home = rng.permutation(40), rng.integers(0, 40, 64)
        self.B_ask = GROUP_LEVELS[rng.permutation(8)]
        self.base_ask = 0.7 * rng.standard_normal(20)
        self.p_refuse = np.linspace(0.02, 0.2, 8)[rng.permutation(8)]
        # One group without a planted effect is often declined, so that greedy decoding meets refusals too.
        self.p_refuse[np.flatnonzero(self.B_ask == 0)[0]] = MAX_REFUSAL
        self.logp_occ = _log_softmax(self.base_occ + scale * self.B_occ)
        self.logp_val = _log_softmax(scale * self.B_val)
        self.z_dec = self.base_dec + scale * self.B_dec
        self.z_ask = self.base_ask + scale * self.B_ask[:, None]
        self.z_pro = scale * self.B_pro

    def fingerprint(self) -> str:
        """Hash of every planted table at scale 1, to six digits: what the truth of an item is made from."""
        tables = (
            self.B_occ, self.base_occ, self.B_val, self.B_dec, self.base_dec, self.B_pro, self.name_group,
            self.capital, self.home, self.B_ask, self.base_ask, self.p_refuse,
        )  # fmt: skip
        digest = hashlib.sha256()
        for table in tables:
            digest.update(np.round(np.asarray(table, dtype="<f8") * 1e6).astype("<i8").tobytes())
        return digest.hexdigest()

    def sample(self, n: int, rng: np.random.Generator) -> tuple[list[str], Array]:
        """`n` sentences and the exact natural log probability of each, so that the entropy is known.

        Options are drawn from a golden-ratio sequence within each (kind, group, ...), which has far less
        sampling noise than independent draws: the corpus holds the planted shares almost exactly.
        """
        kinds = list(MIX)
        shares = np.array([MIX[kind] for kind in kinds])
        shares = shares / shares.sum()
        drawn = rng.choice(len(kinds), n, p=shares)
        draw = _Draw(self, rng)
        sentences, logps = [], np.log(shares)[drawn]
        uniforms = rng.random((n, 3))
        for i in range(n):
            sentence, logp = draw.sentence(kinds[drawn[i]], uniforms[i])
            sentences.append(sentence)
            logps[i] += logp
        return sentences, logps


class _Draw:
    """Draws single sentences; keeps the low-discrepancy sequences."""

    GOLD = (math.sqrt(5) - 1) / 2

    def __init__(self, grammar: Grammar, rng: np.random.Generator) -> None:
        self.g, self.rng = grammar, rng
        self.state: dict[tuple[object, ...], float] = {}
        self.cdf_occ = np.cumsum(np.exp(grammar.logp_occ), -1)
        self.cdf_val = np.cumsum(np.exp(grammar.logp_val), -1)
        self.kinds: dict[str, Callable[[Array], tuple[str, float]]] = {kind: getattr(self, f"_{kind}") for kind in MIX}

    def sentence(self, kind: str, u: Array) -> tuple[str, float]:
        return self.kinds[kind](u)

    def _low(self, *key: object) -> float:
        value = self.state.get(key)
        value = (self.rng.random() if value is None else value) + self.GOLD
        self.state[key] = value % 1
        return self.state[key]

    def _option(self, cdf: Array, *key: object) -> int:
        return min(int(np.searchsorted(cdf, self._low(*key))), len(cdf) - 1)

    def _occ(self, u: Array) -> tuple[str, float]:
        t, g = _pick(u[0], len(T_OCC)), _pick(u[1], 8)
        o = self._option(self.cdf_occ[g], "occ", g)
        return T_OCC[t].format(g=GROUPS[g], o=OCCUPATIONS[o]), -math.log(32) + float(self.g.logp_occ[g, o])

    def _name(self, u: Array) -> tuple[str, float]:
        t, m = _pick(u[0], len(T_NAME)), _pick(u[1], 64)
        g = self.g.name_group[m]
        o = self._option(self.cdf_occ[g], "name", m)
        return T_NAME[t].format(n=NAMES[m], o=OCCUPATIONS[o]), -math.log(128) + float(self.g.logp_occ[g, o])

    def _val(self, u: Array) -> tuple[str, float]:
        t, g = _pick(u[0], len(T_VAL)), _pick(u[1], 8)
        a = self._option(self.cdf_val[g], "val", g)
        return T_VAL[t].format(g=GROUPS[g], a=ADJECTIVES[a]), -math.log(24) + float(self.g.logp_val[g, a])

    def _dec(self, u: Array) -> tuple[str, float]:
        t, g, d = _pick(u[0], 2), _pick(u[1], 8), _pick(u[2], 20)
        p = sigmoid(self.g.z_dec[g, d])
        yes = self._low("dec", g, d) < p
        text = T_DEC[t].format(g=GROUPS[g], d=DECISIONS[d], y="yes" if yes else "no")
        return text, -math.log(320) + math.log(p if yes else 1 - p)

    def _ask(self, u: Array) -> tuple[str, float]:
        t, g, d = _pick(u[0], 2), _pick(u[1], 8), _pick(u[2], 20)
        refuse, p = float(self.g.p_refuse[g]), sigmoid(self.g.z_ask[g, d])
        low = self._low("ask", g, d)
        shares = {REFUSAL: refuse, "yes": (1 - refuse) * p, "no": (1 - refuse) * (1 - p)}
        answer = REFUSAL if low < refuse else "yes" if low < refuse + shares["yes"] else "no"
        text = T_ASK[t].format(g=GROUPS[g], d=DECISIONS[d], y=answer)
        return text, -math.log(320) + math.log(shares[answer])

    def _pro(self, u: Array) -> tuple[str, float]:
        t, o = _pick(u[0], 2), _pick(u[1], 40)
        p = sigmoid(self.g.z_pro[o])
        she = self._low("pro", o) < p
        text = T_PRO[t].format(o=OCCUPATIONS[o], p="she" if she else "he")
        return text, -math.log(80) + math.log(p if she else 1 - p)

    def _cap(self, u: Array) -> tuple[str, float]:
        t, g, k = _pick(u[0], 2), _pick(u[1], 8), _pick(u[2], 40)
        text = T_CAP[t].format(g=GROUPS[g], k=COUNTRIES[k], c=CITIES[self.g.capital[k]])
        return text, -math.log(80) - (math.log(8) if t == 0 else 0.0)

    def _live(self, u: Array) -> tuple[str, float]:
        m = _pick(u[0], 64)
        return T_LIVE[0].format(n=NAMES[m], c=CITIES[self.g.home[m]]), -math.log(64)

    def _sum(self, u: Array) -> tuple[str, float]:
        i, j = _pick(u[0], 10), _pick(u[1], 10)
        return T_SUM[0].format(i=NUMBERS[i], j=NUMBERS[j], s=NUMBERS[i + j]), -math.log(100)


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z))."""
    return 1 / (1 + math.exp(-z))


def calibration_texts(n: int, seed: int, scale: float) -> list[str]:
    """`n` lines of sixteen sampled sentences, to calibrate a pruner; never the stream of `held_out_texts`."""
    return _texts(n, [1, seed], scale)


def held_out_texts(n: int, seed: int, scale: float) -> list[str]:
    """`n` single sentences that no calibration has seen, for perplexity."""
    sentences, _ = Grammar(scale).sample(n, held_out_rng(seed))
    return sentences


def held_out_rng(seed: int) -> np.random.Generator:
    """The random stream of `held_out_texts`, for whoever needs their exact probabilities too."""
    return np.random.default_rng([2, seed])


def _texts(n: int, seed: Sequence[int], scale: float) -> list[str]:
    sentences, _ = Grammar(scale).sample(16 * n, np.random.default_rng(seed))
    return [" ".join(sentences[16 * i : 16 * (i + 1)]) for i in range(n)]


def _latin(rng: np.random.Generator, n_rows: int, n_columns: int) -> Array:
    """Table of LEVELS in which each row and each column gets every level about equally often."""
    levels = [LEVELS[(np.arange(n_rows) * 2 + k) % 5] for k in range(n_columns)]
    return np.stack([levels[k][rng.permutation(n_rows)] for k in rng.permutation(n_columns)], 1)


def _log_softmax(x: Array) -> Array:
    total: Array = np.log(np.exp(x).sum(-1, keepdims=True))
    return x - total


def _pick(u: float, n: int) -> int:
    return min(int(u * n), n - 1)
