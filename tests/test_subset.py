from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biaslab.benchmarks.base import Item
from biaslab.errors import ConfigError
from biaslab.subset import choose


def items(sizes: dict[str, list[int]]) -> list[Item]:
    """Per category, clusters of the given sizes."""
    return [
        Item(f"{c}-{k}-{i}", f"{c}-{k}", c, "")
        for c, found in sizes.items()
        for k, n in enumerate(found)
        for i in range(n)
    ]


ITEMS = items({"age": [5] * 20, "race": [5] * 60, "one": [5]})


def test_limit_is_evenly_spaced_and_exact() -> None:
    assert [i.id for i in choose(ITEMS, limit=3)] == ["age-0-0", "race-7-0", "race-34-0"]
    assert choose(ITEMS, limit=10**6) == ITEMS


def test_categories_keep_their_own_and_an_unknown_one_lists_what_there_is() -> None:
    assert {i.category for i in choose(ITEMS, categories=["age", "one"])} == {"age", "one"}
    with pytest.raises(ConfigError, match=r"categories=\[sex\]: no such item; there are age, one, race"):
        choose(ITEMS, categories=["sex"])


def test_a_sample_is_whole_clusters_in_proportion() -> None:
    drawn = choose(ITEMS, sample=100, seed=3)
    counts = Counter(i.cluster for i in drawn)
    assert set(counts.values()) == {5}
    by_category = Counter(i.category for i in drawn)
    assert by_category["age"] == 25  # 100 * 100 / 405 = 24.7: five clusters are nearest
    assert by_category["race"] == 75
    assert [i for i in ITEMS if i.cluster in counts] == drawn  # the benchmark's order


def test_a_larger_sample_contains_a_smaller_one_and_seeds_differ() -> None:
    small, large = ({i.id for i in choose(ITEMS, sample=n, seed=1)} for n in (60, 200))
    assert small < large
    assert small != {i.id for i in choose(ITEMS, sample=60, seed=2)}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 200), st.integers(0, 5))
def test_a_sample_is_never_empty_and_never_cuts_a_cluster(sizes: list[int], n: int, seed: int) -> None:
    every = items({"a": sizes, "b": [1, 2, 3]})
    drawn = choose(every, sample=n, seed=seed)
    whole = Counter(i.cluster for i in every)
    assert drawn
    assert all(whole[c] == k for c, k in Counter(i.cluster for i in drawn).items())
    if n >= len(every):
        assert drawn == every


def test_few_items_of_many_large_clusters_are_still_about_as_many_as_asked() -> None:
    every = items({f"topic{k}": [24] * 3 for k in range(16)})
    drawn = choose(every, sample=100)
    assert len(drawn) == 96
    assert len({i.category for i in drawn}) == 4  # no topic twice before every topic once
    assert len({i.category for i in choose(every, sample=24 * 16)}) == 16
