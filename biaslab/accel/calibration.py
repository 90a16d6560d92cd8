"""Calibration text of the pruners: where it comes from, how it becomes token ids, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import ConfigError
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

EMBEDDED = "embedded"


@dataclass
class Calibration:
    """What a calibrated accelerator looks at.

    source : "embedded" (sentences of the model's own grammar where a bias was planted, else plain English
        that ships with biaslab), or the path of a UTF-8 text file.
    samples, length : rows, and tokens in each; a row is never padded.
    seed : which rows are drawn; another seed is a replicate of the same accelerator.
    """

    source: str = EMBEDDED
    samples: int = 128
    length: int = 64
    seed: int = 0

    def check(self) -> str | None:
        """The first value out of range, as "calibration.field=value: what is allowed", or None."""
        if not self.source:
            return "calibration.source=: embedded, or the path of a text file"
        for name, low, high in (("samples", 1, 100_000), ("length", 2, 1_000_000), ("seed", 0, 2**31 - 1)):
            if not low <= (value := getattr(self, name)) <= high:
                return f"calibration.{name}={value}: {low} to {high}"
        return None


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
    if calibration.source != EMBEDDED:
        return _nonempty(_read(calibration.source))
    if info.planted is None:
        return _nonempty(files("biaslab.accel").joinpath("calibration.txt").read_text(encoding="utf-8"))
    from biaslab.models.embedded.grammar import calibration_texts

    # A line of the grammar is some hundred tokens: enough for the last row to be full as well.
    n_lines = calibration.samples + 1 + calibration.length // 16
    return _nonempty("\n".join(calibration_texts(n_lines, calibration.seed, info.planted.scale)))


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
