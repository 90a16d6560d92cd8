"""Every choice the analysis makes, with its default. Choose them before looking at the results."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Margins:
    """Equivalence margins by kind of score, chosen before looking; see Settings.margin."""

    log_odds_sd: float = 0.10  # of the baseline's item standard deviation, for log-odds and log-prob scores
    rate: float = 0.02  # absolute, for scores that are rates (2 points)


@dataclass
class Settings:
    """Settings of one analysis. The group `analysis` of biaslab's config is this schema.

    alpha : level of every test and complement of every interval's coverage, in (0, 1).
    n_resamples : sign flips drawn when they are too many to enumerate (at least 99).
    seed : of the flips.
    coverage : least share of items with an answer for a cell to count as valid, in [0, 1].
    perplexity_ratio : perplexity over the baseline's above which an arm is marked degenerate.
    skip : do not analyse at the end of a run.
    accels : accelerator labels to test (empty: all but placebos, inert arms and stacks).
    """

    alpha: float = 0.05
    n_resamples: int = 9999
    seed: int = 0
    coverage: float = 0.80
    perplexity_ratio: float = 1.5
    margins: Margins = field(default_factory=Margins)
    accels: list[str] = field(default_factory=list)
    skip: bool = False
