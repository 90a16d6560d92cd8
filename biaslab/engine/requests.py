"""What can be asked of a model, and what it answers. Plain data: no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    r"""A prompt before rendering.

    With a chat format the model's template is applied to system, examples and user, then `answer_prefix`
    is appended to the opened answer. As plain text it is `[system + " "] user ["\n\n" + answer_prefix]`.
    `bare=True` sends `user` alone, untouched by any format (sentence scoring).

    plain : without a chat format, this text in place of examples, user and answer_prefix.
    chat_gap : in a chat format, what stands between the opened answer and answer_prefix.
    bos_twice : in a chat format, a BOS before the one the template writes (a fault of published code).
    """

    user: str
    system: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    answer_prefix: str = ""
    bare: bool = False
    plain: str | None = None
    chat_gap: str = ""
    bos_twice: bool = False


@dataclass(frozen=True)
class LogLikelihood:
    """log p(continuation | context).

    An empty `context.user` with `bare=True` scores the whole continuation: every token after the
    tokenizer's own BOS; where the tokenizer adds none, the first token has no past and is not scored.
    A tokenizer may merge across the boundary: scored tokens are those after the longest common prefix of
    tokens(context) and tokens(context + continuation).
    """

    context: Prompt
    continuation: str


@dataclass(frozen=True)
class Option:
    """One answer of a choice: a label and all spellings that count as giving it (case, leading blank)."""

    label: str
    spellings: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """log p of each option after the prompt: logsumexp over its spellings' whole token sequences.

    as_piece : instead, the one vocabulary entry that is spelled exactly like an option's first spelling, or
        the unknown token where there is none (what published code reads; it misses every other spelling).
    """

    prompt: Prompt
    options: tuple[Option, ...]
    as_piece: bool = False


@dataclass(frozen=True)
class Generate:
    """Free text after the prompt, until `stop`, the end token, or `max_new_tokens`."""

    prompt: Prompt
    max_new_tokens: int
    stop: tuple[str, ...] = ()


Request = LogLikelihood | Choice | Generate


@dataclass(frozen=True)
class LogLikelihoodResponse:
    """token_logprobs : natural log p of each scored token, float64; tokens : their text.

    sent : as in every response, the sha256 of the token ids the model was sent (see `prompts.digest`).
    """

    token_logprobs: tuple[float, ...]
    tokens: tuple[str, ...]
    prompt_tokens: int
    too_long: bool = False
    sent: str = field(default="", compare=False)  # of the question, not of the answer

    @property
    def logprob_sum(self) -> float:
        """Log p of the whole continuation."""
        return sum(self.token_logprobs)

    @property
    def logprob_mean(self) -> float:
        """Log p per scored token."""
        return sum(self.token_logprobs) / len(self.token_logprobs)


@dataclass(frozen=True)
class ChoiceResponse:
    """logprobs : natural log p of each option, in the request's order.

    mass_outside : 1 - p of all option sequences together, in [0, 1]; a sequence that extends another
    counted one is not counted twice.
    """

    logprobs: tuple[float, ...]
    mass_outside: float
    prompt_tokens: int
    too_long: bool = False
    sent: str = field(default="", compare=False)  # of the question, not of the answer


@dataclass(frozen=True)
class GenerateResponse:
    """finish : "stop" (a stop string or the end token), "length" (cut at max_new_tokens), or "too_long"."""

    text: str
    finish: str
    new_tokens: int
    prompt_tokens: int
    too_long: bool = False
    sent: str = field(default="", compare=False)  # of the question, not of the answer


Response = LogLikelihoodResponse | ChoiceResponse | GenerateResponse


@dataclass(frozen=True)
class Decoding:
    """How generated tokens are chosen; `sampled` draws repeat r of item i from a generator of its own."""

    mode: str = "greedy"  # "greedy" or "sampled"
    temperature: float = 1.0
    top_p: float = 1.0
