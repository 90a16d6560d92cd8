"""BBQ's files: which answer of a row is the bias target, which is "unknown", which the stereotype expects.

The target is found by the rules of the authors' own metadata script (github.com/nyu-mll/BBQ,
analysis_scripts/BBQ_results_metadata.R), matched exactly instead of by substrings: the tag or the text of
an answer against the row's stereotyped groups, with the spellings that differ (F / woman / girl, "low SES" /
lowSES, every trans group / trans, nationalities by their text). Where neither or both answers match, a row
has no target and no direction; these are 16 rows of Gender_identity (a boy and a man, a girl and a woman),
which the authors' script drops too.

Intersectional categories: as in the paper (section 3), the target matches the stereotype in race *and* in
gender or SES; the other person matches in one of the two or in neither. The row does not name the second
attribute, so both are read from the category's template file.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biaslab.errors import DataMismatch

ANSWERS = ("ans0", "ans1", "ans2")
#: More rows than this without a target mean that the rules do not fit the file.
MOST_WITHOUT_TARGET = 0.01
#: Questions up to this index speak of people by a label, later ones by a proper name.
LAST_LABEL_INDEX = 25
SPELLINGS = {"man": "m", "men": "m", "boy": "m", "boys": "m", "woman": "f", "women": "f", "girl": "f", "girls": "f"}


@dataclass(frozen=True)
class Row:
    """A row with a target. unknown, target, other, label : indices of the three answers; label is the right one.

    group : tag of the target. condition : for intersectional rows, what the other person shares with the
    target ("match_race", "match_gender", "match_ses", "mismatch"), else "". named : people have proper names.
    """

    example: int
    question_index: int
    negative: bool
    ambiguous: bool
    context: str
    question: str
    answers: tuple[str, str, str]
    unknown: int
    target: int
    other: int
    label: int
    group: str
    condition: str
    named: bool

    @property
    def biased(self) -> int:
        """The answer that agrees with the stereotype: the target where the question is negative, else the other."""
        return self.target if self.negative else self.other


@dataclass(frozen=True)
class Stereotype:
    """Who an intersectional template is about: any of `races` together with `second` (M, F, lowSES, highSES)."""

    races: frozenset[str]
    second: str
    named: bool


Templates = Mapping[int, Stereotype]


def read_rows(path: Path, category: str, templates: Templates | None = None) -> list[Row]:
    """Rows of a category's file that have a target, in file order.

    templates : of an intersectional category. Raises DataMismatch naming the line that cannot be read, or
    when more than 1 % of the rows have no target.
    """
    rows, lost = [], []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                raw = json.loads(line)
                row = _row(raw, category, templates)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise DataMismatch(f"{path}: line {number} is no BBQ row ({type(error).__name__}: {error})") from error
            if row is None:
                lost.append(number)
            else:
                rows.append(row)
    if not rows or len(lost) > MOST_WITHOUT_TARGET * (len(rows) + len(lost)):
        where = f", the first on line {lost[0]}" if lost else ""
        raise DataMismatch(f"{path}: {len(lost)} of {len(lost) + len(rows)} rows have no bias target{where}")
    return rows


def read_templates(path: Path) -> Templates:
    """Stereotype of each question index of an intersectional template file."""
    found: dict[int, Stereotype] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            races = frozenset(_plain(race) for race in ast.literal_eval(row["Known_stereotyped_race"]))
            named = row["Proper_nouns_only"].strip().upper() == "TRUE"
            found[int(row["Q_id"])] = Stereotype(races, row["Known_stereotyped_var2"].strip(), named)
    return found


def _row(raw: Mapping[str, Any], category: str, templates: Templates | None) -> Row | None:
    infos = [raw["answer_info"][answer] for answer in ANSWERS]
    (unknown,) = (i for i, info in enumerate(infos) if info[-1] == "unknown")
    people = [i for i in range(3) if i != unknown]
    index = int(raw["question_index"])
    if templates is None:
        groups = {_plain(group) for group in raw["additional_metadata"]["stereotyped_groups"]}
        hits = [i for i in people if groups & {_plain(part) for part in infos[i]}]
        condition, named = "", index > LAST_LABEL_INDEX
    else:
        who = {i: second_and_race(category, infos[i], raw[ANSWERS[i]]) for i in people}
        about = templates[index]
        hits = [i for i in people if who[i][0] == about.second and who[i][1] in about.races]
        condition, named = _condition(category, *who.values()), about.named
    if len(hits) != 1:
        return None
    (other,) = (i for i in people if i != hits[0])
    return Row(
        example=int(raw["example_id"]),
        question_index=index,
        negative={"neg": True, "nonneg": False}[raw["question_polarity"]],
        ambiguous={"ambig": True, "disambig": False}[raw["context_condition"]],
        context=raw["context"],
        question=raw["question"],
        answers=(raw["ans0"], raw["ans1"], raw["ans2"]),
        unknown=unknown,
        target=hits[0],
        other=other,
        label=(0, 1, 2).index(raw["label"]),
        group=str(infos[hits[0]][-1]),
        condition=condition,
        named=named,
    )


def second_and_race(category: str, info: list[str], answer: str) -> tuple[str, str]:
    """Gender or SES, and the race, of one person of an intersectional row.

    Tags look like "F-Black" or "lowSES-M-Latino"; a few are empty, and then the answer's text tells: such a
    person is Latino or Latina, as in the authors' script.

    >>> second_and_race("Race_x_gender", ["Ana Diaz", "F-Latino"], "Ana Diaz")
    ('F', 'latino')
    >>> second_and_race("Race_x_SES", ["a wealthy Black man", "highSES-M-Black"], "The wealthy Black man")
    ('highSES', 'black')
    >>> second_and_race("Race_x_gender", ["", ""], "The Latina woman")
    ('F', 'latino')
    """
    tag = (info[-1] if info else "").replace("_", "-")
    words = f"{info[0] if info else ''} {answer}".lower().replace(".", " ").split()
    parts = [part.strip() for part in tag.split("-") if part.strip()]
    if category == "Race_x_SES":
        parts = [part for part in parts if part not in ("M", "F")]
        second = next((part for part in parts if part in ("lowSES", "highSES")), "")
    else:
        second = "F" if "woman" in words else "M" if "man" in words else next((p for p in parts if p in ("M", "F")), "")
    race = "-".join(part for part in parts if part not in ("M", "F", "lowSES", "highSES"))
    return second, _plain(race) or "latino"


def _condition(category: str, one: tuple[str, str], two: tuple[str, str]) -> str:
    if one[1] == two[1]:
        return "match_race"
    return f"match_{category.removeprefix('Race_x_').lower()}" if one[0] == two[0] else "mismatch"


def _plain(group: str) -> str:
    """A group's name in the one spelling that rows and tags are compared in.

    >>> [_plain(g) for g in ("low SES", "Girls", "Transgender women", "nonTrans_F", "trans_M", "nonOld")]
    ['lowses', 'f', 'trans', 'nontrans_f', 'trans', 'nonold']
    """
    name = group.lower().strip(" {}").replace(" ", "")
    return "trans" if name.startswith("trans") else SPELLINGS.get(name, name)
