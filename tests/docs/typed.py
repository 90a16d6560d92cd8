"""With what the pages' commands are typed by tests/docs/test_typed.py, and where those are run that are not in here.

Every command of `biaslab` and `analysis` on a page is in one place: in a block of a page whose own test types it, in
TYPED, or in ELSEWHERE.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: page -> the test that types each line of its blocks.
OWN_TEST = {
    "docs/first_run.md": "tests/docs/test_first_run.py",
    "docs/extending.md": "tests/docs/test_extending.py",
    "docs/own_data.md": "tests/cli/test_own_data.py",
    "docs/benchmarks_field.md": "tests/cli/test_field.py",
    "docs/clusters.md": "tests/cluster/test_page.py",
}
#: command -> the file that runs it, or why nothing here can.
ELSEWHERE = {
    "python -m biaslab experiment=quickstart": "make sweep; tests/browser/test_report_browser.py",
    "python -m biaslab": "tests/docs/test_first_run.py",
    "python -m biaslab ...": "stands for any line",
    "python -m biaslab ... dry_run=true": "tests/docs/test_first_run.py",
    "python -m biaslab -m model=tiny_llama,tiny_mistral accel=hqq4,wanda50": "tests/docs/test_first_run.py",
    "python -m biaslab -m model=llama,mistral accel=hqq4,wanda50": "tests/cli/test_mission.py",
    "python -m biaslab -m hydra/launcher=slurm ...": "tests/cluster/test_page.py",
    "python -m biaslab list": "tests/docs/test_first_run.py",
    "python -m biaslab doctor": "tests/test_doctor.py",
    "python -m biaslab dashboard": "tests/tracking/test_dashboard.py",
    "python -m biaslab dashboard print=true": "tests/tracking/test_dashboard.py",
    "python -m biaslab sparseml setup": "make test-sparseml",
    "python -m biaslab data fetch": "tests/benchmarks/test_download.py",
    "python -m biaslab experiment=organisms": "make study; tests/study/test_organisms.py",
    "python -m biaslab experiment=organisms accel=bnb8,bnb4,bnb_fp4,gptq4,awq4,ao_int8,ao_int4": "make study",
    "python -m biaslab experiment=paper": "needs a GPU and days; tests/cli/test_paper.py",
    "python -m biaslab experiment=paper_published": "needs a GPU and days; tests/cli/test_paper.py",
    "python -m biaslab experiment=paper_published prompt.chat=true": "needs a GPU and days",
    "python -m biaslab experiment=paper hydra/launcher=slurm": "needs a cluster of GPUs and days",
    "python -m biaslab experiment=paper model=mistral decoding=greedy": "needs a GPU and a day",
    "python -m biaslab experiment=paper dry_run=true": "tests/cli/test_paper.py",
    "python -m biaslab experiment=paper_tiny": "tests/cli/test_paper.py",
    "python -m analysis paper page=docs/paper_table.md": "tests/analysis/paper/test_page.py",
    "python -m analysis results=": "a part of a line",
    'python -m biaslab accel=custom accel.custom.target=shrink.Shrink "accel.custom.params={factor: 0.8}"': (
        "tests/docs/test_extending.py"
    ),
}


@dataclass(frozen=True)
class Typed:
    """How a line is typed, and what it must do.

    says : a regular expression found in what it prints. adds : words behind it, which keep it short. swaps : the
    reader's words in place of the page's. needs : "data" (the real files), "hub" (one on loopback), "wandb" (a
    recorder). before : a line typed first, perhaps behind NAME=value.
    """

    says: str
    adds: tuple[str, ...] = ()
    swaps: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    before: str = ""
    code: int = 0


FEW = ("limit=12", "analysis.n_resamples=199")
NEW_REPORT = r"Report: outputs/reports/\S+/report\.html"


def sweep(*adds: str, says: str = NEW_REPORT, needs: tuple[str, ...] = (), **swaps: str) -> Typed:
    """A line that computes cells and ends in a report, cut short."""
    return Typed(says, (*FEW, *adds), swaps, needs)


VERSION = r"^\d+\.\d+\.\d+$"
COMPLETE = r"6 of 6|complete"
KEPT = "^2 entries, "
ONE = ("candidate=hqq4",)  # the desk has two
EXPORT = "python -m analysis export results=outputs/sweeps/ID"
READY = "accel=prequantized accel.prequantized.id=OWNER/NAME accel.prequantized.revision=SHA"
CHECKPOINT = "python -m biaslab model=local model.path=BASE accel=prequantized accel.prequantized.path=QUANTIZED"

TYPED: dict[str, Typed] = {
    # Sweeps.
    "python -m biaslab accel=[wanda50,hqq4,kv8]": sweep(says=r"wanda50\+hqq4\+kv8"),
    "python -m biaslab -m accel=none,hqq4,[wanda50,hqq4] benchmark=[crows_pairs,planted]": sweep(needs=("data",)),
    "python -m biaslab model=local model.path=DIR benchmark=crows_pairs": sweep(DIR="BASE", needs=("data",)),
    "python -m biaslab model=hub model.id=OWNER/NAME model.revision=SHA": sweep(needs=("data", "hub")),
    CHECKPOINT: sweep(needs=("data",)),
    f"{CHECKPOINT} benchmark=pairs benchmark.pairs.file=my.csv": sweep(),
    "python -m biaslab benchmark=pairs benchmark.pairs.file=my.csv": sweep(),
    f"python -m biaslab model=llama {READY}": sweep(needs=("data", "hub")),
    "python -m biaslab model=local model.path=ORIGINAL accel=prequantized accel.prequantized.path=DIR": sweep(
        ORIGINAL="BASE", DIR="QUANTIZED", needs=("data",)
    ),
    "python -m biaslab -m accel=hqq4,placebo_batch,placebo_dtype": sweep(says="placebo_dtype"),
    "python -m biaslab -m model=tiny_llama,tiny_mistral accel=kv4": sweep(),
    "python -m biaslab accel=[hqq4,kv4]": sweep(says=r"hqq4\+kv4"),
    "python -m biaslab accel=kv4 accel.kv4.key_axis=channel accel.kv4.group_size=16 accel.kv4.residual=4": sweep(),
    "python -m biaslab model=tiny_llama accel=wanda50": sweep(),
    "python -m biaslab model=tiny_llama accel=sparsegpt50 accel.sparsegpt50.sparsity=0.3": sweep(),
    "python -m biaslab model=tiny_llama accel=wanda24 accel.wanda24.pattern=1:4 accel.wanda24.sparsity=0.75": sweep(),
    "python -m biaslab experiment=paper model=tiny_llama,tiny_mistral limit=20 accel=none,hqq4": sweep(
        "limit=4", needs=("data",)
    ),
    # What is asked before a sweep.
    "python -m biaslab experiment=quickstart dry_run=true": Typed("nothing was computed"),
    "python -m biaslab --version": Typed(VERSION),
    "python -m analysis --version": Typed(VERSION),
    "python -m biaslab --help": Typed("tiny_llama"),
    "python -m analysis --help": Typed("gate"),
    "python -m analysis gate --help": Typed(r"CANNOT TELL \(5\)"),
    "python -m biaslab --cfg job accel=hqq4": Typed("group_size: 64"),
    "python -m biaslab data where": Typed("crows_pairs"),
    "python -m biaslab data fetch|verify|where": Typed("crows_pairs", ("crows_pairs",), needs=("data",)),
    "python -m biaslab data fetch|verify|where [benchmark ...]": Typed("winobias", ("winobias",), needs=("data",)),
    "python -m analysis.report.schema": Typed('"schema_version"'),
    # What is asked after one: the desk has a finished sweep.
    "python -m biaslab status": Typed(COMPLETE),
    "python -m biaslab status watch=10": Typed(COMPLETE),
    "python -m biaslab status [SWEEP] [watch=10]": Typed(COMPLETE),
    "python -m biaslab retry": Typed("nothing to retry"),
    "python -m biaslab retry [SWEEP]": Typed("nothing to retry"),
    "python -m biaslab profile": Typed(r"(?s)total +\d.*share +\d"),
    "python -m biaslab profile [SWEEP]": Typed(r"(?s)total +\d.*share +\d"),
    "python -m biaslab cache list|prune": Typed(KEPT),
    "python -m biaslab cache": Typed(KEPT, ("list",)),
    "python -m biaslab cache list [DIR]": Typed(KEPT),
    "python -m biaslab cache prune [DIR] [gib=5]": Typed(KEPT),
    "python -m biaslab track outputs/sweeps/ID": Typed("W&B: 14 runs sent", needs=("wandb",)),
    "python -m biaslab sync": Typed(
        "W&B: 14 runs sent", needs=("wandb",), before="WANDB_MODE=offline python -m biaslab track outputs/sweeps/ID"
    ),
    "python -m analysis results=outputs/sweeps/ID": Typed(r"(?s)4 accelerated cells.*Report: outputs/reports/"),
    "python -m analysis results=my.csv": Typed("Report: outputs/reports/scores/", swaps={"my.csv": "scores.csv"}),
    "python -m analysis results=NEW": Typed(
        "Report: outputs/reports/NEW/", before=f"{EXPORT} to=every_eval_ever out=NEW"
    ),
    "python -m analysis results=WHERE": Typed("Report: outputs/reports/results/", swaps={"WHERE": "outputs/results"}),
    "python -m analysis gate": Typed("^(PASS|FAIL|CANNOT TELL): ", ONE, code=4),
    "python -m analysis gate results=outputs/sweeps/ID candidate=hqq4": Typed("^FAIL: 1 of 2 cells", code=4),
    "python -m analysis gate margin=0.05": Typed("^FAIL: 1 of 2 cells", ONE, code=4),
    "python -m analysis gate results=outputs/sweeps/ID candidate=prequantized margin=0.05 json=gate.json": Typed(
        "^FAIL: 1 of 2 cells", swaps={"candidate=prequantized": "candidate=hqq4"}, code=4
    ),
    "python -m analysis gate baseline=out/base candidate=out/int4 columns.cluster=FIELD margin=0.1": Typed(
        "^PASS: in 1 cell ", swaps={"FIELD": "cluster"}
    ),
    "python -m analysis show": Typed("^shifts"),
    "python -m analysis show shifts sort=-value": Typed(r"(?s)tiny_mistral +hqq4.*unchanged"),
    "python -m analysis show shifts sort=-value columns=benchmark,model,accel,value,ci_low,ci_high,verdict": Typed(
        r"^benchmark +model +accel +value +ci_low +ci_high +verdict$"
    ),
    'python -m analysis show 01-forest report=outputs/reports/ID rows="llama hqq4"': Typed(
        "^tiny_llama +hqq4 ", swaps={"llama hqq4": "tiny_llama hqq4"}
    ),
    "python -m analysis diff outputs/reports/A outputs/reports/B": Typed("3 of 4 cells in both", code=4),
    "python -m analysis power": Typed("is the newest sweep here"),
    "python -m analysis power effect=0.05": Typed("0.05 log-odds"),
    "python -m analysis recommend": Typed("tiny_llama: consider hqq4", code=4),
    "python -m analysis paper": Typed("x"),
    "python -m analysis paper results=outputs/sweeps/ID csv=cells.csv": Typed("x", code=5),
    f"{EXPORT} to=lm_eval out=NEW": Typed("^6 cells, 13 files in NEW"),
    f"{EXPORT} to=every_eval_ever out=NEW": Typed("^6 cells, 12 files in NEW"),
}
