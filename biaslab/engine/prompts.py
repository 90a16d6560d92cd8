"""From prompts to token ids: plain text or a chat template, with the BOS token exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biaslab.engine.requests import Prompt
from biaslab.errors import CellFailed


class Renderer:
    """Renders prompts for one tokenizer under one prompt format.

    chat : apply the tokenizer's chat template. system : a system prompt put before each prompt's own.
    Raises CellFailed if `chat` is asked of a tokenizer without a template.
    """

    def __init__(self, tokenizer: Any, *, chat: bool, system: str) -> None:
        if chat and not getattr(tokenizer, "chat_template", None):
            raise CellFailed("prompt.chat=true: this model's tokenizer has no chat template; use prompt.chat=false")
        self.tokenizer, self.chat, self.system = tokenizer, chat, system
        self._memo: dict[str, tuple[int, ...]] = {}
        # What the tokenizer adds to an empty text: a BOS, or nothing.
        self.bos = tuple(tokenizer("", add_special_tokens=True)["input_ids"])
        if self.bos and self.bos[-1] == tokenizer.eos_token_id and self.bos[-1] != tokenizer.bos_token_id:
            self.bos = ()  # it appends an end token to texts; that is no start

    def text(self, prompt: Prompt) -> str:
        """The prompt as text; under a chat format, with the template's own special tokens written out."""
        if prompt.bare:
            return prompt.user
        if self.chat:
            return self._chat_text(prompt)
        system = " ".join(part for part in (self.system, prompt.system) if part)
        parts = [f"{question}\n\n{answer}" for question, answer in prompt.examples]
        parts.append(f"{system} {prompt.user}" if system else prompt.user)
        if prompt.answer_prefix:
            parts.append(prompt.answer_prefix)
        return "\n\n".join(parts)

    def encode(self, text: str, *, bare: bool) -> tuple[int, ...]:
        """Token ids of a rendered text, starting with the BOS once if the tokenizer has one."""
        found = self._memo.get(text)
        if found is None:
            ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            written_out = self.chat and not bare and ids[: len(self.bos)] == self.bos
            found = self._memo[text] = ids if written_out else self.bos + ids
        return found

    def _chat_text(self, prompt: Prompt) -> str:
        system = " ".join(part for part in (self.system, prompt.system) if part)
        turns: list[dict[str, str]] = []
        for question, answer in prompt.examples:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        turns.append({"role": "user", "content": prompt.user})
        text = self._template(_with_system(turns, system))
        if text is None:  # the template knows no system role: the first user turn carries it
            first = {"role": "user", "content": f"{system}\n\n{turns[0]['content']}"}
            text = self._template([first, *turns[1:]])
        if text is None:
            raise CellFailed("the chat template accepts neither a system role nor a plain user turn")
        return text + prompt.answer_prefix

    def _template(self, turns: Sequence[dict[str, str]]) -> str | None:
        from jinja2 import TemplateError

        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except TemplateError:
            return None


def _with_system(turns: list[dict[str, str]], system: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, *turns] if system else turns
