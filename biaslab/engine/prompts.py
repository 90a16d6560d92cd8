"""From prompts to token ids: plain text or a chat template, with the BOS token exactly once."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from biaslab.engine.batching import Ids
from biaslab.engine.requests import Prompt
from biaslab.errors import CellFailed

#: Templates that write today's date would change the prompt from day to day; they get this one.
TODAY = datetime(2024, 7, 26)

#: How texts are encoded, and how many in one call: a call costs more than a sentence does.
PLAINLY = {"add_special_tokens": False, "verbose": False, "return_attention_mask": False}
TEXTS_AT_ONCE = 1000

#: Texts that a tokenizer has encoded: every arm of a model asks the same.
_MEMOS: WeakKeyDictionary[Any, dict[tuple[str, bool], Ids]] = WeakKeyDictionary()
_SECONDS: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


def tokenize_seconds(tokenizer: Any) -> float:
    """Wall seconds that a tokenizer has spent on texts in this process; a text it remembers costs none."""
    return _SECONDS.get(tokenizer, 0.0)


class EmptyRequest(CellFailed, ValueError):
    """A request with nothing to score, nothing to choose from or nothing to start from."""


@dataclass(frozen=True)
class Span:
    """Token ids of which those from `first` on are scored, each given all before it."""

    ids: Ids
    first: int


def make_span(context: Ids, whole: Ids) -> Span:
    """The span that scores `whole` after `context`: what follows their longest common prefix.

    A tokenizer may merge across the boundary; then the merged token is scored, not the continuation's
    own. The very first token of a sequence has no past and is never scored.
    """
    shared = next(
        (i for i, (a, b) in enumerate(zip(context, whole, strict=False)) if a != b),
        min(len(context), len(whole)),
    )
    return Span(whole, max(1, shared))


def digest(sequences: Iterable[Ids]) -> str:
    """sha256 (hex) of token sequences, each as its length and its ids, all as little-endian 64-bit integers.

    >>> digest([(1, 2)]) == digest([(1,), (2,)])
    False
    """
    found = hashlib.sha256()
    for ids in sequences:
        found.update(struct.pack(f"<{len(ids) + 1}q", len(ids), *ids))
    return found.hexdigest()


class Renderer:
    """Renders prompts for one tokenizer under one prompt format.

    chat : apply the tokenizer's chat template. system : a system prompt put before each prompt's own.
    Raises CellFailed if `chat` is asked of a tokenizer without a template.
    """

    def __init__(self, tokenizer: Any, *, chat: bool, system: str) -> None:
        if chat and not getattr(tokenizer, "chat_template", None):
            raise CellFailed("prompt.chat=true: this model's tokenizer has no chat template; use prompt.chat=false")
        self.tokenizer, self.chat, self.system = tokenizer, chat, system
        self.bos = _start(tokenizer)
        self._memo = _MEMOS.setdefault(tokenizer, {})

    def learn(self, asked: Iterable[tuple[Prompt, Sequence[str]]]) -> None:
        """Encode each prompt, alone and before each of its continuations, many in one call of the tokenizer."""
        unknown: dict[tuple[str, bool], None] = {}
        for prompt, continuations in asked:
            text, templated = self.text(prompt), self.chat and not prompt.bare
            keys = [(text + more, templated) for more in ("", *continuations)]
            unknown |= dict.fromkeys(key for key in keys if key not in self._memo)
        start, waiting = time.perf_counter(), list(unknown)
        for first in range(0, len(waiting), TEXTS_AT_ONCE):
            some = waiting[first : first + TEXTS_AT_ONCE]
            found = self.tokenizer([text for text, _ in some], **PLAINLY)["input_ids"]
            for key, ids in zip(some, found, strict=True):
                self._memo[key] = self._begun(tuple(ids), templated=key[1])
        _SECONDS[self.tokenizer] = tokenize_seconds(self.tokenizer) + time.perf_counter() - start

    def span(self, prompt: Prompt, continuation: str) -> Span:
        """The tokens of prompt and continuation, encoded together, and from where on they are scored.

        Raises EmptyRequest if no token would be scored.
        """
        text = self.text(prompt)
        context = self.encode(text, bare=prompt.bare)
        span = make_span(context, self.encode(text + continuation, bare=prompt.bare))
        if len(span.ids) <= span.first:
            raise EmptyRequest(f"nothing to score: {continuation!r} after {text[-60:]!r} leaves no token with a past")
        return span

    def prompt_ids(self, prompt: Prompt) -> Ids:
        """Token ids of a prompt alone."""
        ids = self.encode(self.text(prompt), bare=prompt.bare)
        return self.bos + ids if prompt.bos_twice and self.chat and not prompt.bare else ids

    def piece_span(self, prompt: Prompt, piece: str) -> Span:
        """The prompt's tokens and the vocabulary entry `piece` after them, or the unknown token.

        Raises CellFailed where the vocabulary has neither.
        """
        context = self.prompt_ids(prompt)
        found = self.tokenizer.convert_tokens_to_ids(piece)
        if found is None:
            raise CellFailed(f"the vocabulary has no entry {piece!r} and no unknown token; use variant=default")
        return Span((*context, int(found)), len(context))

    def text(self, prompt: Prompt) -> str:
        """The prompt as text; under a chat format, with the template's own special tokens written out."""
        if prompt.bare:
            return prompt.user
        system = " ".join(part for part in (self.system, prompt.system) if part)
        return self._chat_text(prompt, system) if self.chat else _plain_text(prompt, system)

    def encode(self, text: str, *, bare: bool) -> Ids:
        """Token ids of a rendered text, starting once with what the tokenizer starts every text with.

        A chat template may have written that BOS already. Where it did not, it is added all the same:
        a model trained with one is not asked without.
        """
        key = (text, self.chat and not bare)
        if key not in self._memo:
            start = time.perf_counter()
            self._memo[key] = self._begun(tuple(self.tokenizer(text, **PLAINLY)["input_ids"]), templated=key[1])
            _SECONDS[self.tokenizer] = tokenize_seconds(self.tokenizer) + time.perf_counter() - start
        return self._memo[key]

    def _begun(self, ids: Ids, *, templated: bool) -> Ids:
        """The ids of a text with what the tokenizer starts it with, unless its template wrote that."""
        return ids if templated and ids[: len(self.bos)] == self.bos else self.bos + ids

    def _chat_text(self, prompt: Prompt, system: str) -> str:
        turns: list[dict[str, str]] = []
        for question, answer in prompt.examples:
            turns += [_turn("user", question), _turn("assistant", answer)]
        turns.append(_turn("user", prompt.user))
        first = _turn("system", system)
        text = self._template([first, *turns] if system else turns)
        if system and (text is None or system.strip() not in text):
            # The template refuses a system role, or drops it without a word: the first user turn carries it.
            merged = _turn("user", f"{system}\n\n{turns[0]['content']}")
            text = self._template([merged, *turns[1:]])
        if text is None:
            raise CellFailed("prompt.chat=true: the chat template refuses these turns; use prompt.chat=false")
        return text + (prompt.chat_gap + prompt.answer_prefix if prompt.answer_prefix else "")

    def _template(self, turns: Sequence[dict[str, str]]) -> str | None:
        """The rendered turns with the answer opened, or None if the template raises."""
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns,
                    tokenize=False,
                    add_generation_prompt=True,
                    date_string=TODAY.strftime("%d %b %Y"),
                    strftime_now=TODAY.strftime,
                )
            )
        except TemplateError:
            return None


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _plain_text(prompt: Prompt, system: str) -> str:
    if prompt.plain is not None:
        return f"{system} {prompt.plain}" if system else prompt.plain
    parts = [f"{question}\n\n{answer}" for question, answer in prompt.examples]
    parts.append(f"{system} {prompt.user}" if system else prompt.user)
    if prompt.answer_prefix:
        parts.append(prompt.answer_prefix)
    return "\n\n".join(parts)


def _start(tokenizer: Any) -> Ids:
    """What the tokenizer puts before every text: its BOS, or nothing. An end token it appends is no start."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for k in range(len(whole) - len(bare) + 1):
        if whole[k : k + len(bare)] == bare:
            return tuple(whole[:k])
    raise CellFailed("the tokenizer encodes 'a' differently with its special tokens; where texts start is unclear")
