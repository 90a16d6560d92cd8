"""Chunks of a long cell: what is whole is found again, what is torn or of another setting is not."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biaslab.cell import pack, unpack
from biaslab.engine.requests import ChoiceResponse, GenerateResponse, LogLikelihoodResponse, Response
from biaslab.errors import StoreError
from biaslab.results import chunks as module
from biaslab.results.chunks import Chunks
from biaslab.results.store import Store
from tests.results.test_store import REF, records

CONDITIONS = {"device": "cpu", "max_batch": 64}


def filled(path: Path, n: int = 3) -> list[bytes]:
    written = Chunks(path, "a/b/c/d", CONDITIONS)
    for k in range(n):
        written.add(k, [["GenerateResponse", f"text {k}\n\u202e", "stop", 3, 9, False]], 0.1 * k)
    return path.read_bytes().splitlines(keepends=True)


def test_chunks_are_found_by_the_next_process(tmp_path: Path) -> None:
    filled(tmp_path / "x" / "c.jsonl")
    again = Chunks(tmp_path / "x" / "c.jsonl", "a/b/c/d", CONDITIONS)
    assert again.resumed == 3
    assert again.get(1) == ([["GenerateResponse", "text 1\n\u202e", "stop", 3, 9, False]], 0.1)
    assert again.get(3) is None
    again.remove()
    again.remove()
    assert Chunks(tmp_path / "x" / "c.jsonl", "a/b/c/d", CONDITIONS).resumed == 0


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_line_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "c.jsonl"
    lines = filled(path)
    path.write_bytes(b"".join(lines)[:-cut])
    again = Chunks(path, "a/b/c/d", CONDITIONS)
    assert again.resumed == 2
    again.add(2, [["GenerateResponse", "text 2\n\u202e", "stop", 3, 9, False]], 0.2)
    assert path.read_bytes().splitlines(keepends=True) == lines


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    lines = filled(path)
    path.write_bytes(b"".join(lines).replace(b"text 1", b"text 7"))
    assert Chunks(path, "a/b/c/d", CONDITIONS).resumed == 1


@pytest.mark.parametrize("other", [("a/b/c/e", CONDITIONS), ("a/b/c/d", CONDITIONS | {"device": "cuda"})])
def test_chunks_of_another_setting_are_thrown_away(tmp_path: Path, other: tuple[str, dict[str, object]]) -> None:
    path = tmp_path / "c.jsonl"
    filled(path)
    again = Chunks(path, *other)
    assert again.resumed == 0
    again.add(0, [1], 0.0)
    assert Chunks(path, *other).resumed == 1
    assert Chunks(path, "a/b/c/d", CONDITIONS).resumed == 0


def test_a_full_disk_is_an_error_in_one_line_and_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.jsonl"
    filled(path, 2)
    written = Chunks(path, "a/b/c/d", CONDITIONS)
    with monkeypatch.context() as patch:
        patch.setattr(module, "sync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(StoreError, match="No space left"):
            written.add(2, [1], 0.0)
    assert written.get(1) is not None
    written.add(2, [1], 0.0)
    assert Chunks(path, "a/b/c/d", CONDITIONS).resumed == 3


def test_leftovers_of_complete_cells_are_removed_and_those_of_others_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.chunks(REF, 1, CONDITIONS).add(0, [1], 0.0)
    store.chunks(REF, 2, CONDITIONS).add(0, [1], 0.0)
    assert store.n_chunks(REF) == 1
    (tmp_path / ".chunks" / "odd.jsonl").write_text(json.dumps({"place": "../../etc"}) + "\n")
    store.write(REF, records(), {})
    store.prepare()
    assert sorted(p.name for p in (tmp_path / ".chunks").iterdir()) == [
        "odd.jsonl", f"{REF.benchmark}-{REF.key}-2.jsonl",
    ]  # fmt: skip


FLOATS = st.floats(allow_nan=False)
RESPONSES = st.one_of(
    st.builds(GenerateResponse, st.text(), st.sampled_from(["stop", "length"]), st.integers(0), st.integers(0)),
    st.builds(ChoiceResponse, st.lists(FLOATS).map(tuple), FLOATS, st.integers(0), st.booleans()),
    st.builds(LogLikelihoodResponse, st.lists(FLOATS).map(tuple), st.lists(st.text()).map(tuple), st.integers(0)),
)


@settings(max_examples=60, deadline=None)
@given(RESPONSES)
def test_any_response_survives_to_the_last_bit(response: Response) -> None:
    assert unpack(json.loads(json.dumps(pack(response)))) == response


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("c") / "c.jsonl"
    lines = filled(path, 1)
    path.write_bytes(lines[0] + noise)
    assert Chunks(path, "a/b/c/d", CONDITIONS).resumed == 0
    path.write_bytes(noise)
    assert Chunks(path, "a/b/c/d", CONDITIONS).resumed == 0
