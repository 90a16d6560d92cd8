"""Which weights to prune, given how much each one matters. Deterministic: ties go to the lowest index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 2**18
N_OF_M = re.compile(r"([1-9]\d*):([1-9]\d*)")


def parse_pattern(pattern: str) -> tuple[int, int] | None:
    """(n, m) of "n:m" (at most n of every m consecutive weights of a row stay), None for any other word."""
    match = N_OF_M.fullmatch(pattern)
    return (int(match[1]), int(match[2])) if match else None


def check_pattern(sparsity: float, pattern: str, words: tuple[str, ...]) -> str | None:
    """What is wrong with a sparsity and a pattern, as "field=value: what is allowed", or None."""
    if not 0 < sparsity < 1:
        return f"sparsity={sparsity}: above 0, below 1"
    if pattern in words:
        return None
    parsed = parse_pattern(pattern)
    if parsed is None or parsed[0] >= parsed[1]:
        return f"pattern={pattern}: {', '.join(words)}, or n:m with n below m, such as 2:4"
    n, m = parsed
    if abs(sparsity - (1 - n / m)) > 1e-9:
        return f"sparsity={sparsity}: pattern {pattern} keeps {n} of every {m}, so it must be {1 - n / m:g}"
    return None


def prune_mask(weight: Tensor, metric: Tensor, sparsity: float, pattern: str) -> Tensor:
    """The weights to set to zero, bool (out, in).

    metric : importance of each weight, >= 0, float32, (out, in). Weights that are zero already are taken
        first, whatever their metric, so that a model that has the pattern comes out unchanged.
    pattern : "row" (lowest share of each row), "layer" (lowest share of the matrix) or "n:m".
    """
    ranked = metric.masked_fill(weight == 0, -1.0)
    if (parsed := parse_pattern(pattern)) is not None:
        return _groups_mask(ranked, *parsed)
    if pattern == "row":
        # The published implementations round a row's share down; 1e-6 undoes 0.29 * 100 = 28.999...
        return lowest(ranked, int(ranked.shape[1] * sparsity + 1e-6))
    flat = ranked.reshape(1, -1)
    return lowest(flat, round(flat.shape[1] * sparsity)).reshape(ranked.shape)


def lowest(values: Tensor, k: int) -> Tensor:
    """Mask of the k lowest of each row of `values` (rows, columns); of equal ones the first columns."""
    import torch

    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if values.numel() > AT_ONCE and len(values) > 1:  # ranks are 64-bit, many times the weights' own memory
        return torch.cat([lowest(part, k) for part in torch.split(values, max(1, AT_ONCE // values.shape[1]))])
    limit = values.kthvalue(k, dim=1, keepdim=True).values
    below, ties = values < limit, values == limit
    room = k - below.sum(dim=1, keepdim=True)
    return below | (ties & (ties.cumsum(dim=1) <= room))


def pattern_holds(weight: Tensor, n: int, m: int) -> bool:
    """True if at most n of every m consecutive weights of each row are non-zero (a short last group too)."""
    return bool((_groups(weight != 0, m, fill=False).sum(dim=-1) <= n).all())


def _groups_mask(ranked: Tensor, n: int, m: int) -> Tensor:
    # A short last group is filled up with places that count as pruned already.
    groups = _groups(ranked, m, fill=-2.0)
    mask = lowest(groups.reshape(-1, m), m - n).reshape(ranked.shape[0], -1)
    return mask[:, : ranked.shape[1]]


def _groups(values: Tensor, m: int, fill: float | bool) -> Tensor:
    """`values` (rows, columns) as (rows, groups, m), the last group filled up."""
    from torch.nn.functional import pad

    rows, columns = values.shape
    return pad(values, (0, -columns % m), value=fill).reshape(rows, -1, m)
