"""A table as HTML: plain and complete without the page's script, which lets it be sorted, filtered and copied.

A cell keeps its full number beside the short one it shows, so what is copied or saved is what the csv file holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.report.tables import Table

if TYPE_CHECKING:
    from markupsafe import Markup

#: Columns whose heading is not their name with blanks.
HEADINGS = {
    "accel": "accelerator", "ci_low": "low", "ci_high": "high", "p_adjusted": "adjusted p", "n_items": "items",
    "n_clusters": "clusters", "se": "std. error", "p_holm": "Holm p", "p_bh": "BH p", "p_gg": "p (GG)", "f": "F",
    "ss": "SS", "ms": "MS", "ss_error": "SS error", "eps": "GG epsilon", "w": "Mauchly W", "eta2_partial": "partial η²",
    "eta2_partial_low": "low", "eta2_partial_high": "high", "eta2_generalized": "general η²",
    "eta2_generalized_low": "low", "eta2_generalized_high": "high", "r2": "R²", "r2_low": "low", "r2_high": "high",
    "p_mcnemar": "McNemar p", "rate_low": "low", "rate_high": "high", "net_low": "low", "net_high": "high",
    "share_low": "low", "share_high": "high", "slope_ci_low": "low", "slope_ci_high": "high", "r_low": "low",
    "r_high": "high", "n_resamples": "flips drawn", "n_contrasts": "contrasts", "memory_ratio": "weights",
    "text_before": "baseline wrote", "outcome_before": "baseline: outcome", "score_before": "baseline: score",
    "text_after": "accelerated wrote", "outcome_after": "accelerated: outcome", "score_after": "accelerated: score",
    "disk_ratio": "files", "peak_ratio": "peak memory", "perplexity_ratio": "perplexity", "n_models": "models",
}  # fmt: skip
#: Most table cells on one page; beyond it long tables show their first rows and name the file that has all.
MOST_CELLS = 160_000
STEPS = (1000, 500, 250, 120, 60, 30)
PRINTED = 30  # rows of one table on paper; the style sheet hides the others there
SHORT = 20  # characters of a text that stays on one line
LONG = 60  # characters above which a text is given room, so that its row does not grow tall
SIDEWAYS = 12  # columns above which a table is set smaller in print; twice above SIDEWAYS + 6


def row_limit(tables: Sequence[tuple[Table, int]]) -> int:
    """The most rows of one part of a table so that the page stays small; each table with its number of parts."""
    for limit in STEPS:
        cells = sum(min(len(t.rows), limit * parts) * len(t.columns) for t, parts in tables)
        if cells <= MOST_CELLS:
            break
    return limit


def table_html(table: Table, anchor: str, limit: int) -> Markup:
    """The table, or its first `limit` rows with a word on where the others are."""
    from markupsafe import Markup

    cut = ""
    if len(table.rows) > limit:
        cut = f" The first {limit:,} of {len(table.rows):,} rows; the file has all."
    note = f"{table.title}. {table.note.rstrip('.')}." if table.note else f"{table.title}."
    link = f'<a href="tables/{_text(table.name)}.csv">tables/{_text(table.name)}.csv</a>'
    head = "".join(f'<th scope="col" data-c="{_text(c)}">{_text(heading(c))}' for c in table.columns)
    body = "".join("<tr>" + "".join(map(_cell, row, table.columns)) for row in table.rows[:limit])
    long = " long" * (len(table.rows) > PRINTED)
    paper = f'<p class="cut">On paper the first {PRINTED} of {len(table.rows):,} rows.</p>' if long else ""
    wide = " wide" * (len(table.columns) > SIDEWAYS) + " wider" * (len(table.columns) > SIDEWAYS + 6)
    return Markup(  # every part is escaped above or in _cell
        f'<div class="t"><div class="scroll{wide}{long}" data-table="{_text(table.name)}" tabindex="0" role="group" '
        f'aria-label="{_text(table.title)}"><table id="{_text(anchor)}"><caption><span>{_text(note)}{cut} {link}'
        f"</span></caption><thead><tr>{head}</thead><tbody>{body}</tbody></table></div>{paper}</div>"
    )


def heading(column: str) -> str:
    """What stands above a column.

    >>> heading("p_adjusted"), heading("flip_rate")
    ('adjusted p', 'flip rate')
    """
    return HEADINGS.get(column, column.replace("_", " "))


def number(value: float) -> str:
    """Four significant digits; whole large numbers with separators.

    >>> number(0.123456), number(1234567.0), number(0.00001)
    ('0.1235', '1,234,567', '1e-05')
    """
    if abs(value) >= 10000 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def shown(text: str) -> str:
    r"""Text with the characters that are not seen but change what is seen written out.

    >>> shown("a\u202eb"), shown("a b")
    ('a⟨U+202E⟩b', 'a b')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u200d\ufe0f" else f"⟨U+{ord(c):04X}⟩" for c in text)


def _cell(value: Any, column: str) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}"
    if isinstance(value, int):
        return f"<td data-v>{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return '<td data-v="nan">—'
        tiny = (column == "p" or column.startswith("p_")) and value < 0.0001
        return f'<td data-v="{value!r}">{"&lt;0.0001" if tiny else number(value)}'
    text = str(value)
    if len(text) <= (40 if column in ("model", "accel") else SHORT):
        return f'<td class="name">{_text(text)}'
    words = ' class="words"' if len(text) > LONG else ""
    return f"<td{words}>{_text(text)}"


def _text(text: str) -> str:
    from markupsafe import escape

    return escape(shown(text))
