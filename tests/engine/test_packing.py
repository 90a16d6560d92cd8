"""Packs hold every row once, and share what rows share."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from biaslab.engine.batching import Limits
from biaslab.engine.packing import PATHS_PER_TOKEN, make_pack, take_packed

ROWS = st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), min_size=1, max_size=25).map(sorted)


@given(ROWS)
def test_every_path_reads_its_row_and_every_prefix_is_there_once(
    rows: list[tuple[int, ...]],
) -> None:
    pack = make_pack(rows, torch.device("cpu"))
    for row, path in zip(rows, pack.paths, strict=True):
        assert tuple(pack.tokens[list(path)].tolist()) == row
        assert pack.positions[list(path)].tolist() == list(range(len(row)))
    assert len(pack.tokens) == len({row[:n] for row in rows for n in range(1, len(row) + 1)})
    owned = [place for group in pack.groups for place in group.queries.flatten().tolist() if place < len(pack.tokens)]
    assert sorted(owned) == list(range(len(pack.tokens)))  # each token is asked once, by the row it belongs to


@given(ROWS, st.integers(1, 30), st.integers(1, 8))
def test_batches_keep_to_the_limits_and_always_go_on(rows: list[tuple[int, ...]], budget: int, most: int) -> None:
    take, limits = take_packed(rows), Limits(budget, most, "right")
    waiting, taken = list(range(len(rows))), []
    while waiting:
        n, n_tokens = take(waiting, limits)
        batch = [rows[i] for i in waiting[:n]]
        assert 1 <= n <= most
        assert n_tokens == len({row[:k] for row in batch for k in range(1, len(row) + 1)})
        assert n == 1 or (n_tokens <= budget and sum(map(len, batch)) <= PATHS_PER_TOKEN * budget)
        taken += batch
        waiting = waiting[n:]
    assert taken == rows
