"""Rows of token ids laid into packs without padding, every beginning that rows share computed once.

In lexicographic order a row shares its longest common beginning with the row before it, so the tree of
prefixes needs no tree: a row borrows the places of that beginning and adds the rest of its tokens. It attends
to its path, the borrowed places and its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biaslab.engine.batching import Ids, Limits

if TYPE_CHECKING:
    import torch

#: Attention runs over a pack in so many batches of rows of like length; it is a small share of the work.
N_GROUPS = 4
#: Keys are gathered along each row's path: with many rows on one beginning there are more than tokens.
PATHS_PER_TOKEN = 8


@dataclass(frozen=True)
class Group:
    """Rows of a pack of like length; n is the number of tokens of the pack.

    queries : int64 (rows, longest own part), places in the pack, n where padded.
    keys : int64 (rows, longest path), places of each row's path, 0 where padded.
    starts : int64 (rows,), how many places of the path are borrowed.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    starts: torch.Tensor


@dataclass(frozen=True)
class Pack:
    """One forward. tokens, positions : int64 (n,). paths : of each member, its places in the pack, in order."""

    tokens: torch.Tensor
    positions: torch.Tensor
    groups: tuple[Group, ...]
    paths: tuple[tuple[int, ...], ...]


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common beginning.

    >>> shared((1, 2, 3), (1, 2, 4, 5))
    2
    """
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def take_packed(rows: Sequence[Ids]) -> Callable[[Sequence[int], Limits], tuple[int, int]]:
    """How many of lexicographically ordered `rows` make one pack, and its tokens; for `run_batches`."""

    def take(waiting: Sequence[int], limits: Limits) -> tuple[int, int]:
        n_tokens = n_path = n = 0
        before: Ids = ()
        for i in waiting[: limits.max_batch]:
            more = len(rows[i]) - shared(before, rows[i])
            n_path += len(rows[i])
            full = n_tokens + more > limits.batch_tokens or n_path > PATHS_PER_TOKEN * limits.batch_tokens
            if n and full:
                break
            n, n_tokens, before = n + 1, n_tokens + more, rows[i]
        return n, n_tokens

    return take


def make_pack(rows: Sequence[Ids], device: torch.device) -> Pack:
    """The pack of lexicographically ordered, distinct rows."""
    import torch

    tokens: list[int] = []
    positions: list[int] = []
    paths: list[tuple[int, ...]] = []
    borrowed: list[int] = []
    path: tuple[int, ...] = ()
    before: Ids = ()
    for row in rows:
        n = shared(before, row)
        path = (*path[:n], *range(len(tokens), len(tokens) + len(row) - n))
        tokens += row[n:]
        positions += range(n, len(row))
        paths.append(path)
        borrowed.append(n)
        before = row
    groups = tuple(_group(part, len(tokens), device) for part in _alike(paths, borrowed))

    def whole(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Pack(whole(tokens), whole(positions), groups, tuple(paths))


def _alike(paths: Sequence[tuple[int, ...]], borrowed: Sequence[int]) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    """(borrowed places, path) of each row with tokens of its own, in N_GROUPS parts of like length."""
    members = sorted(
        ((n, path) for n, path in zip(borrowed, paths, strict=True) if n < len(path)),
        key=lambda member: (len(member[1]), len(member[1]) - member[0]),
    )
    size = max(1, -(-len(members) // N_GROUPS))
    for start in range(0, len(members), size):
        yield members[start : start + size]


def _group(members: Sequence[tuple[int, tuple[int, ...]]], n: int, device: torch.device) -> Group:
    import torch

    n_own, n_path = max(len(p) - b for b, p in members), max(len(p) for _, p in members)
    queries = [[*p[b:], *[n] * (n_own - len(p) + b)] for b, p in members]
    keys = [[*p, *[0] * (n_path - len(p))] for _, p in members]
    return Group(
        torch.tensor(queries, dtype=torch.long, device=device),
        torch.tensor(keys, dtype=torch.long, device=device),
        torch.tensor([b for b, _ in members], dtype=torch.long, device=device),
    )
