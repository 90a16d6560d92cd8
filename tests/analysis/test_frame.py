from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.flips import count_flips
from analysis.floor import noise_floor
from analysis.frame import Frame, make_frames
from analysis.load import load
from tests.analysis.fake import make_sweep


def frame_of(root: Path, **options: Any) -> Frame:
    (frame,) = make_frames(load(make_sweep(root, **options)).cells)
    return frame


def raw(frame: Frame, arm: tuple[str, str]) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(c.folder / "records.parquet") for c in frame.cells[arm]])


def test_scores_are_those_of_the_files(tmp_path: Path) -> None:
    frame = frame_of(tmp_path)
    arm = ("tiny_mistral", "wanda50")
    expected = raw(frame, arm).set_index("item")["score"].reindex(frame.items.index)
    assert frame.score(*arm) == pytest.approx(expected.to_numpy())
    assert frame.models == ["tiny_llama", "tiny_mistral"]
    assert frame.accels == ["none", "hqq4", "wanda50", "wanda50+hqq4", "placebo_batch"]
    assert frame.clusters.n_clusters == 20
    assert math.isnan(frame.repeat_sd[arm])


def test_repeats_are_averaged_and_their_spread_kept(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, repeats=4, missing=0.1)
    arm = ("tiny_llama", "hqq4")
    rows = raw(frame, arm)
    assert frame.score(*arm) == pytest.approx(rows.groupby("item")["score"].mean().to_numpy(), nan_ok=True)
    spread = math.sqrt(rows.groupby("item")["score"].var().mean())
    assert frame.repeat_sd[arm] == pytest.approx(spread)
    assert 0.03 < spread < 0.07  # planted: 0.05


def test_seeds_are_replicates(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, seeds=(0, 1, 2))
    arm = ("tiny_llama", "hqq4")
    assert len(frame.cells[arm]) == 3
    assert frame.score(*arm) == pytest.approx(raw(frame, arm).groupby("item")["score"].mean().to_numpy())
    assert len(frame.items) == 120


def test_missing_answers_are_counted_by_reason(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, missing=0.25)
    for arm, coverage in frame.coverage.items():
        gone = int(np.isnan(frame.score(*arm)).sum())
        assert coverage.n_valid + gone == coverage.n_items == 120
        assert (coverage.n_refused, coverage.n_unparsed, coverage.n_too_long) == (gone, 0, 0)
        assert coverage.share == pytest.approx(1 - gone / 120)
        assert gone > 10


def test_an_arm_that_is_not_there_is_nan(tmp_path: Path) -> None:
    frame = frame_of(tmp_path)
    assert np.isnan(frame.score("nobody", "none")).all()
    assert frame.matrix([]).shape == (120, 0)


def test_models_are_never_pooled_across_sources(tmp_path: Path) -> None:
    own = make_sweep(tmp_path, sweep_id="a")
    make_sweep(tmp_path, sweep_id="b", models=["other_one"], source="hub", seed=0)
    frames = make_frames(load(own.parents[1] / "results").cells)
    assert sorted((f.pool, tuple(f.models)) for f in frames) == [
        ("embedded", ("tiny_llama", "tiny_mistral")),
        ("other", ("other_one",)),
    ]


def test_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, missing=0.1)
    for cells in frame.cells.values():
        path = cells[0].folder / "records.parquet"
        pd.read_parquet(path).sample(frac=1, random_state=1).to_parquet(path, index=False)
    again = make_frames([c for cells in frame.cells.values() for c in cells])[0]
    pd.testing.assert_frame_equal(frame.scores, again.scores)
    pd.testing.assert_frame_equal(frame.items, again.items)


def test_flips_by_hand(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, missing=0.05)
    arm = ("tiny_mistral", "hqq4")
    before, after = frame.score("tiny_mistral", "none"), frame.score(*arm)
    up = ((before <= 0) & (after > 0)).sum()
    down = ((before > 0) & (after <= 0)).sum()
    paired = (~np.isnan(before) & ~np.isnan(after)).sum()
    flips = count_flips(frame, arm, floor=0.1)
    assert (flips.n, flips.up, flips.down) == (paired, up, down)
    assert flips.rate == pytest.approx((up + down) / paired)
    changed = ((before > 0) != (after > 0)) & ~np.isnan(before) & ~np.isnan(after)
    assert flips.clear == (changed & (np.abs(before) > 0.1)).sum()
    assert up > 0
    assert count_flips(frame, arm).clear is None
    assert math.isnan(count_flips(frame, ("tiny_mistral", "nothing")).rate)


def test_the_floor_is_what_placebos_do(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, accels=("hqq4", "placebo_batch", "placebo_rerun"))
    arms = [(m, a) for m in frame.models for a in ("placebo_batch", "placebo_rerun")]
    floor = noise_floor(frame, arms)
    shifts = np.array([frame.shift(*arm) for arm in arms])
    assert floor["shift"] == pytest.approx(np.abs(shifts.mean(axis=1)).max())
    assert floor["item"] == pytest.approx(np.quantile(np.abs(shifts), 0.95))
    assert floor["flip_rate"] == max(count_flips(frame, arm).rate for arm in arms)
    assert noise_floor(frame, []) == {}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["stereotyped", "other", "third"]), min_size=1, max_size=6))
def test_the_modal_outcome(outcomes: list[str]) -> None:
    from analysis.frame import _modal

    part = pd.DataFrame({"item": "x", "outcome": outcomes})
    most = max(outcomes.count(o) for o in outcomes)
    assert _modal(part)["x"] == min(o for o in outcomes if outcomes.count(o) == most)
