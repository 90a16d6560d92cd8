"""Sentences of the paper that its own tables can bear out or not, each with the figures that decide.

The claims are told in our words. A printed value is off by half a unit of its last digit at most, so a printed change
is off by one unit at most; only what exceeds that is called a change here. No test is possible: one value a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.paper.table import Block
from analysis.paper.twoway import two_way

BASE = "none"
KV = ("kv8", "kv4")
#: The conditions that act on weights; every model has them.
WEIGHTS = ("none", "bnb8", "bnb4", "awq4", "wanda50", "wanda24")
#: Benchmarks that the paper's code scores without ever reading a KV cache: a plain forward, or the first new token.
UNREAD = ("crows_pairs", "discrim_eval", "global_opinion_qa")
SUPPORTED, PARTLY, NOT, OPEN = "supported", "in part", "not supported", "cannot be seen here"
LARGE = 5  # printed units


@dataclass(frozen=True)
class Change:
    """A printed condition against its model's printed baseline. unit : one unit of the last printed digit."""

    block: Block
    model: str
    accel: str
    before: float
    after: float

    @property
    def units(self) -> float:
        """The change in units of the last printed digit; up to 1 either way is rounding."""
        return round((self.after - self.before) / (2 * self.block.half), 6)

    def __str__(self) -> str:
        digits = 0 if self.block.half == 0.5 else 2
        return f"{self.block.title} {self.model} {self.accel} {self.before:.{digits}f} to {self.after:.{digits}f}"


@dataclass(frozen=True)
class Claim:
    """What the paper says (in our words), whether its tables bear it out, and the figures."""

    says: str
    verdict: str
    figures: str


def changes(blocks: Iterable[Block]) -> list[Change]:
    """Every printed condition that has a printed baseline."""
    out = []
    for block in blocks:
        for model in block.models:
            before = block.value(model, BASE)
            for accel in block.accels:
                after = block.value(model, accel)
                if accel != BASE and np.isfinite(before) and np.isfinite(after):
                    out.append(Change(block, model, accel, before, after))
    return out


def claims(blocks: Sequence[Block]) -> list[Claim]:
    """Every claim, judged on `blocks`."""
    found = changes(blocks)
    return [judge(blocks, found) for judge in JUDGES]


def _one_model(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    """The abstract's central sentence."""
    rows: dict[tuple[str, str], list[Change]] = {}
    for change in found:
        rows.setdefault((change.block.title, change.accel), []).append(change)
    rows = {key: row for key, row in rows.items() if len(row) > 1}
    split = [r for r in rows.values() if min(abs(c.units) for c in r) <= 1 and max(abs(c.units) for c in r) >= LARGE]
    widest = max(split, key=lambda r: max(abs(c.units) for c in r))
    small, large = min(widest, key=lambda c: abs(c.units)), max(widest, key=lambda c: abs(c.units))
    return Claim(
        "one strategy may change a kind of bias little in one model and much in another",
        SUPPORTED if split else NOT,
        f"in {len(split)} of {len(rows)} rows (benchmark x strategy) one model stays within rounding and another moves "
        f"by {LARGE} printed units or more, their noise unknown; widest: {small}, {large}",
    )


def _unpredictable(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    shares = []
    for block in blocks:
        models, _, values = block.complete_grid(WEIGHTS)
        if len(models) == 3:
            shares.append((two_way(values).common, block.title))
    high = [(s, t) for s, t in shares if s > 0.5]
    listed = ", ".join(f"{title} {share:.2f}" for share, title in sorted(shares, reverse=True))
    return Claim(
        "the effects of acceleration on bias are complex and unpredictable",
        PARTLY if 0 < len(high) < len(shares) else SUPPORTED if not high else NOT,
        f"over half of the variation between conditions is common to the three models in {len(high)} of {len(shares)} "
        f"blocks, so there the other models do foretell much: {listed}. With one value a cell the rest is interaction "
        "and noise together",
    )


def _significant(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    beyond = sum(abs(c.units) > 1 for c in found)
    return Claim(
        "bias changes significantly under acceleration",
        OPEN,
        f"{beyond} of {len(found)} printed changes exceed what rounding can make; whether they exceed the sampling "
        "noise of the items no table of single values can say, and no printed figure has an error",
    )


def _pruned_lowest(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    rows = _rows(blocks, "discrim_eval")
    lowest = [b.value(m, "wanda24") <= np.nanmin(b.values[b.models.index(m)]) for b, m in rows]
    return Claim(
        "on DiscrimEval structured pruning has the lowest bias",
        _all_or_part(lowest),
        f"2:4 pruning has the lowest printed value, alone or tied, in {sum(lowest)} of {len(lowest)} rows "
        "(a model whose text degenerates also reads as less biased here)",
    )


def _kv_second(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    kv = [c for c in found if c.accel in KV and c.block.benchmark == "discrim_eval"]
    lower = [c for c in kv if c.units < -1]
    return Claim(
        "on DiscrimEval KV-cache quantization follows closely, with lower bias",
        PARTLY if 0 < len(lower) < len(kv) else _all_or_part([c in lower for c in kv]),
        f"lower in {len(lower)} of {len(kv)} cells ({'; '.join(map(str, lower))}), equal to the digit in "
        f"{sum(c.units == 0 for c in kv)}; the released code takes this score from the first new token, which no "
        "quantized cache can reach, so it cannot have made the lower ones",
    )


def _kv_robust(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    kv = [c for c in found if c.accel in KV]
    unread = [c for c in kv if c.block.benchmark in UNREAD]
    read = [c for c in kv if c.block.benchmark not in UNREAD]
    within = [c for c in read if abs(c.units) <= 1]
    widest = max(read, key=lambda c: abs(c.units))
    return Claim(
        "bias is robust to KV-cache quantization",
        PARTLY if 0 < len(within) < len(read) else _all_or_part([c in within for c in read]),
        f"{sum(c.units == 0 for c in unread)} of {len(unread)} cells equal their baseline to the digit on benchmarks "
        f"whose score never reads the cache, which shows nothing; where it is read, {len(within)} of {len(read)} stay "
        f"within rounding, widest: {widest}; no figure for Mistral",
    )


def _awq(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    rows = [c for c in found if c.accel == "awq4" and c.block.benchmark == "discrim_eval_gen"]
    plain = [c for c in rows if not c.block.chat]
    up = [c for c in plain if c.units > 1]
    down = [c for c in plain if c.units < -1]
    return Claim(
        "on DiscrimEvalGen AWQ increases bias across models and ways of sampling",
        SUPPORTED if len(up) == len(plain) else PARTLY if up else NOT,
        f"with plain prompts up beyond rounding in {len(up)} of {len(plain)} printed cells, down in {len(down)} "
        f"({'; '.join(map(str, down)) or 'none'}); with the chat template up in "
        f"{sum(c.units > 1 for c in rows if c.block.chat)} of {len(rows) - len(plain)}",
    )


def _disparity(blocks: Sequence[Block], found: Sequence[Change]) -> Claim:
    rows = [c for c in found if c.block.benchmark == "worldbench" and c.accel.startswith("wanda")]
    return Claim(
        "pruning widens WorldBench's gaps between regions and between income groups in 8 of 12 cases",
        OPEN,
        f"the tables print mean errors, no gaps; those rise under pruning in {sum(c.units > 1 for c in rows)} of "
        f"{len(rows)} cells",
    )


JUDGES: tuple[Callable[[Sequence[Block], Sequence[Change]], Claim], ...] = (
    _one_model,
    _unpredictable,
    _significant,
    _pruned_lowest,
    _kv_second,
    _kv_robust,
    _awq,
    _disparity,
)


def _rows(blocks: Sequence[Block], benchmark: str) -> list[tuple[Block, str]]:
    return [(b, m) for b in blocks if b.benchmark == benchmark for m in b.models]


def _all_or_part(held: Sequence[bool]) -> str:
    return SUPPORTED if all(held) else PARTLY if any(held) else NOT
