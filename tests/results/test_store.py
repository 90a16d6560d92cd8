from __future__ import annotations

import errno
import json
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biaslab.errors import StoreError
from biaslab.results import store as module
from biaslab.results.schema import RECORD_COLUMNS
from biaslab.results.store import CellRef, Store, finite, read_json, replace_json, write_records

REF = CellRef("planted", "tiny_llama", "hqq4(group_size=32)", "0" * 32)


def records(n: int = 3, score: float = 0.25) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item": [f"i{k}" for k in range(n)], "cluster": "c", "category": "occ", "group": "a|b", "repeat": 0,
            "score": score, "outcome": "more", "refused": False, "truth": np.nan, "prompt_tokens": 7,
            "sent": "0" * 64, "prompt": "", "response": "", "detail": "{}",
        }
    )  # fmt: skip


def test_a_written_cell_is_found_and_reads_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(REF) is None
    folder = store.write(REF, records(), {"seed": 0, "metrics": {"m": {"value": float("nan")}}})
    assert store.find(REF) == folder == tmp_path / REF.path
    cell = read_json(folder / "cell.json")
    assert (cell["status"], cell["attempt"], cell["key"], cell["metrics"]["m"]["value"]) == (
        "complete",
        1,
        REF.key,
        None,
    )
    back = pd.read_parquet(folder / "records.parquet")
    assert list(back.columns) == list(RECORD_COLUMNS)
    assert back["score"].tolist() == [0.25] * 3
    assert back["truth"].isna().all()


def test_a_forced_rerun_is_a_new_attempt_and_the_old_one_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.write(REF, records(score=1.0), {})
    before = (first / "records.parquet").read_bytes()
    for attempt in range(2, 12):
        latest = store.write(REF, records(score=float(attempt)), {})
        assert store.find(REF) == latest
        assert read_json(latest / "cell.json")["attempt"] == attempt
    assert (first / "records.parquet").read_bytes() == before
    assert len(store.attempts(REF)) == 11


def test_a_failure_is_on_record_until_the_cell_is_complete(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_failure(REF, {"error": "first"})
    store.write_failure(REF, {"error": "second"})
    failure = store.failure(REF)
    assert failure is not None
    assert failure["error"] == "second"
    folder = store.write(REF, records(), {})
    assert store.failure(REF) is None
    assert not (folder / "failure.json").exists()
    store.write_failure(REF, {"error": "later"})  # never hides what is complete
    assert store.find(REF) == folder


def test_disk_full_leaves_old_results_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    folder = store.write(REF, records(), {})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "sync", full)
    with pytest.raises(StoreError, match="cannot be written \\(No space left on device\\)"):
        store.write(REF, records(score=2.0), {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert store.attempts(REF) == [folder]
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_write_the_system_refuses_halfway_leaves_old_results_intact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.write(REF, records(), {})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))  # as a disk that fills up within the file
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            store.write(REF, records(2000).assign(response=[str(k) * 9 for k in range(2000)]), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert store.attempts(REF) == [folder]


def test_unwritable_folder_says_which(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="file"):
        Store(blocked).write(REF, records(), {})


def test_half_a_cell_is_no_cell(tmp_path: Path) -> None:
    folder = tmp_path / REF.path
    folder.mkdir(parents=True)
    (folder / "records.parquet").write_bytes(b"")
    assert Store(tmp_path).find(REF) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}', "{}"])
def test_what_is_not_ours_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cell.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"cell\.json"):
        read_json(path)


def test_records_must_be_whole_and_unique(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lack the columns score"):
        write_records(tmp_path / "r.parquet", records().drop(columns="score"))
    with pytest.raises(ValueError, match="twice"):
        write_records(tmp_path / "r.parquet", pd.concat([records(1), records(1)]))


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@settings(max_examples=40, deadline=None)
@given(items=st.lists(TEXT, unique=True, min_size=1, max_size=5), score=st.floats(width=64), text=TEXT)
def test_any_text_and_any_score_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, items: list[str], score: float, text: str
) -> None:
    frame = records(len(items)).assign(item=items, score=score, response=text, detail=json.dumps({"t": text}))
    path = tmp_path_factory.mktemp("r") / "records.parquet"
    write_records(path, frame)
    back = pd.read_parquet(path)
    assert back["item"].tolist() == items
    assert back["response"].tolist() == [text] * len(items)
    np.testing.assert_array_equal(back["score"].to_numpy(), np.full(len(items), score))


def test_strict_json_has_no_nan() -> None:
    assert finite({"a": [float("nan"), (1.5, float("inf"))], 3: True}) == {"a": [None, [1.5, None]], "3": True}


def _hold(root: str, held: object, release: object) -> None:
    with Store(Path(root)).lock(REF, wait=True) as mine:
        assert mine
        held.set()  # type: ignore[attr-defined]
        release.wait(20)  # type: ignore[attr-defined]


def test_a_lock_keeps_a_second_process_out_and_ends_with_its_owner(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    owner = context.Process(target=_hold, args=(str(tmp_path), held, release))
    owner.start()
    store = Store(tmp_path)
    assert held.wait(20)
    with store.lock(REF, wait=False) as mine:
        assert not mine
    assert store.is_locked(REF)
    owner.kill()
    owner.join()
    start = time.perf_counter()
    with store.lock(REF, wait=True) as mine:
        assert mine
    assert time.perf_counter() - start < 5
    assert not store.is_locked(REF)


def test_replace_json_leaves_no_trace_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.json"
    replace_json(path, {"schema_version": 1, "n": 1})
    monkeypatch.setattr(module, "sync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(StoreError, match="No space left"):
        replace_json(path, {"schema_version": 1, "n": 2})
    assert read_json(path)["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.json"]
