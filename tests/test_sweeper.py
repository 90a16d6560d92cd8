"""A swept field goes to the jobs that choose what it belongs to, and equal jobs are one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from biaslab.sweeper import applicable, held_back, sweeper
from tests.cli.run import biaslab


def jobs(*words: str) -> list[str]:
    overrides = OverridesParser.create().parse_overrides(list(words))
    (batch,) = sweeper().split_arguments(overrides, None)
    return [" ".join(job) for job in batch]


def test_the_field_is_set_where_its_accelerator_is_chosen_and_the_other_job_is_one() -> None:
    assert jobs("accel=hqq4,wanda50", "accel.hqq4.group_size=32,64") == [
        "accel=hqq4 accel.hqq4.group_size=32",
        "accel=hqq4 accel.hqq4.group_size=64",
        "accel=wanda50",
    ]


def test_stacks_have_the_fields_of_their_steps() -> None:
    assert jobs("accel=hqq4,[wanda50,hqq4],wanda50", "accel.hqq4.group_size=32,64", "seed=0") == [
        "accel=hqq4 accel.hqq4.group_size=32 seed=0",
        "accel=hqq4 accel.hqq4.group_size=64 seed=0",
        "accel=[wanda50,hqq4] accel.hqq4.group_size=32 seed=0",
        "accel=[wanda50,hqq4] accel.hqq4.group_size=64 seed=0",
        "accel=wanda50 seed=0",
    ]


def test_fields_of_several_and_of_benchmarks() -> None:
    found = jobs("accel=a,b", "benchmark=p,q", "accel.a.x=1,2", "+accel.b.params.y=3", "benchmark.q={z:1}")
    assert found == [
        "accel=a benchmark=p accel.a.x=1",
        "accel=a benchmark=p accel.a.x=2",
        "accel=a benchmark=q accel.a.x=1 benchmark.q={z:1}",
        "accel=a benchmark=q accel.a.x=2 benchmark.q={z:1}",
        "accel=b benchmark=p +accel.b.params.y=3",
        "accel=b benchmark=q +accel.b.params.y=3 benchmark.q={z:1}",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("accel=a,b", "accel.c.x=1"),  # nobody's: composing it says so
        ("experiment=e,f", "accel.a.x=1"),  # what is chosen is not said here
        ("accel=a,${b}", "accel.a.x=1"),
        ("accel=a,b", "accel.a.x=1", "seed=1,1"),  # two jobs that are equal are one
    ],
)
def test_what_is_not_plain_is_left_as_it_is(words: tuple[str, ...]) -> None:
    found = jobs(*words)
    if "seed=1,1" in words:
        assert found == ["accel=a accel.a.x=1 seed=1", "accel=b seed=1"]
    else:
        assert all(word.partition("=")[2].count(",") or word in job for job in found for word in words)
        assert len(found) == 2


def test_batches_are_as_asked() -> None:
    overrides = OverridesParser.create().parse_overrides(["accel=a,b,c", "accel.a.x=1,2"])
    assert [len(batch) for batch in sweeper().split_arguments(overrides, 3)] == [3, 1]


def test_jobs_without_choices_stay() -> None:
    assert applicable([("seed=0",), ("seed=1",), ("seed=0",)]) == [("seed=0",), ("seed=1",)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["-m", "accel=a,b", "accel.a.x=1"], ["-m", "accel=a,b", "accel.a.x=choice(1)"]),
        (["--multirun", "+accel.a.x=[1,2]"], ["--multirun", "+accel.a.x=choice([1,2])"]),
        (["-m", "accel=a,b", "accel.a.x=/p/q.txt"], ["-m", "accel=a,b", "accel.a.x=choice(/p/q.txt)"]),
        (["-m", "accel=a,b", "accel.a={x: 1}"], ["-m", "accel=a,b", "accel.a=choice({x: 1})"]),
        (["-m", "accel=a,b", "accel.a.x=1,2", "seed=3"], None),
        (["-m", "accel=a", "accel.a.x=1", "seed=1,2"], None),
        (["accel=a", "accel.a.x=1"], None),
        (["-m", "accel=a,b", "~accel.a.x", "accel.a.x=(((", "model.id=x"], None),
    ],
)
def test_a_field_of_swept_choices_is_left_out_of_the_first_composition(
    line: list[str], expected: list[str] | None
) -> None:
    assert held_back(line) == (line if expected is None else expected)


def planned(folder: Path, *words: str) -> list[tuple[str, ...]]:
    ended = biaslab(folder, "-m", *words, "dry_run=true")
    assert (ended.code, ended.err) == (0, ""), ended
    return [tuple(line.split()[1:3]) for line in ended.out.splitlines()[:-1]]


def test_lines_as_typed_are_planned(tmp_path: Path) -> None:
    assert planned(tmp_path, "accel=hqq4,wanda50", "accel.hqq4.group_size=32,64", "benchmark=planted") == [
        ("none", "planted"),
        ("hqq4(group_size=32)", "planted"),
        ("hqq4", "planted"),
        ("wanda50", "planted"),
    ]
    # Not swept, and not of the default choice; for a benchmark as well.
    (tmp_path / "my.csv").write_text("more,less\nThe cook slept.,The nurse slept.\nHe ate.,She ate.\n")
    benchmarks = ("benchmark=planted,pairs", "benchmark.pairs.file=my.csv")
    found = planned(tmp_path, "accel=paper_kv4,kv4", "accel.kv4.mode=published", *benchmarks)
    assert {accel for accel, _ in found} == {"none", "paper_kv4", "kv4(mode=published)"}
    assert len(found) == 6


def test_what_was_typed_is_on_record_as_it_was_typed(tmp_path: Path) -> None:
    line = ("-m", "accel=hqq4,wanda50", "accel.hqq4.group_size=32", "benchmark=planted", "limit=4", "analysis=skip")
    ended = biaslab(tmp_path, *line)
    assert ended.code == 0, ended
    (ledger,) = tmp_path.glob("outputs/sweeps/*/sweep.json")
    text = ledger.read_text()
    assert "choice(" not in text
    assert "accel.hqq4.group_size=32" in text
    assert len(re.findall("tiny_llama (?:hqq4|wanda50)", ended.out)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("accel=hqq4,wanda50", "accel.hqq8.bits=3,4"), "accel.hqq8.bits: hqq8 is not among what was chosen"),
        (("accel=hqq4,wanda50", "accel.hqq4.group=32,64"), "accel.hqq4.group: no such key (did you mean group_size?)"),
    ],
)
def test_a_sweep_that_cannot_be_made_is_one_clean_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ended = biaslab(tmp_path, "-m", *words)
    assert ended.code == 2
    assert ended.err.startswith(f"biaslab: {said}")
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/sweeps/*"))
