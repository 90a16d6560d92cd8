"""Examples against plain loops over the records that were written."""

from __future__ import annotations

import dataclasses
import doctest
import math
from pathlib import Path

import pandas as pd
import pytest

import analysis.examples
from analysis.analyse import analyse
from analysis.examples import LONGEST, MOST, MOST_OF_AN_ARM, examples
from analysis.frame import Frame, make_frames
from analysis.load import load
from analysis.settings import Settings
from tests.analysis.fake import make_sweep

ARMS = [("tiny_llama", "hqq4"), ("tiny_llama", "wanda50"), ("tiny_mistral", "hqq4"), ("tiny_mistral", "wanda50")]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("examples"), missing=0.1, noise=0.8, shift=0.4, response="<b>I agree</b>")


@pytest.fixture(scope="module")
def frame(sweep: Path) -> Frame:
    return make_frames(load(sweep).cells)[0]


def by_hand(frame: Frame, model: str, accel: str) -> list[tuple[float, str]]:
    """(smaller |score|, item) of every item whose score changed its sign, which is the fake's outcome."""
    found = []
    for item in frame.items.index:
        before, after = frame.scores.loc[item, (model, "none")], frame.scores.loc[item, (model, accel)]
        if before * after < 0:
            found.append((min(abs(before), abs(after)), str(item)))
    return sorted(found, reverse=True)


def test_the_surest_flips_come_first_and_no_arm_takes_all(frame: Frame) -> None:
    found = examples(frame, ARMS)
    assert len(found) == MOST
    assert [e.sureness for e in found] == sorted((e.sureness for e in found), reverse=True)
    of_arms = {arm: [e for e in found if (e.model, e.accel) == arm] for arm in ARMS}
    assert all(len(rows) <= MOST_OF_AN_ARM for rows in of_arms.values())
    best = sorted((row for arm in ARMS for row in by_hand(frame, *arm)[:MOST_OF_AN_ARM]), reverse=True)[:MOST]
    assert sorted((e.sureness, e.item) for e in found) == sorted(best)


def test_an_example_is_what_the_records_say(sweep: Path, frame: Frame) -> None:
    cells = {(c.model, c.accel): c.folder for c in load(sweep).cells}
    for e in examples(frame, ARMS):
        for accel, score, outcome, text in (
            ("none", e.score_before, e.outcome_before, e.text_before),
            (e.accel, e.score_after, e.outcome_after, e.text_after),
        ):
            row = pd.read_parquet(cells[e.model, accel] / "records.parquet").set_index("item").loc[e.item]
            assert (row["score"], row["outcome"], row["response"]) == (score, outcome, text)
            assert (row["cluster"], row["group"]) == (e.cluster, e.group)
        assert e.outcome_before != e.outcome_after
        assert e.text_after == f"<b>I agree</b> {e.accel}"  # as it was stored: whoever shows it escapes it


def test_clear_is_beyond_the_noise_floor(frame: Frame) -> None:
    assert {e.clear for e in examples(frame, ARMS)} == {None}
    surest = max(abs(e.score_before) for e in examples(frame, ARMS))
    marked = {e.clear: abs(e.score_before) for e in examples(frame, ARMS, floor=surest * 0.999)}
    assert marked[True] == surest
    assert marked[False] < surest


def test_without_texts_or_without_flips(tmp_path: Path) -> None:
    frame = make_frames(load(make_sweep(tmp_path / "a", noise=0.8)).cells)[0]
    assert {e.text_before + e.text_after for e in examples(frame, ARMS)} == {""}
    still = make_frames(load(make_sweep(tmp_path / "b", inert=("hqq4",))).cells)[0]
    assert examples(still, [("tiny_llama", "hqq4")]) == []


def test_a_long_answer_is_cut(tmp_path: Path) -> None:
    frame = make_frames(load(make_sweep(tmp_path, noise=0.8, response="w" * 5000)).cells)[0]
    texts = {e.text_before for e in examples(frame, ARMS)}
    assert {len(text) for text in texts} == {LONGEST}
    assert all(text.endswith("w…") for text in texts)


def test_a_repeat_with_the_items_own_outcome_speaks_for_it(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, noise=0.8, repeats=3)
    for cell in load(sweep).cells:
        path = cell.folder / "records.parquet"
        records = pd.read_parquet(path)
        records["response"] = records["outcome"] + " says it"
        records.to_parquet(path, index=False)
    frame = make_frames(load(sweep).cells)[0]
    found = examples(frame, ARMS)
    assert found
    for e in found:
        assert (e.text_before, e.text_after) == (f"{e.outcome_before} says it", f"{e.outcome_after} says it")


def test_imported_records_without_texts_have_none(frame: Frame) -> None:
    columns = ["item", "outcome", "score"]
    bare = {
        arm: [dataclasses.replace(c, records=pd.read_parquet(c.folder / "records.parquet")[columns]) for c in cells]
        for arm, cells in frame.cells.items()
    }
    found = examples(dataclasses.replace(frame, cells=bare), ARMS)
    assert [e.item for e in found] == [e.item for e in examples(frame, ARMS)]
    assert {e.text_before for e in found} == {""}


def test_the_study_holds_those_of_judged_arms_only(sweep: Path) -> None:
    b = analyse(sweep, Settings(n_resamples=99)).benchmarks[0]
    assert b.examples
    assert {e.accel for e in b.examples} <= {"hqq4", "wanda50", "wanda50+hqq4"}
    assert not any(math.isnan(e.score_after) for e in b.examples)
    assert b.content_warning is False


def test_doctests() -> None:
    result = doctest.testmod(analysis.examples, extraglobs={"np": analysis.examples.np})
    assert (result.failed, result.attempted > 0) == (0, True)
