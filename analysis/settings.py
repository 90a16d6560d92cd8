"""Every choice the analysis makes, with its default. Choose them before looking at the results."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Margins:
    """Equivalence margins by kind of score, chosen before looking; see verdict.equivalence_margin."""

    log_odds_sd: float = 0.10  # of the baseline's item standard deviation, for log-odds and log-prob scores
    rate: float = 0.02  # absolute, for scores that are rates (2 points)
    by_benchmark: dict[str, float] = field(default_factory=dict)  # name -> absolute margin in its unit, before these


@dataclass
class Settings:
    """Settings of one analysis. The group `analysis` of biaslab's config is this schema.

    alpha : level of every test and complement of every interval's coverage, in (0, 1).
    n_resamples : sign flips drawn when they are too many to enumerate (at least 99).
    seed : of the flips.
    coverage : least share of items with an answer for a cell to count as valid, in [0, 1].
    perplexity_ratio : perplexity over the baseline's above which an arm is marked degenerate.
    repetition : share of repeated 4-grams in generated text above which an arm that repeats more than its baseline
        is marked degenerate, in (0, 1].
    power : chance with which the minimum detectable effect is found, above alpha and below 1.
    predictable_share : shifts count as predictable across models when the model-specific share of their mean
        square is shown to be under it, as not predictable when it is shown to be over it, in (0, 1).
    floor_quantile : quantile of the placebos' |item shift| that a baseline's |score| must exceed for a flip to
        count as clear, in (0, 1).
    skip : do not analyse at the end of a run.
    accels : accelerator labels to test (empty: all but placebos, inert arms and stacks).
    """

    alpha: float = 0.05
    n_resamples: int = 9999
    seed: int = 0
    coverage: float = 0.80
    perplexity_ratio: float = 1.5
    repetition: float = 0.20
    power: float = 0.80
    predictable_share: float = 0.50
    floor_quantile: float = 0.95
    margins: Margins = field(default_factory=Margins)
    accels: list[str] = field(default_factory=list)
    skip: bool = False
