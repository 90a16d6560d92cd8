from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune as torch_prune

from biaslab.accel.masks import check_pattern, lowest, parse_pattern, pattern_holds, prune_mask


def random(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(
    rows=st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), min_size=1, max_size=4),
    k=st.integers(0, 7),
)
@settings(deadline=None)
def test_lowest_is_a_stable_sort(rows: list[list[int]], k: int) -> None:
    mask = lowest(torch.tensor(rows, dtype=torch.float32), k)
    for row, got in zip(rows, mask.tolist(), strict=True):
        chosen = sorted(range(7), key=lambda j: (row[j], j))[:k]
        assert [j for j, hit in enumerate(got) if hit] == sorted(chosen)


@pytest.mark.parametrize("columns", [4, 8, 93, 94, 95, 200])
def test_two_of_four_by_brute_force(columns: int) -> None:
    weight = random(5, columns)
    mask = prune_mask(weight, weight.abs(), 0.5, "2:4")
    for row, got in zip(weight.tolist(), mask.tolist(), strict=True):
        for start in range(0, columns, 4):
            group = row[start : start + 4]
            # A short last group may keep two weights as well.
            n_pruned = max(0, len(group) - 2)
            order = sorted(range(len(group)), key=lambda j: abs(group[j]))
            assert {j for j in range(len(group)) if got[start + j]} == set(order[:n_pruned])
    assert pattern_holds(weight.masked_fill(mask, 0), 2, 4)
    assert not pattern_holds(weight, 2, 4) or columns < 3


@pytest.mark.parametrize(("pattern", "sparsity"), [("1:4", 0.75), ("4:8", 0.5), ("3:4", 0.25)])
def test_other_patterns_keep_n_of_m(pattern: str, sparsity: float) -> None:
    assert check_pattern(sparsity, pattern, ()) is None
    weight = random(6, 64)
    left = weight.masked_fill(prune_mask(weight, weight.abs(), sparsity, pattern), 0)
    parsed = parse_pattern(pattern)
    assert parsed is not None
    assert pattern_holds(left, *parsed)
    assert (left == 0).float().mean().item() == sparsity


@pytest.mark.parametrize("shape", [(96, 200), (7, 13), (32, 33)])
@pytest.mark.parametrize("sparsity", [0.5, 0.3, 0.9])
def test_layer_pattern_equals_torch_l1_unstructured(shape: tuple[int, int], sparsity: float) -> None:
    linear = torch.nn.Linear(shape[1], shape[0])
    mine = prune_mask(linear.weight, linear.weight.detach().abs(), sparsity, "layer")
    torch_prune.l1_unstructured(linear, "weight", amount=sparsity)
    assert torch.equal(~mine, linear.weight_mask.bool())


@pytest.mark.parametrize(
    ("sparsity", "columns", "expected"), [(0.5, 101, 50), (0.29, 100, 29), (0.7, 10, 7), (0.01, 50, 0)]
)
def test_row_share_is_rounded_down(sparsity: float, columns: int, expected: int) -> None:
    mask = prune_mask(torch.ones(3, columns), torch.ones(3, columns), sparsity, "row")
    assert mask.sum(1).tolist() == [expected] * 3
    assert mask[:, :expected].all(), "of equal weights the first columns go"


@pytest.mark.parametrize("pattern", ["row", "layer", "2:4"])
@pytest.mark.parametrize("flat_metric", [False, True])
def test_a_model_that_has_the_pattern_is_left_bit_identical(pattern: str, flat_metric: bool) -> None:
    weight = random(24, 64)
    weight = weight.masked_fill(prune_mask(weight, random(24, 64, 1).abs(), 0.5, "2:4"), 0)
    # Even where every weight matters equally little (a channel that no token uses), zeros go first.
    metric = torch.zeros_like(weight) if flat_metric else weight.abs()
    assert torch.equal(weight.masked_fill(prune_mask(weight, metric, 0.5, pattern), 0), weight)


@pytest.mark.parametrize(
    ("sparsity", "pattern", "words"),
    [
        (0.0, "row", "sparsity=0.0: above 0, below 1"),
        (1.0, "row", "sparsity=1.0: above 0, below 1"),
        (float("nan"), "row", "sparsity=nan: above 0, below 1"),
        (0.5, "rows", "pattern=rows: row, layer, or n:m with n below m, such as 2:4"),
        (0.5, "4:4", "pattern=4:4: row, layer, or n:m"),
        (0.5, "0:4", "pattern=0:4: row, layer, or n:m"),
        (0.5, "1:4", "sparsity=0.5: pattern 1:4 keeps 1 of every 4, so it must be 0.75"),
    ],
)
def test_bad_patterns_get_words(sparsity: float, pattern: str, words: str) -> None:
    got = check_pattern(sparsity, pattern, ("row", "layer"))
    assert got is not None
    assert got.startswith(words)


def test_pattern_holds_looks_at_every_group() -> None:
    good = torch.tensor([[1.0, 1, 0, 0, 0, 0, 1, 1]])
    assert pattern_holds(good, 2, 4)
    for place in itertools.chain(range(2, 6)):
        bad = good.clone()
        bad[0, place] = 1
        assert not pattern_holds(bad, 2, 4)


def test_a_large_matrix_is_ranked_in_parts_with_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(31, 12, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # with ties
    whole = lowest(values, 5)
    monkeypatch.setattr("biaslab.accel.masks.AT_ONCE", 50)
    assert torch.equal(lowest(values, 5), whole)
