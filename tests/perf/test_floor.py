"""The floor counts what is needed and nothing twice."""

from __future__ import annotations

import pytest

from biaslab.engine.prompts import Span
from tests.engine.conftest import MakeModel, make_model  # noqa: F401  # a fixture
from tests.perf.side_by_side import floor


def test_beginnings_are_counted_once_and_only_scored_places_go_through_the_head() -> None:
    spans = [Span((1, 2, 3, 4), 1), Span((1, 2, 5, 6), 3), Span((1, 2), 1)]
    # Inputs (1, 2, 3), (1, 2, 5), (1): four distinct beginnings with pasts of 1, 2, 3 and 3 tokens. Scored are
    # the places after (1), (1, 2), (1, 2, 3) and (1, 2, 5).
    assert floor.needed(spans) == floor.Needed(tokens=4, scored=4, past=9)


def test_operations_are_those_of_the_layers_and_the_attention(make_model: MakeModel) -> None:  # noqa: F811
    model = make_model("llama")
    config = model.module.config
    body = sum(p.numel() for name, p in model.module.named_parameters() if "proj" in name)
    head = model.module.lm_head.weight.numel()
    flop, seconds = floor.least(model, [Span((1, 2, 3, 4), 2)])
    attention = 2 * config.num_hidden_layers * config.hidden_size * (1 + 2 + 3)
    assert flop == pytest.approx(2 * (3 * body + 2 * head + attention))
    assert 0 < seconds < 1
