"""The items whose answer flipped most surely, with what was answered before and after where that is stored.

Records hold the answers that were generated, not the prompts: an item is named by its id, its cluster and its
group, as in the benchmark's own file. Everything here was written by a model or by a file's author: untrusted text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats
from analysis.contrasts import BASELINE, ArmKey
from analysis.flips import changed
from analysis.frame import Frame

if TYPE_CHECKING:
    from analysis.load import Cell

MOST = 10  # examples of a benchmark
MOST_OF_AN_ARM = 3
LONGEST = 300  # characters of an answer that are kept


@dataclass(frozen=True)
class Example:
    """One flipped item: the baseline's outcome, score and text beside the accelerated model's.

    sureness : how far the flip is from a coin's toss; see `sureness`. clear : the baseline's |score| exceeds the
    noise floor, None without a placebo. text_* : "" where nothing was generated or kept.
    """

    model: str
    accel: str
    item: str
    cluster: str
    category: str
    group: str
    outcome_before: str
    outcome_after: str
    score_before: float
    score_after: float
    sureness: float
    clear: bool | None
    text_before: str
    text_after: str


def examples(frame: Frame, arms: Sequence[ArmKey], *, floor: float = math.nan) -> list[Example]:
    """The surest flips of `arms`, at most MOST_OF_AN_ARM of one arm and MOST in all; ties by item.

    floor : |item shift| that means nothing (a quantile of the placebos'), NaN without a placebo.
    """
    found: list[tuple[float, ArmKey, int]] = []
    for arm in arms:
        before, after = frame.score(arm[0], BASELINE), frame.score(*arm)
        sure = np.where(changed(frame, arm) == 1, sureness(before, after), -math.inf)
        top = np.argsort(-sure, kind="stable")[:MOST_OF_AN_ARM]
        found += [(float(sure[i]), arm, int(i)) for i in top if sure[i] > -math.inf]
    found = sorted(found, key=lambda row: -row[0])[:MOST]
    texts = _texts(frame, [(key, frame.items.index[i]) for _, arm, i in found for key in ((arm[0], BASELINE), arm)])
    return [_example(frame, arm, i, sure, floor, texts) for sure, arm, i in found]


def sureness(before: Floats, after: Floats) -> Floats:
    """(n,) the smaller |score| of the two where the sign turned: both answers were that far from a tie.

    Where the outcome changed and the sign did not (answers that are not the sign of their score), half the
    distance between the two scores, which is what the first would be at its best.

    >>> sureness(np.array([2.0, 1.0]), np.array([-0.5, 3.0])).tolist()
    [0.5, 1.0]
    """
    turned = before * after < 0
    sure: Floats = np.where(turned, np.minimum(np.abs(before), np.abs(after)), np.abs(after - before) / 2)
    return sure


def _example(
    frame: Frame, arm: ArmKey, i: int, sure: float, floor: float, texts: Mapping[tuple[ArmKey, str], str]
) -> Example:
    item, base = str(frame.items.index[i]), (arm[0], BASELINE)
    labels = frame.items.iloc[i]
    before = float(frame.scores[base].iloc[i])
    return Example(
        *arm,
        item,
        str(labels["cluster"]),
        str(labels["category"]),
        str(labels["group"]),
        str(frame.outcomes[base].iloc[i]),
        str(frame.outcomes[arm].iloc[i]),
        before,
        float(frame.scores[arm].iloc[i]),
        sure,
        abs(before) > floor if floor == floor else None,
        texts.get((base, item), ""),
        texts.get((arm, item), ""),
    )


def _texts(frame: Frame, wanted: Sequence[tuple[ArmKey, str]]) -> dict[tuple[ArmKey, str], str]:
    """The generated text of each (arm, item), of the first repeat that has the item's outcome."""
    out: dict[tuple[ArmKey, str], str] = {}
    for arm in dict.fromkeys(arm for arm, _ in wanted):
        items = {item for key, item in wanted if key == arm}
        for cell in frame.cells[arm]:
            for item, outcome, text in _responses(cell, items):
                if outcome == frame.outcomes[arm].at[item]:
                    out.setdefault((arm, item), text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
    return out


def _responses(cell: Cell, items: set[str]) -> list[tuple[str, str, str]]:
    """Item, outcome and text of the rows that have a text; none for records that came without such a column."""
    names = ["item", "outcome", "response"]
    if cell.records is not None:
        if "response" not in cell.records:
            return []
        rows = cell.records.loc[cell.records["item"].isin(items), names].to_dict("list")
    else:
        import pyarrow.parquet as parquet

        path = cell.folder / "records.parquet"
        if "response" not in parquet.read_schema(path).names:
            return []
        rows = parquet.read_table(path, columns=names, filters=[("item", "in", sorted(items))]).to_pydict()
    return [(str(i), str(o), str(t)) for i, o, t in zip(*(rows[name] for name in names), strict=True) if t]
