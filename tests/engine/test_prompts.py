"""Rendering: the BOS once, the system prompt never lost, the same text every day."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from biaslab.engine.core import Engine
from biaslab.engine.prompts import Renderer, make_span
from biaslab.engine.requests import Decoding, LogLikelihood, Prompt
from biaslab.errors import CellFailed
from biaslab.models import embedded
from tests.engine.conftest import MakeModel
from tests.models.make import KINDS, make_tokenizer

NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] | trim }}\n{% endfor %}[assistant] "
)
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' %}[{{ m['role'] }}] {{ m['content'] }}\n{% endif %}"
    "{% endfor %}[assistant] "
)
DATED = "{{ strftime_now('%Y-%m-%d') }} {{ date_string }} {{ messages[0]['content'] }}"
PROMPT = Prompt("Is it true?", system="Be brief.", examples=(("Is it old?", "Yes"),), answer_prefix="Answer:")


def renderer(
    kind: str = "llama", *, chat: bool = True, system: str = "", template: str = "", bos: bool = True
) -> Renderer:
    tokenizer = make_tokenizer(kind, chat=chat, bos=bos)
    if template:
        tokenizer.chat_template = template
    return Renderer(tokenizer, chat=chat, system=system)


def test_plain_text_puts_system_user_and_answer_prefix_in_the_documented_order() -> None:
    assert renderer(chat=False).text(Prompt("User?")) == "User?"
    assert renderer(chat=False, system="Everyone.").text(PROMPT) == (
        "Is it old?\n\nYes\n\nEveryone. Be brief. Is it true?\n\nAnswer:"
    )


def test_the_template_gets_system_examples_and_user_and_the_answer_is_opened() -> None:
    assert renderer(system="Everyone.").text(PROMPT) == (
        "<s>[system] Everyone. Be brief.\n[user] Is it old?\n[assistant] Yes\n[user] Is it true?\n[assistant] Answer:"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_without_a_system_role_the_first_user_turn_carries_the_system_prompt(template: str) -> None:
    text = renderer(template=template).text(PROMPT)
    assert text.removeprefix("<s>") == (
        "[user] Be brief.\n\nIs it old?\n[assistant] Yes\n[user] Is it true?\n[assistant] Answer:"
    )


def test_bare_prompts_are_sent_as_they_are_under_any_format() -> None:
    assert renderer(system="Everyone.").text(Prompt("The nurse", bare=True)) == "The nurse"


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_bos_comes_once_and_first(kind: str, bos: bool, chat: bool) -> None:
    made = renderer(kind, chat=chat, bos=bos)
    start = made.tokenizer.bos_token_id
    for prompt in (PROMPT, Prompt("The nurse", bare=True), Prompt("", bare=True)):
        ids = made.prompt_ids(prompt)
        templated = chat and not prompt.bare  # the template writes the BOS itself
        assert ids.count(start) == (1 if bos or templated else 0)
        assert start not in ids[1:]


def test_bos_is_added_to_a_template_that_forgets_it() -> None:
    assert renderer(template=DROPS_SYSTEM).prompt_ids(PROMPT).count(0) == 1


def test_the_same_text_bare_and_templated_is_not_mixed_up() -> None:
    made = renderer()
    text = made.text(PROMPT)
    templated = made.prompt_ids(PROMPT)
    assert made.encode(text, bare=True) == (0, *templated)
    assert made.prompt_ids(PROMPT) == templated


def test_an_end_token_that_the_tokenizer_appends_is_no_start() -> None:
    from tokenizers.processors import TemplateProcessing

    for single, expected in [("<s> $A </s>", (0,)), ("$A </s>", ()), ("$A", ())]:
        tokenizer = make_tokenizer("llama")
        specials = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=specials)
        made = Renderer(tokenizer, chat=False, system="")
        assert made.bos == expected
        ids = made.prompt_ids(Prompt("The nurse", bare=True))
        assert ids == (*expected, *tokenizer("The nurse", add_special_tokens=False)["input_ids"])


def test_a_template_that_writes_the_date_gives_the_same_prompt_every_day() -> None:
    assert renderer(template=DATED).text(Prompt("Hello")) == "2024-07-26 26 Jul 2024 Hello"


def test_chat_without_a_template_is_refused() -> None:
    with pytest.raises(CellFailed, match=r"prompt\.chat=true.*no chat template; use prompt\.chat=false"):
        Renderer(make_tokenizer("llama"), chat=True, system="")


def test_a_template_that_refuses_everything_is_an_error_not_a_fallback() -> None:
    with pytest.raises(CellFailed, match="template refuses these turns"):
        renderer(template="{{ raise_exception('no') }}").text(PROMPT)


def test_the_embedded_templates_keep_system_user_and_answer_prefix() -> None:
    from transformers import AutoTokenizer

    for name in embedded.names():
        tokenizer = AutoTokenizer.from_pretrained(embedded.folder(name))
        made = Renderer(tokenizer, chat=True, system="Everyone.")
        ids = made.prompt_ids(PROMPT)
        assert ids.count(tokenizer.bos_token_id) == 1
        text = made.text(PROMPT)
        assert [text.find(part) > 0 for part in ("Everyone. Be brief.", "Is it true?", "Answer:")] == [True] * 3


def test_chat_and_system_reach_the_model(make_model: MakeModel) -> None:
    model = make_model("llama", chat=True)
    request = LogLikelihood(Prompt("Is it true?"), "Yes")
    scores = [
        Engine().run(model, [request], decoding=Decoding(), chat=chat, system=system)[0].logprob_sum
        for chat in (True, False)
        for system in ("", "Be brief.")
    ]
    assert len({round(value, 3) for value in scores}) == 4


@pytest.mark.parametrize(
    ("context", "whole", "first"),
    [
        ((0, 1, 2), (0, 1, 2, 3), 3),
        ((0, 1, 2), (0, 1, 5), 2),
        ((0,), (0, 4), 1),
        ((), (4, 5), 1),
        ((4,), (5, 6), 1),
    ],
)
def test_scored_tokens_follow_the_longest_common_prefix(context: Any, whole: Any, first: int) -> None:
    assert make_span(context, whole).first == first


def test_rendering_leaves_the_tokenizer_as_it_was() -> None:
    tokenizer = make_tokenizer("qwen2", chat=True)
    before = copy.deepcopy(tokenizer.init_kwargs), tokenizer.chat_template
    Renderer(tokenizer, chat=True, system="x").prompt_ids(PROMPT)
    assert (tokenizer.init_kwargs, tokenizer.chat_template) == before


def test_a_published_prompt_may_have_its_own_plain_text_a_gap_and_a_second_bos() -> None:
    prompt = Prompt("User?", answer_prefix="Yes", plain="All of it", chat_gap=" ", bos_twice=True)
    assert renderer(chat=False).text(prompt) == "All of it"
    assert renderer(chat=False, system="S.").text(prompt) == "S. All of it"
    chat = renderer()
    assert chat.text(prompt) == "<s>[user] User?\n[assistant]  Yes"
    once = chat.prompt_ids(Prompt("User?", answer_prefix="Yes", chat_gap=" "))
    assert chat.prompt_ids(prompt) == (*chat.bos, *once)
    plain = renderer(chat=False)
    assert plain.prompt_ids(prompt) == plain.encode("All of it", bare=False)  # text has no BOS of its own
