"""Calibration text: where it comes from, how it becomes token ids, and what identifies it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import ConfigError
from biaslab.libraries import missing
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

EMBEDDED = "embedded"
HUB = "hub:"
HUB_NAME = re.compile(r"hub:[\w.-]+/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
#: How many texts of a hub data set are looked at, from its first: enough for any calibration, soon fetched.
HUB_TEXTS = 2000


@dataclass
class Calibration:
    """What a calibrated accelerator looks at.

    source : "embedded" (sentences of the model's own grammar where a bias was planted, else plain English
        that ships with biaslab), the path of a UTF-8 text file, or "hub:owner/name", a data set of the hub.
    samples, length : rows, and tokens in each; a row is never padded.
    seed : which rows are drawn; another seed is a replicate of the same accelerator.
    subset, split, column, revision : of a hub data set: which configuration ("" for its only one), split and
        column of texts, at which commit. Its first HUB_TEXTS texts are used.
    """

    source: str = EMBEDDED
    samples: int = 128
    length: int = 64
    seed: int = 0
    subset: str = ""
    split: str = "train"
    column: str = "text"
    revision: str = "main"

    def check(self) -> str | None:
        """The first value out of range, as "calibration.field=value: what is allowed", or None."""
        if not self.source:
            return "calibration.source=: embedded, the path of a text file, or hub:owner/name"
        if self.source.startswith(HUB) and not HUB_NAME.fullmatch(self.source):
            return f"calibration.source={self.source}: write hub:owner/name"
        for name, low, high in (("samples", 1, 100_000), ("length", 2, 1_000_000), ("seed", 0, 2**31 - 1)):
            if not low <= (value := getattr(self, name)) <= high:
                return f"calibration.{name}={value}: {low} to {high}"
        return None

    def fingerprint(self, model: ModelInfo) -> str:
        """What the source's text is: its sha256, or the commit of a hub data set.

        Raises ConfigError if it cannot be read, or the commit not be found out.
        """
        if self.source.startswith(HUB):
            return f"{self.source}@{hub_commit(self.source.removeprefix(HUB), self.revision)}"
        lines = source_lines(model, self)
        return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


@dataclass(frozen=True)
class CalibrationIds:
    """ids : (samples, length) int64 on the model's device. facts : source, shape and sha256, plain JSON."""

    ids: torch.Tensor
    facts: dict[str, Any]


def calibration_ids(model: LoadedModel, calibration: Calibration) -> CalibrationIds:
    """Rows of token ids. A row starts where a line of the text starts and goes on through the next ones.

    Rows start at different lines; where the text has too few lines, at different words. Each is tokenized
    on its own, with whatever the tokenizer puts in front of a text.
    Raises ConfigError if the source cannot be read, is too short, or a row is longer than the model reads.
    """
    import numpy as np
    import torch

    if calibration.length > model.context_length:
        raise ConfigError(
            f"calibration.length={calibration.length}: {model.info.label} reads at most {model.context_length} tokens"
        )
    rows = _rows(source_lines(model.info, calibration), model.tokenizer, calibration)
    ids = np.array(rows, dtype=np.int64)
    digest = hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
    facts = {**asdict(calibration), "ids_sha256": digest}
    return CalibrationIds(torch.from_numpy(ids).to(model.device), facts)


def source_lines(info: ModelInfo, calibration: Calibration) -> list[str]:
    """The non-empty lines of the source; ConfigError if it cannot be read."""
    if calibration.source.startswith(HUB):
        return _nonempty("\n".join(hub_texts(calibration)))
    if calibration.source != EMBEDDED:
        return _nonempty(_read(calibration.source))
    if info.planted is None:
        return _nonempty(files("biaslab.accel").joinpath("calibration.txt").read_text(encoding="utf-8"))
    from biaslab.models.embedded.grammar import calibration_texts

    # A line of the grammar is some hundred tokens: enough for the last row to be full as well.
    n_lines = calibration.samples + 1 + calibration.length // 16
    return _nonempty("\n".join(calibration_texts(n_lines, calibration.seed, info.planted.scale)))


@cache
def hub_commit(name: str, revision: str) -> str:
    """The commit a data set's revision stands for, asked of the hub; ConfigError if the hub does not tell."""
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        found: str | None = HfApi().dataset_info(name, revision=revision).sha
    except Exception as error:  # no network, no such data set, no access: the hub has an error for each
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"calibration.source=hub:{name}: its revision {revision!r} cannot be looked up ({why.strip()}); "
            "give calibration.revision=<commit of 40 digits>, or a text file"
        ) from error
    return str(found)


def hub_texts(calibration: Calibration) -> list[str]:
    """The first HUB_TEXTS texts of a hub data set, streamed from the commit of its revision.

    Raises ConfigError if the library is missing, the data set cannot be read, or has no such column.
    """
    if (absent := missing(("datasets",), "quantizers")) is not None:
        raise ConfigError(f"calibration.source={calibration.source}: {absent}")
    from datasets import load_dataset

    name = calibration.source.removeprefix(HUB)
    commit = hub_commit(name, calibration.revision)
    try:
        rows = load_dataset(name, calibration.subset or None, split=calibration.split, revision=commit, streaming=True)
        texts = [row.get(calibration.column) for row in islice(rows, HUB_TEXTS)]
    except Exception as error:  # as many kinds as there are ways a hub data set cannot be read
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(f"calibration.source={calibration.source}: cannot be read ({why.strip()})") from error
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"calibration.column={calibration.column}: {calibration.source} has no such column of texts")
    return texts


def _read(source: str) -> str:
    try:
        return Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"calibration.source={source}: {error.strerror}; give a text file or embedded") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"calibration.source={source}: not UTF-8 text (byte {error.start})") from error


def _nonempty(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _rows(lines: Sequence[str], tokenizer: PreTrainedTokenizerBase, calibration: Calibration) -> list[list[int]]:
    import numpy as np

    count, length = calibration.samples, calibration.length
    units = lines
    n_starts = _count_starts(units, tokenizer, length)
    if n_starts < count:
        units = " ".join(lines).split()
        n_starts = _count_starts(units, tokenizer, length)
    if n_starts < count:
        raise ConfigError(
            f"calibration.source={calibration.source}: room for {n_starts} different rows of {length} "
            f"tokens, {count} are asked for; give a longer text, or fewer samples"
        )
    starts = np.random.default_rng(calibration.seed).choice(n_starts, size=count, replace=False)
    return [_row(units, int(start), tokenizer, length) for start in starts]


def _row(units: Sequence[str], start: int, tokenizer: PreTrainedTokenizerBase, length: int) -> list[int]:
    """The first `length` tokens from unit `start` on; fewer only if the text ends."""
    taken = 1
    while True:
        # One unit more than needed, so that the cut never falls on an end token.
        ids: list[int] = tokenizer(" ".join(units[start : start + taken]))["input_ids"]
        if len(ids) > length or start + taken >= len(units):
            return ids[:length]
        taken *= 2


def _count_starts(units: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> int:
    """How many units, from the first, have `length` tokens from them on."""
    low, high = 0, len(units)
    while low < high:
        middle = (low + high) // 2
        full = len(_row(units, middle, tokenizer, length)) == length
        low, high = (middle + 1, high) if full else (low, middle)
    return low
