"""The result of an analysis, as plain dataclasses: statistics fill them, writers render them.

Every estimate is in the benchmark's own unit. NaN means "cannot be given" and always comes with a reason
beside it. Nothing here computes anything; `to_json` turns a Study into what results.json holds.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # each of these is defined beside the function that fills it
    from analysis.aggregates import Aggregate
    from analysis.assumptions import Assumption
    from analysis.examples import Example
    from analysis.flips import FlipBin, FlipGroup, FlipTest
    from analysis.predictability import Predictability
    from analysis.scales import Scales
    from analysis.sections import EquivalenceRow, Power, Variance
    from analysis.transfer import Transfer
    from analysis.unanswered import AdjustedShift, Bound, RefusalShift

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Estimate:
    """A mean with its cluster-robust interval; p is two-sided for mean = 0.

    df : degrees of freedom of its t, NaN where it has none; n_clusters - 1 for clusters of one size.
    reach : where every value was exactly 0 and could have been this far from it, as the answers of a rate that few
        items change; 0 where any change of a model would have moved every value.

    p_adjusted : max-|t| (Westfall-Young) adjusted over the family the estimate belongs to, NaN outside one.
    """

    value: float
    se: float
    ci_low: float
    ci_high: float
    p: float
    n_items: int
    n_clusters: int
    p_adjusted: float = math.nan
    reason: str = ""
    df: float = math.nan
    reach: float = 0.0

    @property
    def dof(self) -> float:
        """`df`, or n_clusters - 1 for an estimate that was made without."""
        return self.df if math.isfinite(self.df) else self.n_clusters - 1.0

    @property
    def exact_zero(self) -> bool:
        """Whether every single value was 0."""
        return self.value == 0 and self.reason.startswith("exactly 0")


@dataclass(frozen=True)
class CellMean:
    """Mean item score of one cell, baselines included (accel "none").

    item_sd : standard deviation between items; repeat_sd : between repeats of one item, NaN with one repeat.
    """

    model: str
    accel: str
    estimate: Estimate
    item_sd: float = math.nan
    repeat_sd: float = math.nan


@dataclass(frozen=True)
class Shift:
    """Item-paired mean difference of a cell from its own baseline, and what the margin makes of it.

    verdict : "unchanged", "changed", "inconclusive", "exactly unchanged", "inert", "placebo" or "missing".
    valid : coverage and quality are over their thresholds; `sentence` says which is not, and the verdict is then
        never "unchanged".
    needed_clusters : clusters (of the present size) that would settle an inconclusive cell with chance `power`.
    tested : the cell is in the omnibus; placebos, inert arms and stacks are shown beside it.
    flips_clear : flips of items whose baseline |score| exceeds floor["item"], None without a placebo.
    """

    model: str
    accel: str
    estimate: Estimate
    margin: float
    verdict: str
    sentence: str
    valid: bool = True
    needed_clusters: int | None = None
    flip_rate: float = math.nan  # share of items whose outcome changed
    flips_up: int = 0  # items that turned towards the stereotype
    flips_down: int = 0
    flips_clear: int | None = None
    tested: bool = True


@dataclass(frozen=True)
class Difference:
    """Difference-in-differences: a cell's shift minus the mean shift of the other models, same accel.

    margin : equivalence margin of the cell's model; tested : as in Shift.
    """

    model: str
    accel: str
    estimate: Estimate
    margin: float = math.nan
    tested: bool = True


@dataclass(frozen=True)
class AnovaRow:
    """One source of the two-way repeated-measures ANOVA. NaN where the source cannot be tested.

    df1_gg, df2_gg : Greenhouse-Geisser corrected degrees of freedom, those of p_gg and of the intervals of
    partial and generalized eta squared (noncentral F, coverage 1 - alpha). ss_error : of the source's own error.
    """

    source: str  # "model", "accel", "model x accel"
    ss: float
    df1: float
    df2: float
    ms: float
    f: float
    p: float
    p_gg: float
    eps: float
    w: float
    p_sphericity: float
    eta2_partial: float
    eta2_generalized: float
    ss_error: float = math.nan
    df1_gg: float = math.nan
    df2_gg: float = math.nan
    eta2_partial_low: float = math.nan
    eta2_partial_high: float = math.nan
    eta2_generalized_low: float = math.nan
    eta2_generalized_high: float = math.nan


@dataclass(frozen=True)
class Anova:
    """pingouin.rm_anova on `unit` = "items" or "cluster means"; `reason` says why rows is empty."""

    unit: str
    n: int
    rows: list[AnovaRow] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class SimpleEffect:
    """Effect of one factor within one level of the other, with an error term of its own.

    f, df1, df2, eps, p_gg : one-way repeated-measures ANOVA on items (Greenhouse-Geisser); *_clusters : on
    cluster means. p : cluster sign flip of the sum of squares and its Hotelling-type form combined, the calibrated
    one; p_holm : Holm's over the same kind.
    """

    effect: str  # "accel" or "model"
    within: str  # the other one
    level: str
    f: float
    df1: int
    df2: int
    eps: float
    p_gg: float
    f_clusters: float
    df2_clusters: int
    eps_clusters: float
    p_gg_clusters: float
    p: float
    p_holm: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class InteractionContrast:
    """(model_1 - model_2) x (accel_1 - accel_2): by how much the step between the accels differs."""

    model_1: str
    model_2: str
    accel_1: str
    accel_2: str
    estimate: Estimate
    p_holm: float = math.nan


@dataclass(frozen=True)
class Omnibus:
    """Combined cluster sign-flip test of the interaction contrasts (min-p over three statistics).

    p_holm, p_bh : p adjusted over the benchmarks of the study (Holm; Benjamini & Hochberg), NaN where p is.
    p : of the combination, in (0, 1]; p_sum, p_hotelling (NaN when clusters <= 2 x contrasts), p_max : of
    its parts. exact : every sign pattern was enumerated. reason : why there is no p, or a caution.
    """

    p: float
    p_sum: float
    p_hotelling: float
    p_max: float
    n_clusters: int
    n_items: int
    n_contrasts: int
    n_resamples: int
    exact: bool
    reason: str = ""
    p_holm: float = math.nan
    p_bh: float = math.nan


@dataclass(frozen=True)
class Recovery:
    """Measured item scores of a baseline or accelerated cell against the planted truth.

    slope : least squares of score on truth; r : Pearson; mae : mean |score - truth|; control_* : over items
    whose truth is exactly 0. NaN with too few items.
    """

    model: str
    accel: str
    category: str  # "all" or one category
    n: int
    slope: float
    slope_ci_low: float
    slope_ci_high: float
    r: float
    mae: float
    control_mean: float
    control_mae: float
    n_control: int


@dataclass(frozen=True)
class Coverage:
    """How many items of a cell have an answer in at least one repeat, and what the others did instead.

    share : of all answers asked for (items x repeats) that were given; `valid` holds it to the threshold.
    """

    model: str
    accel: str
    n_items: int
    n_valid: int
    n_refused: int
    n_unparsed: int
    n_too_long: int
    valid: bool
    share: float = math.nan


@dataclass(frozen=True)
class CategoryShift:
    """Shift of one category (or group) of a benchmark in one cell."""

    model: str
    accel: str
    level: str  # "category" or "group"
    name: str
    estimate: Estimate


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything said about one benchmark (under one decoding).

    models, accels : levels of the omnibus and the contrasts; means and shifts hold every cell that is there.
    published : metrics of cell.json, one row a cell and metric: model, accel, metric, value, ci_low, ci_high,
        n, n_clusters, unit, reason.
    floor : of the placebos: "shift" (largest |mean shift|), "item" (a quantile of |item shift|), "flip_rate"
        (largest), "interaction" (largest |difference-in-differences|, with two models); empty without a placebo.
    listwise : the omnibus over complete items only, None where no answer is missing; `omnibus` then has item
        fixed effects over every answer. refusal_omnibus : the same test on refusals, None without any.
    examples : items that flipped most surely; content_warning : the benchmark says that its texts may offend.
    pool : "embedded" or "other"; a benchmark asked of both kinds of model has one result for each.
    """

    name: str
    title: str
    unit: str
    score_kind: str
    direction: str | None
    formula: str
    cluster: str
    models: list[str]
    accels: list[str]  # tested levels, baseline "none" first
    n_items: int  # items with an answer in every tested cell
    n_items_all: int
    n_clusters: int  # of those n_items
    means: list[CellMean]
    shifts: list[Shift]
    differences: list[Difference]
    anova: list[Anova]  # items, then cluster means
    omnibus: Omnibus
    verdict: str  # "interaction", "additive", "undecided" or "cannot be tested"
    sentence: str
    recovery: list[Recovery] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    categories: list[CategoryShift] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)
    floor: dict[str, float] = field(default_factory=dict)
    cautions: list[str] = field(default_factory=list)
    decoding: str = "greedy"
    pool: str = "other"
    simple_effects: list[SimpleEffect] = field(default_factory=list)
    interaction_contrasts: list[InteractionContrast] = field(default_factory=list)
    assumptions: list[Assumption] = field(default_factory=list)
    flips: list[FlipTest] = field(default_factory=list)
    flip_profile: list[FlipBin] = field(default_factory=list)
    flip_groups: list[FlipGroup] = field(default_factory=list)
    predictability: Predictability | None = None
    power: list[Power] = field(default_factory=list)
    equivalence: list[EquivalenceRow] = field(default_factory=list)
    variances: list[Variance] = field(default_factory=list)
    adjusted: list[AdjustedShift] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    refusals: list[RefusalShift] = field(default_factory=list)
    listwise: Omnibus | None = None
    refusal_omnibus: Omnibus | None = None
    scales: Scales | None = None
    aggregates: list[Aggregate] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    content_warning: bool = False


@dataclass(frozen=True)
class Arm:
    """One (model, accel): what was done to the model, and the proof that it acted."""

    model: str
    accel: str
    kind: str  # "baseline", "accelerated", "placebo"
    inert: bool  # largest |change of a logit| exactly 0
    max_logit_change: float
    mean_logit_change: float
    simulated: bool | None
    facts: list[dict[str, Any]]
    weight_bytes: float
    bits_per_weight: float
    sparsity: float
    perplexity: float
    note: str = ""
    # What it costs, measured on fixed work on the machine of its run; NaN where a cell does not say.
    disk_bytes: float = math.nan
    peak_memory_bytes: float = math.nan
    load_s: float = math.nan
    accelerate_s: float = math.nan
    prefill_tokens_per_s: float = math.nan
    decode_tokens_per_s: float = math.nan
    prefill_tokens_per_s_batched: float = math.nan
    decode_tokens_per_s_batched: float = math.nan
    repetition: float = math.nan


@dataclass(frozen=True)
class Missing:
    """A cell that was asked for and is not there: state is "failed", "missing" or "refused".

    decoding : "greedy", "sampled", or "" where it is not on record.
    """

    model: str
    accel: str
    benchmark: str
    state: str
    reason: str
    decoding: str = ""

    @property
    def where(self) -> str:
        """The benchmark, with the decoding where that is another than greedy."""
        return f"{self.benchmark} ({self.decoding})" if self.decoding not in ("", "greedy") else self.benchmark


@dataclass(frozen=True)
class Study:
    """A whole analysis."""

    question: str
    answer: str
    sweep: str
    command: str
    settings: dict[str, Any]
    models: dict[str, str]  # label -> note ("" for none), in order
    accels: list[str]  # every label in order, "none" first
    benchmarks: list[BenchmarkResult]
    arms: list[Arm]
    missing: list[Missing]
    cautions: list[str]
    provenance: dict[str, Any]
    methods: str  # paragraph written from what was run
    transfers: list[Transfer] = field(default_factory=list)
    predictable: str = ""  # sentence: could the shifts have been known without measuring?
    schema_version: int = SCHEMA_VERSION


def to_json(study: Study) -> dict[str, Any]:
    """The study as JSON-able data: NaN and infinities become null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): clean(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v) for v in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    cleaned: dict[str, Any] = clean(asdict(study))
    return cleaned
