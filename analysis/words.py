"""Figures and lists as they are written in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.study import Estimate


def signed(value: float) -> str:
    """Three significant digits with a sign; 0 has none.

    >>> signed(0.48213), signed(-0.0), signed(float("nan"))
    ('+0.482', '0', 'not known')
    """
    if not math.isfinite(value):
        return "not known"
    return "0" if value == 0 else f"{value:+.3g}"


def p_text(p: float) -> str:
    """Such as "p = 0.012", "p < 0.0001", or "no p".

    >>> p_text(0.0123), p_text(0.00001)
    ('p = 0.012', 'p < 0.0001')
    """
    if not math.isfinite(p):
        return "no p"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def interval_text(low: float, high: float, alpha: float) -> str:
    """Such as "95 % interval +0.1 to +0.3"."""
    if not math.isfinite(low):
        return "no interval"
    return f"{100 * (1 - alpha):g} % interval {signed(low)} to {signed(high)}"


def estimate_text(estimate: Estimate, unit: str, alpha: float) -> str:
    """Value, unit, interval and adjusted p of an estimate, or the reason why there is none."""
    if not math.isfinite(estimate.value):
        return estimate.reason or "not known"
    parts = [interval_text(estimate.ci_low, estimate.ci_high, alpha)]
    if math.isfinite(estimate.p_adjusted):
        parts.append(f"adjusted {p_text(estimate.p_adjusted)}")
    return f"{signed(estimate.value)} {unit} ({', '.join(parts)})"


def listing(names: Sequence[str], *, most: int = 6) -> str:
    """Such as "a, b and c"; more than `most` names end in "and 4 more".

    >>> listing(["a", "b", "c"]), listing("abcdefgh", most=3)
    ('a, b and c', 'a, b, c and 5 more')
    """
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else "none"


def plural(n: int, word: str) -> str:
    """Such as "1 cell", "2 cells"."""
    return f"{n} {word}{'' if n == 1 else 's'}"


def shortened(name: str, most: int) -> str:
    """A name of at most `most` letters: without its owner where that is enough, else cut in the middle.

    >>> shortened("owner/model-8b", 20), shortened("owner/model-8b", 12), shortened("abcdefghij", 7)
    ('owner/model-8b', '…/model-8b', 'abc…hij')
    """
    if len(name) <= most:
        return name
    if "/" in name and len(own := f"…/{name.rsplit('/', 1)[1]}") <= most:
        return own
    head = (most - 1) // 2
    return f"{name[: most - 1 - head]}…{name[len(name) - head :]}"


def visible(text: str) -> str:
    r"""Text from outside with what a terminal would obey written out.

    >>> visible("a\x1b[2Jb\n\u202e")
    'a\\x1b[2Jb\\n\\u202e'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
