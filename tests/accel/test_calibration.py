from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from biaslab.accel.calibration import HUB_TEXTS, Calibration, calibration_ids, source_lines
from biaslab.efficiency import held_out_texts
from biaslab.errors import ConfigError
from biaslab.models.base import Planted
from biaslab.models.embedded import grammar
from tests.accel import tiny


def test_default_rows_are_full_different_and_start_as_the_tokenizer_starts_a_text() -> None:
    got = calibration_ids(tiny.make("llama"), Calibration())
    assert got.ids.shape == (128, 64)
    assert len({tuple(row) for row in got.ids.tolist()}) == 128
    assert (got.ids[:, 0] == 256).all(), "<s>"
    assert not (got.ids[:, 1:] >= 256).any(), "no special token in the middle"


def test_ids_are_reproducible_and_hashed() -> None:
    model = tiny.make("llama")
    one, again = (calibration_ids(model, Calibration(samples=8)) for _ in range(2))
    other = calibration_ids(model, Calibration(samples=8, seed=1))
    assert one.ids.equal(again.ids)
    assert one.facts["ids_sha256"] == again.facts["ids_sha256"] != other.facts["ids_sha256"]
    raw = b"".join(int(i).to_bytes(8, "little") for row in one.ids.tolist() for i in row)
    assert one.facts["ids_sha256"] == hashlib.sha256(raw).hexdigest()
    assert one.facts["source"] == "embedded"
    assert (one.facts["samples"], one.facts["length"], one.facts["seed"]) == (8, 64, 0)


def test_a_planted_model_is_calibrated_on_its_own_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, float]] = []

    def texts(n: int, seed: int, scale: float) -> list[str]:
        asked.append((n, seed, scale))
        return [f"the {i} of the grammar is a line of the grammar and so is this ." for i in range(n)]

    monkeypatch.setattr(grammar, "calibration_texts", texts)
    model = tiny.make("llama", planted=Planted(0.25))
    got = calibration_ids(model, Calibration(samples=5, length=30, seed=7))
    assert [(seed, scale) for _, seed, scale in asked] == [(7, 0.25)]
    assert all("of the grammar" in model.tokenizer.decode(row) for row in got.ids)


def test_the_real_grammar_gives_enough() -> None:
    got = calibration_ids(tiny.make("llama", planted=Planted(1.0)), Calibration())
    assert got.ids.shape == (128, 64)


def test_calibration_and_held_out_text_do_not_meet() -> None:
    info = tiny.make("llama").info
    calibrated = source_lines(info, Calibration())
    assert len(calibrated) == len(set(calibrated)) > 128
    assert not set(calibrated) & set(held_out_texts(info))
    assert all(line.isascii() for line in calibrated)


def test_a_text_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"line {i} has some words in it\n\n" for i in range(20)), encoding="utf-8")
    model = tiny.make("llama")
    got = calibration_ids(model, Calibration(source=str(path), samples=10, length=40))
    rows = [model.tokenizer.decode(row, skip_special_tokens=True) for row in got.ids]
    assert all(row.startswith("line ") for row in rows)
    # The 39 letters after <s> go on into the next line.
    assert all(row[29:].strip().startswith(("line", "it line")) or "it line" in row for row in rows)


def test_one_long_line_is_entered_at_any_word(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text(" ".join(f"word{i}" for i in range(200)), encoding="utf-8")
    model = tiny.make("llama")
    got = calibration_ids(model, Calibration(source=str(path), samples=50, length=20))
    rows = [model.tokenizer.decode(row, skip_special_tokens=True) for row in got.ids]
    assert len(set(rows)) == 50
    assert all(row.startswith("word") for row in rows)


def test_a_source_too_short_or_unreadable_gets_one_line(tmp_path: Path) -> None:
    model = tiny.make("llama")
    short = tmp_path / "short.txt"
    short.write_text("one two three four", encoding="utf-8")
    with pytest.raises(ConfigError, match="room for 3 different rows of 8 tokens, 4 are asked for"):
        calibration_ids(model, Calibration(source=str(short), samples=4, length=8))
    with pytest.raises(ConfigError, match=r"calibration.source=/nowhere/x.txt: No such file or directory; give a"):
        calibration_ids(model, Calibration(source="/nowhere/x.txt"))
    with pytest.raises(ConfigError, match="Is a directory"):
        calibration_ids(model, Calibration(source=str(tmp_path)))
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"abc\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary.txt: not UTF-8 text \(byte 3\)"):
        calibration_ids(model, Calibration(source=str(binary)))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="room for 0 different rows"):
        calibration_ids(model, Calibration(source=str(empty)))
    with pytest.raises(ConfigError, match=r"calibration.length=257: llama reads at most 256 tokens"):
        calibration_ids(model, Calibration(length=257))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": ""}, "calibration.source=: embedded, the path of a text file, or hub:"),
        ({"samples": 0}, "calibration.samples=0: 1 to 100000"),
        ({"length": 1}, "calibration.length=1: 2 to 1000000"),
        ({"seed": -1}, "calibration.seed=-1: 0 to 2147483647"),
    ],
)
def test_values_out_of_range_get_words(fields: dict[str, int], words: str) -> None:
    got = Calibration(**fields).check()
    assert got is not None
    assert got.startswith(words)


def test_the_text_itself_is_the_fingerprint(tmp_path: Path) -> None:
    info = tiny.make("llama").info
    path = tmp_path / "mine.txt"
    path.write_text("one\n\ntwo\n", encoding="utf-8")
    mine = Calibration(source=str(path))
    before = mine.fingerprint(info)
    assert before == "sha256:" + hashlib.sha256(b"one\ntwo").hexdigest()
    path.write_text("one\ntoo\n", encoding="utf-8")
    assert mine.fingerprint(info) != before
    planted = tiny.make("llama", planted=Planted(1.0)).info
    assert Calibration().fingerprint(info) != Calibration().fingerprint(planted)
    assert Calibration(seed=1).fingerprint(info) == Calibration().fingerprint(info)
    with pytest.raises(ConfigError, match="No such file"):
        Calibration(source="/nowhere/x.txt").fingerprint(info)


SHA = "a" * 40


Asked = list[tuple[tuple[str, ...], dict[str, object]]]


def hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, object]]) -> Asked:
    """A stand-in for the hub's library, which needs a network: what it is asked, and what it answers."""
    asked: Asked = []

    def load_dataset(*args: str, **kwargs: object) -> list[dict[str, object]]:
        asked.append((args, kwargs))
        return rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr("biaslab.libraries.find_spec", lambda name: name)
    return asked


def test_a_hub_data_set_is_streamed_from_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, [{"body": f"line {i} of the data set\n\nand more of it"} for i in range(3000)])
    mine = Calibration(source="hub:owner/texts", subset="en", split="test", column="body", revision=SHA, samples=8)
    assert mine.check() is None
    model = tiny.make("llama")
    assert mine.fingerprint(model.info) == f"hub:owner/texts@{SHA}"
    assert asked == [], "a plan fetches nothing"
    got = calibration_ids(model, mine)
    assert asked == [(("owner/texts", "en"), {"split": "test", "revision": SHA, "streaming": True})]
    rows = [model.tokenizer.decode(row, skip_special_tokens=True) for row in got.ids]
    assert all(row.startswith(("line ", "and more")) for row in rows)
    assert len(source_lines(model.info, mine)) == 2 * HUB_TEXTS
    assert got.facts["source"] == "hub:owner/texts"


def test_a_hub_data_set_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.make("llama")
    with pytest.raises(ConfigError, match=r"hub:owner/texts: its revision 'main' cannot be looked up \(.*\); give"):
        Calibration(source="hub:owner/texts").fingerprint(model.info)  # the tests are offline
    hub(monkeypatch, [{"text": 1}])
    with pytest.raises(ConfigError, match=r"calibration.column=text: hub:owner/texts has no such column of texts"):
        calibration_ids(model, Calibration(source="hub:owner/texts", revision=SHA))
    monkeypatch.setattr("biaslab.libraries.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"datasets is not installed: pip install 'biaslab\[quantizers\]'"):
        calibration_ids(model, Calibration(source="hub:owner/texts", revision=SHA))
    assert Calibration(source="hub:texts").check() == "calibration.source=hub:texts: write hub:owner/name"
