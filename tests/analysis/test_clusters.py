from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.clusters import partition


def test_sizes_sums_and_means_of_a_small_partition() -> None:
    clusters = partition(["b", "a", "b", "c"])
    values = np.array([1.0, 2.0, 5.0, 4.0])
    assert clusters.n_clusters == 3
    assert clusters.sizes.tolist() == [1, 2, 1]
    assert clusters.sums(values).tolist() == [2.0, 6.0, 4.0]
    assert clusters.means(values).tolist() == [2.0, 3.0, 4.0]
    assert clusters.means(np.column_stack([values, 2 * values])).tolist() == [[2, 4], [3, 6], [4, 8]]
    assert not clusters.singletons
    assert partition(["x", "y"]).singletons


def test_taking_items_drops_clusters_left_empty() -> None:
    kept = partition(["a", "b", "b", "c"]).take(np.array([True, False, False, True]))
    assert kept.n_clusters == 2
    assert kept.sizes.tolist() == [1, 1]


@pytest.mark.parametrize("label", [None, "", float("nan")])
def test_a_missing_cluster_is_refused(label: object) -> None:
    with pytest.raises(ValueError, match="item 1 has no cluster"):
        partition(["a", label])


def test_no_items() -> None:
    clusters = partition([])
    assert clusters.n_clusters == clusters.n_items == 0
    assert clusters.sums(np.zeros(0)).shape == (0,)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-10, 10)), min_size=1, max_size=40))
def test_sums_agree_with_a_plain_loop(rows: list[tuple[int, float]]) -> None:
    labels = [str(label) for label, _ in rows]
    values = np.array([value for _, value in rows])
    expected = [sum(v for x, v in zip(labels, values, strict=True) if x == c) for c in sorted(set(labels))]
    assert partition(labels).sums(values) == pytest.approx(np.array(expected))
