"""The arithmetic of docs/scale.md's GPU hours, on cases small enough to do by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from biaslab.engine.prompts import Renderer
from biaslab.engine.requests import Choice, Generate, LogLikelihood, Option, Prompt
from tests.models.make import make_tokenizer
from tests.reliability import cost
from tests.reliability.cost import END, FIELD, PAPER, START, Assumed, Count, count, hours, main, page, scaled


def test_hours_by_hand() -> None:
    """36 scored tokens and 2 runs of 9: 54 (or 27) x 2e9 operations at 1e9 a second are 108 (54) s; x 3 arms.

    2 runs of 100 tokens, half of them used, at 10 a second for 2e9 parameters: 5 s for 1e9; x 3 arms.
    """
    assumed = Assumed(flops=1e9, decode=10, decode_at=2e9, arm_s=7, share=0.5)
    found = hours([Count(1, 36, 9, 9, 100)], [1e9], arms=3, runs=2, assumed=assumed)
    assert dataclasses.astuple(found) == pytest.approx([324 / 3600, 162 / 3600, 15 / 3600, 21 / 3600])


def test_work_and_models_add_up() -> None:
    one, two = Count(1, 10, 5, 3, 8), Count(2, 7, 7, 0, 0)
    both = hours([one, two], [1e9, 3e9], 2, 6, Assumed())
    parts = [
        dataclasses.astuple(hours([work], [size], 2, 6, Assumed(arm_s=0))) for work in (one, two) for size in (1e9, 3e9)
    ]
    want = [sum(part) for part in zip(*parts, strict=True)]
    want[3] = 2 * 2 * 600 / 3600
    assert dataclasses.astuple(both) == pytest.approx(want)


def test_requests_and_tokens_by_hand() -> None:
    """Equal scored requests once, free text every time; the last token is never forwarded; beginnings shared."""
    tokenizer = make_tokenizer("llama")
    renderer = Renderer(tokenizer, chat=False, system="")
    prompt = Prompt("the cat", bare=True)
    sentence = LogLikelihood(Prompt("", bare=True), "the cat sat")
    choice = Choice(prompt, (Option("a", (" yes indeed",)), Option("b", (" no",))))
    text = Generate(prompt, 20)
    found = count([sentence, sentence, choice, text, text], renderer)
    given = [renderer.encode(words, bare=True)[:-1] for words in ("the cat sat", "the cat yes indeed", "the cat no")]
    rows = [ids for ids in given if not any(other != ids and other[: len(ids)] == ids for other in given)]
    beginnings = {ids[:n] for ids in rows for n in range(1, len(ids) + 1)}
    assert found.requests == 4
    assert (found.scored, found.packed) == (sum(map(len, set(rows))), len(beginnings))
    assert found.packed < found.scored
    assert (found.prompts, found.allowed) == (2 * len(renderer.encode("the cat", bare=True)), 40)


def test_in_proportion() -> None:
    assert scaled(Count(2, 4, 3, 0, 10), 2, 7) == Count(7, 14, 10, 0, 35)


def test_the_page_has_every_benchmark_and_names_its_assumptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {name: Count(1, 3600, 3600, 0, 0) for name in (*PAPER, *FIELD)}
    monkeypatch.setattr(cost, "counted", lambda: (counts, 4.0))
    document = tmp_path / "scale.md"
    document.write_text(f"before\n{START}\nsuperseded\n{END}\nafter\n")
    assert main([str(document), "flops=1e9", "parameters=1e9", "arm_s=0"]) == 0
    written = document.read_text()
    assert written.startswith(f"before\n{START}\n| ")
    assert written.endswith(f"{END}\nafter\n")
    assert "superseded" not in written
    # 12 benchmarks x 3600 tokens x 2e9 operations at 1e9 a second: 24 hours an arm; 100 models x 21 arms.
    assert "greedy | 50,400 | 50,400 | 0 | 0 | **50,400 to 50,400** |" in written
    assert all(f"`{field.name}`" in written for field in dataclasses.fields(Assumed))
    assert page(counts, 4.0, Assumed()) not in written
    (tmp_path / "bare.md").write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        main([str(tmp_path / "bare.md")])
