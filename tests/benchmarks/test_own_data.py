"""A user's own file: what is read, and the one line that says what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.benchmarks.choices import ChoiceColumns, Choices
from biaslab.benchmarks.own_data import OwnData
from biaslab.benchmarks.pairs import PairColumns, Pairs
from biaslab.benchmarks.prompts import Prompts
from biaslab.config import LABEL
from biaslab.errors import DataMismatch, DataUnavailable
from biaslab.models.base import ModelInfo
from tests.cli.run import environment

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})
ROWS = [
    {"id": "a", "cluster": "k", "category": "age", "group": "old", "more": "One, two", "less": "Zwei\nDrei"},
    {"id": "b", "cluster": "k", "category": "age", "group": "young", "more": "Ünder", "less": "Over"},
    {"id": "c", "cluster": "l", "category": "job", "group": "old", "more": 'Say "no"', "less": "Yes"},
]


def save(path: Path, rows: list[dict[str, Any]]) -> str:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return str(path)


SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"more": "She is late. "}, r"column 'more' ends with a blank \(' ' in 'She is late. '\); take it out"),
        ({"more": " She is late."}, r"column 'more' begins with a blank \(' ' in ' She is late.'\); take it out"),
        ({"less": "He is late.\n"}, r"column 'less' ends with a blank \('\\n' in 'He is late.\\n'\); take it out"),
        ({"less": "\u00a0He is late."}, r"column 'less' begins with a blank \('\\xa0' in '\\xa0He is late.'\)"),
        ({"context": "Two came. "}, "column 'context' ends with a blank"),
        ({"category": "jobs "}, "column 'category' ends with a blank"),
        ({"cluster": " k"}, "column 'cluster' begins with a blank"),
        ({"id": "b "}, "column 'id' ends with a blank"),
    ],
)
def test_a_blank_at_an_end_of_a_cell_is_refused(
    tmp_path: Path, suffix: str, change: dict[str, str], words: str
) -> None:
    """It was kept in a sentence, where it changes the score without a word, and taken away in a name."""
    row = {"id": "a", "cluster": "k", "category": "jobs", "context": "Two came.", "more": "She  sang.", "less": "He."}
    file = save(tmp_path / f"x{suffix}", [row])
    assert Pairs(file=file).items(MODEL)[0].data["sentences"] == ("She  sang.", "He.")  # within a text all is kept
    file = save(tmp_path / f"y{suffix}", [row, {**row, "id": "b", **change}])
    place = "row 2" if suffix == ".parquet" else r"line 3" if suffix.endswith("sv") else "line 2"
    with pytest.raises(DataMismatch, match=f"^y{suffix}: {place}: {words}"):
        Pairs(file=file).data_sha256()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("key", ["cluster", "category", "group"])
@pytest.mark.parametrize("first", [True, False])
def test_a_row_without_what_others_have_is_refused(tmp_path: Path, suffix: str, key: str, first: bool) -> None:
    """It became category "all" (or group "", or a cluster of its own) beside the named ones."""
    rows = [{"kind": "jobs", "more": "a", "less": "b"}, {"kind": None, "more": "c", "less": "d"}]
    file = save(tmp_path / f"x{suffix}", rows if first else rows[::-1])
    number = 2 if suffix.endswith("sv") else 1
    word = "row" if suffix == ".parquet" else "line"
    empty, full = (number + 1, number) if first else (number, number + 1)
    columns = PairColumns(**{key: "kind"})
    words = f"column 'kind' is empty, and {word} {full} has 'jobs' there; fill it in every row or in none"
    with pytest.raises(DataMismatch, match=f"^x{suffix}: {word} {empty}: {words}$"):
        Pairs(file=file, columns=columns).data_sha256()
    file = save(tmp_path / f"y{suffix}", [row | {"kind": None} for row in rows])
    items = Pairs(file=file, columns=columns).items(MODEL)
    assert {(i.category, i.group) for i in items} == {("all", "")}
    assert len({i.cluster for i in items}) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_blank_at_an_end_of_a_columns_name_is_refused(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"x{suffix}", [{"more": "a", " less": "b"}])
    place = ": line 1" if suffix.endswith("sv") else ""
    with pytest.raises(DataMismatch, match=f"^x{suffix}{place}: the column ' less' has a blank at an end of its name"):
        Pairs(file=file).data_sha256()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV"])
def test_every_kind_of_file_gives_the_same_items(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"my{suffix}", ROWS)
    items = Pairs(file=file).items(MODEL)
    assert [(i.id, i.cluster, i.category, i.group, i.data["sentences"]) for i in items] == [
        (r["id"], r["cluster"], r["category"], r["group"], (r["more"], r["less"])) for r in ROWS
    ]


def test_columns_are_mapped_and_the_optional_ones_may_be_missing(tmp_path: Path) -> None:
    file = save(tmp_path / "x.csv", [{"first": "a b", "second": "c d", "topic": "t", "n": 7}])
    (item,) = Pairs(file=file, columns=PairColumns(more="second", less="first", category="topic", id="n")).items(MODEL)
    assert (item.id, item.cluster, item.category, item.group) == ("7", "7", "t", "")
    assert item.data["sentences"] == ("c d", "a b")
    (item,) = Pairs(file=file, columns=PairColumns(more="first", less="second")).items(MODEL)
    assert (item.id, item.cluster, item.category) == ("row-00000", "row-00000", "all")


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfmore,less\r\na,b\r\n\r\nc,d\r\n")
    assert [i.data["sentences"] for i in Pairs(file=str(path)).items(MODEL)] == [("a", "b"), ("c", "d")]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"more": "a", "less": "b"}\r\n\n{"more": "c", "less": "d\xe2\x80\xa8e"}')
    assert len(Pairs(file=str(path)).items(MODEL)) == 2  # a line separator within a text ends no line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "x.csv: no rows"),
        ("x.csv", b"more,less\n", "x.csv: no rows"),
        ("x.csv", b"more,less\na,caf\xe9\n", r"x.csv: line 2: not UTF-8 \(byte 0xe9\); save it as UTF-8"),
        (
            "x.csv",
            "more,less\na,b\n".encode("utf-16"),
            "x.csv: line 1: holds a zero byte, as UTF-16 does; save it as UT",
        ),
        ("x.jsonl", '{"more": "a"}'.encode("utf-16-le"), "x.jsonl: line 1: holds a zero byte, as UTF-16 does; save it"),
        (
            "x.csv",
            b"more;less\na, b;c\n",
            "x.csv: line 1: one column 'more;less': separated by semicolons. save it with",
        ),
        ("x.csv", b"more\tless\na\tc\n", r"x.csv: .*: separated by tabs\? save it with commas or call it .tsv"),
        ("x.tsv", b"more;less\na, b;c\n", r"x.tsv: .*: separated by semicolons\? save it with tabs"),
        ("x.tsv", b"more,less\na,b\n", r"x.tsv: .*: separated by commas\? save it with tabs or call it .csv"),
        ("x.csv", b"more,less\na,b\nc\n", "x.csv: line 3: 1 fields where the header has 2"),
        ("x.csv", b'more,less\n"a\nb",c\nd,e,f\n', "x.csv: line 4: 3 fields where the header has 2"),
        ("x.csv", b'more,less\na,b\n"c,d\n', "x.csv: line 3: unexpected end of data"),
        ("x.csv", b"more,more\na,b\n", "x.csv: line 1: columns need names, each once; they are more, more"),
        ("x.csv", b"more,less\na,b\nc, \n", "x.csv: line 3: column 'less' is empty"),
        ("x.csv", b"more,less\na,a\n", "x.csv: line 2: 'more' and 'less' are the same sentence"),
        (
            "x.csv",
            b"more,less\na b,a  b\n",
            "x.csv: line 2: 'more' and 'less' are the same sentence; they differ in bl",
        ),
        ("x.csv", b"id,more,less\nk,a,b\nl,c,d\nk,e,f\n", "x.csv: line 4: id 'k' is already that of line 2"),
        ("x.csv", b"id,more,less\n,a,b\n", "x.csv: line 2: column 'id' is empty"),
        (
            "x.csv",
            b"mehr,less\na,b\n",
            r"benchmark.pairs.columns.more=more: x.csv has no such column; it has mehr, less",
        ),
        ("x.jsonl", b'{"more": "a", "less": "b"}\n{"more": \n', "x.jsonl: line 2: not JSON"),
        ("x.jsonl", b'["a", "b"]\n', "x.jsonl: line 1: an object {...} is needed, not list"),
        ("x.jsonl", b'{"more": "a", "less": null}\n', "x.jsonl: line 1: column 'less' is empty"),
        ("x.jsonl", b'{"more": "a", "less": "b"}\n{"more": "a"}\n', "x.jsonl: line 2: column 'less' is empty"),
        ("x.jsonl", b'{"more": "a", "less": 5}\n', "x.jsonl: line 1: column 'less' holds int 5, not a text"),
        (
            "x.jsonl",
            b'{"more": "a", "less": "b", "more": "c"}\n',
            "x.jsonl: line 1: not JSON .the key 'more' comes",
        ),
        ("x.parquet", b"PAR1", "x.parquet: not a parquet file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    benchmark = Pairs(file=str(tmp_path / name))
    for read in (benchmark.data_sha256, lambda: benchmark.items(MODEL)):
        with pytest.raises(DataMismatch, match=f"^{message}") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_row_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    file = save(tmp_path / "x.parquet", [{"more": "a", "less": "b"}, {"more": "c", "less": None}])
    with pytest.raises(DataMismatch, match=r"x\.parquet: row 2: column 'less' is empty"):
        Pairs(file=file).data_sha256()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc, which Linux has")
def test_no_thread_outlives_the_reading_of_a_parquet_file(tmp_path: Path) -> None:
    """One that did aborted the process in some runs (exit code 134) after the line that said what is wrong."""
    file = save(tmp_path / "x.parquet", [{"more": "a", "less": "b"}, {"more": None, "less": "d"}])
    code = (
        "import os, pathlib, pyarrow.parquet\n"
        "from biaslab.benchmarks.own_table import read_table\n"
        f"path = pathlib.Path({file!r})\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count(); table = read_table(path, path.read_bytes()); print(len(table.rows), count() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.split() == ["2", "0"]


def test_a_missing_file_and_a_strange_suffix(tmp_path: Path) -> None:
    assert "name your file, benchmark.pairs.file=my.csv" in str(Pairs().check())
    assert "must end in .csv, .tsv, .jsonl, .parquet" in str(Pairs(file="my.xlsx").check())
    assert Pairs(file="my.csv").check() is None
    with pytest.raises(DataUnavailable, match=r"benchmark.choices.file=/.*my.csv: no such file"):
        Choices(file=str(tmp_path / "my.csv")).data_sha256()


def test_the_key_follows_the_bytes_and_not_the_path(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    here, there = save(tmp_path / "my.csv", ROWS), save(tmp_path / "there" / "my.csv", ROWS)
    one, two = Pairs(file=here), Pairs(file=there, title="Mine", licence="CC0", content_warning=True)
    assert one.data_sha256() == two.data_sha256() == hashlib.sha256(Path(here).read_bytes()).hexdigest()
    assert one.identity() == two.identity()
    assert str(tmp_path) not in json.dumps(one.identity())
    assert Pairs(file=here, estimate="sum").identity() != one.identity()
    assert Pairs(file=here, columns=PairColumns(more="less", less="more")).identity() != one.identity()


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    import os

    benchmark = Pairs(file=save(tmp_path / "my.csv", ROWS))
    before = benchmark.data_sha256()
    assert len(benchmark.items(MODEL)) == 3
    save(tmp_path / "my.csv", ROWS[:2])
    os.utime(tmp_path / "my.csv", ns=(1, 1))
    assert benchmark.data_sha256() != before
    assert len(benchmark.items(MODEL)) == 2


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("/data/my.csv", "pairs(my)"),
        ("my stereotypes (v2).jsonl", "pairs(my_stereotypes__v2_)"),
        ("ünïcode.csv", "pairs(_n_code)"),
        ("x" * 300 + ".csv", "pairs(" + "x" * 60 + ")"),
        ("", "pairs"),
    ],
)
def test_the_label_shows_the_file(file: str, label: str) -> None:
    assert Pairs(file=file).label() == label
    assert LABEL.fullmatch(label)


def test_a_row_that_asks_what_another_asks_is_no_second_answer(tmp_path: Path) -> None:
    row = {"more": "She sang.", "less": "He sang."}
    file = save(tmp_path / "x.csv", [row, {"more": "She ran.", "less": "He ran."}, row])
    with pytest.raises(DataMismatch, match=r"^x\.csv: line 4: asks what line 2 asks; take it out, or give the two one"):
        Pairs(file=file).data_sha256()
    file = save(tmp_path / "y.csv", [{**row, "cluster": "a"}, {**row, "cluster": "a"}])
    assert len(Pairs(file=file).items(MODEL)) == 2


@pytest.mark.parametrize("cls", [Pairs, Choices, Prompts])
def test_the_description_names_the_file_and_says_its_licence_is_unknown(cls: type[OwnData]) -> None:
    meta = cls(file="/secret/place/my.csv").description()
    assert meta.title == f"my.csv ({cls.kind})"
    assert "/secret" not in meta.title + meta.source
    assert (meta.licence, meta.content_warning) == ("not stated", False)
    meta = cls(file="my.csv", title="Mine", licence="CC0", content_warning=True).description()
    assert (meta.title, meta.licence, meta.content_warning) == ("Mine", "CC0", True)


def test_options_in_a_csv_are_a_json_list_or_separated(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "options": '["yes, I do", "no"]', "stereotyped": "no"},
        {"prompt": "p", "options": "she | he|they", "stereotyped": 2},
    ]
    one, two = Choices(file=save(tmp_path / "x.csv", rows)).items(MODEL)
    assert [o.label for o in one.data["options"]] == ["yes, I do", "no"]
    assert [o.label for o in two.data["options"]] == ["she", "he", "they"]
    assert (one.data["stereotyped"], two.data["stereotyped"], two.data["counter"]) == (1, 1, -1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"options": "yes", "stereotyped": "yes"}, "must hold two different options or more"),
        ({"options": ["a", "a"], "stereotyped": "a"}, "must hold two different options or more"),
        ({"options": ["a", "b"], "stereotyped": "c"}, "column 'stereotyped': 'c' is no option; there are a, b"),
        ({"options": ["a", "b"], "stereotyped": 0}, "'0' is no option"),
        ({"options": ["a", "b"], "stereotyped": ""}, "column 'stereotyped': is empty; there are a, b"),
        ({"options": ["a", "b"], "stereotyped": "a", "counter": 1}, "option 'a' is both"),
        ({"options": '["a", b]', "stereotyped": "a"}, "begins like a JSON list and is none"),
        ({"options": ["a", 5], "stereotyped": "a"}, "must hold texts"),
        (
            {"options": ["Yes", "yes", "no"], "stereotyped": "Yes"},
            "'Yes' and 'yes' cannot be told apart: but for a cap",
        ),
        (
            {"options": ["no", "an  old man", "An old man"], "stereotyped": "no"},
            "'an  old man' and 'An old man' cannot",
        ),
        (
            {"options": ["Jos\u00e9", "Jose\u0301"], "stereotyped": 1},
            "'Jos\u00e9' and 'Jose\u0301' cannot be told apart",
        ),
        ({"options": ["a", "b "], "stereotyped": "a"}, "column 'options' ends with a blank"),
        ({"options": "a||b", "stereotyped": "a"}, "must hold texts, not"),
        ({"options": ["a", "b"], "stereotyped": "a "}, "column 'stereotyped' ends with a blank"),
        ({"prompt": "Who? ", "options": ["a", "b"], "stereotyped": "a"}, "column 'prompt' ends with a blank"),
    ],
)
def test_a_choice_that_cannot_be_asked_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "p"} | row) + "\n")
    with pytest.raises(DataMismatch, match=f"x.jsonl: line 1: .*{message}"):
        Choices(file=str(path)).data_sha256()


def test_options_that_differ_in_more_than_the_first_letters_case_are_told_apart(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "options": ["YES", "yes", "yesterday"], "stereotyped": "yes"}]
    (item,) = Choices(file=save(tmp_path / "x.jsonl", rows)).items(MODEL)
    spellings = [set(option.spellings) for option in item.data["options"]]
    assert not set.intersection(*spellings)
    assert item.data["stereotyped"] == 1


def test_a_mapped_column_that_is_not_there_is_an_error_even_if_optional(tmp_path: Path) -> None:
    file = save(tmp_path / "x.csv", [{"prompt": "p", "options": "a|b", "stereotyped": "a"}])
    with pytest.raises(DataMismatch, match=r"benchmark.choices.columns.counter=anti: x.csv has no such column"):
        Choices(file=file, columns=ChoiceColumns(counter="anti")).data_sha256()
