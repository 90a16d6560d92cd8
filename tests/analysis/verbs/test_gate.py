"""The gate: what it decides, its exit codes, its JSON, and that it never passes what it cannot know."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from analysis.__main__ import main
from analysis.analyse import analyse
from analysis.decision import CANNOT_TELL, FAIL, PASS, Judgement, clusters_to_decide, decided, judge, overall
from analysis.frame import make_frames
from analysis.importers.inputs import Inputs
from analysis.load import load
from analysis.pairing import of_two_folders
from analysis.settings import Settings
from analysis.study import Estimate
from tests.analysis.fake import make_sweep, two_decodings

SMALL: dict[str, Any] = {"accels": ("hqq4", "wanda50"), "n_clusters": 20, "items_per_cluster": 4}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without sweeps: `gate` looks for the newest where it is typed."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def gate(*words: object) -> int:
    return main(["gate", *map(str, words)])


def test_pass_fail_and_cannot_tell_by_the_margin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, **SMALL, shift=0.15, noise=0.2)
    for margin, code, word in ((0.5, 0, "PASS"), (0.02, 4, "FAIL"), (0.15, 5, "CANNOT TELL")):
        assert gate(f"results={sweep}", "candidate=hqq4", f"margin={margin}") == code
        out = capsys.readouterr().out
        assert out.splitlines()[-1].startswith(f"{word}: ")
        assert "tiny_mistral" in out
    assert not (tmp_path / "outputs" / "reports").exists()


def test_it_agrees_with_statsmodels_where_every_item_is_a_cluster(tmp_path: Path) -> None:
    frame = make_frames(load(make_sweep(tmp_path, accels=("hqq4",), n_clusters=60, items_per_cluster=1)).cells)[0]
    base, own = frame.score("tiny_llama", "none"), frame.score("tiny_llama", "hqq4")
    found = judge(frame, "tiny_llama", "hqq4", Settings(), margin=0.2)
    assert found.p_within == pytest.approx(ttost_paired(own, base, -0.2, 0.2)[0], rel=1e-9)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(float((own - base).mean()))


def test_a_candidate_may_be_left_out_or_named_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert gate() == 2
    assert "no sweep below outputs/sweeps" in capsys.readouterr().err
    small = SMALL | {"accels": ("prequantized(path=q)",)}
    sweep = make_sweep(tmp_path, **small, shift=0.15, noise=0.2)
    expected = gate(f"results={sweep}", "candidate=prequantized(path=q)", "margin=0.02")
    table = capsys.readouterr().out
    for words in ([f"results={sweep}"], [f"results={sweep}", "candidate=prequantized"]):
        assert gate(*words, "margin=0.02") == expected == 4
        assert capsys.readouterr().out == table
    assert gate("margin=0.02") == 4  # the newest sweep below outputs/sweeps
    assert f"{sweep.relative_to(tmp_path)} is the newest sweep here" in capsys.readouterr().out


def test_failures_are_holm_adjusted(tmp_path: Path) -> None:
    p = [0.2, 0.012, 0.03, 0.009, math.nan]
    found = [Judgement("b", "u", "m", "c", CANNOT_TELL, "", p_beyond=x) for x in p]
    adjusted = [j.p_beyond for j in decided(found, alpha=0.04)]
    expected = multipletests(p[:4], method="holm")[1]
    assert adjusted[:4] == pytest.approx(expected.tolist())
    assert [j.verdict for j in decided(found, alpha=0.04)] == [CANNOT_TELL, FAIL, CANNOT_TELL, FAIL, CANNOT_TELL]


#: As cell.json has it where one step of a stack did nothing.
IDLE = {
    "max_logit_change": 1.5,
    "mean_logit_change": 0.25,
    "n_prompts": 16,
    "steps": [{"step": "heads", "max_logit_change": 0.0}, {"step": "hqq4", "max_logit_change": 1.5}],
}


def test_the_clusters_that_would_decide() -> None:
    e = Estimate(0.2, 0.02, 0.16, 0.24, 0.0, 900, 101)
    both = (stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) * 0.02  # the textbook's sample size of one bound
    for margin in (0.21, 0.19):  # within it, or beyond it: as far in both
        assert clusters_to_decide(e, margin, 0.05, 0.8) == pytest.approx(101 * (both / 0.01) ** 2, rel=0.01)
    assert clusters_to_decide(e, 0.2, 0.05, 0.8) is None
    assert clusters_to_decide(e, 0.9, 0.05, 0.8) == 102


def test_one_open_cell_is_enough_not_to_pass() -> None:
    passed = Judgement("b", "u", "m", "c", PASS, "")
    assert overall([passed, passed]) == PASS
    assert overall([passed, replace(passed, verdict=CANNOT_TELL)]) == CANNOT_TELL
    assert overall([replace(passed, verdict=FAIL), replace(passed, verdict=CANNOT_TELL)]) == FAIL
    assert overall([]) == CANNOT_TELL


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"inert": ("hqq4",)}, "changed no logit in the active check"),
        (
            {"overrides": {("tiny_llama", "hqq4"): {"active": IDLE}}},
            "heads of the stack moved no logit in the active check: what was measured is the rest of it",
        ),
        ({"missing": 0.4}, "of the answers are there, the threshold is 80%"),
        ({"overrides": {("tiny_llama", "hqq4"): {"efficiency": {"perplexity": 99.0}}}}, "CANNOT TELL"),
        ({"failed": [("tiny_llama", "hqq4")]}, "the cell of hqq4 is failed: RuntimeError"),
        ({"failed": [("tiny_llama", "none")]}, "the cell of none is failed"),
        ({"n_clusters": 1}, "1 cluster: no error can be given"),
        ({"missing": 1.0}, "no item is answered in both"),
    ],
)
def test_what_cannot_be_known_never_passes(
    tmp_path: Path, change: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {("tiny_llama", "none"): {"efficiency": {"perplexity": 12.0}}} | change.pop("overrides", {})
    sweep = make_sweep(tmp_path, **(SMALL | change), shift=0.0, overrides=overrides)
    assert gate(f"results={sweep}", "candidate=hqq4", "models=tiny_llama", "margin=9") == 5
    assert reason in capsys.readouterr().out


def test_two_folders_and_other_names_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_sweep(tmp_path / "1", models=("m",), accels=(), **{k: v for k, v in SMALL.items() if k != "accels"})
    two = make_sweep(tmp_path / "2", models=("m-4bit",), accels=(), seed=0, n_clusters=20, items_per_cluster=4)
    assert gate(f"baseline={one}", f"candidate={two}", "margin=1") == 0
    assert "m-4bit is compared with m" in capsys.readouterr().out
    both = make_sweep(tmp_path / "3", **SMALL)
    assert gate(f"baseline={one}", f"candidate={both}", "margin=1") == 2
    assert "holds hqq4 and wanda50; give a folder with one" in capsys.readouterr().err


def test_items_of_one_side_only_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = [("m", "none", f"i{i}", rng.normal()) for i in range(30)] + [
        ("m", "q", f"i{i}", rng.normal()) for i in range(10, 45)
    ]
    file = tmp_path / "t.csv"
    pd.DataFrame(rows, columns=["model", "accel", "item", "score"]).to_csv(file, index=False)
    assert gate(f"results={file}", "candidate=q", "margin=50", f"json={tmp_path / 'gate.json'}") == 0
    written = json.loads((tmp_path / "gate.json").read_text())
    cell = written["cells"][0]
    assert (written["verdict"], written["exit_code"]) == ("PASS", 0)
    assert (cell["estimate"]["n_items"], cell["only_baseline"], cell["only_candidate"]) == (20, 10, 15)
    capsys.readouterr()


def test_two_accelerators_of_the_newest_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = make_sweep(tmp_path, **SMALL, shift=0.15, noise=0.2)
    code = gate(f"results={sweep}", "candidate=hqq4", "baseline=wanda50")
    expected = capsys.readouterr().out
    assert gate("candidate=hqq4", "baseline=wanda50") == code
    found = capsys.readouterr().out
    assert "is the newest sweep here" in found
    assert found.splitlines()[:4] == expected.splitlines()[:4]
    assert gate("candidate=out/int4", "baseline=out/bse") == 2
    assert "results=out/bse: no such folder" in capsys.readouterr().err
    assert gate("candidate=hqq4", "baseline=wanda") == 2
    assert "baseline=wanda: no cell has it; choose from none, hqq4, wanda50" in capsys.readouterr().err


def test_missing_answers_that_could_decide_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, **SMALL, shift=0.0, noise=0.05, missing=0.05)
    assert gate(f"results={sweep}", "candidate=hqq4", "margin=0.1") == 0
    assert "missing answers at the ends of the scale could take it out" in capsys.readouterr().out
    assert gate(f"results={sweep}", "candidate=hqq4", "margin=9") == 0  # a margin that no answer could leave
    assert "could take it out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RESULTS"], "candidate= is needed: 2 accelerators here (hqq4, wanda50)"),
        (["baseline=a"], "candidate= is needed: a folder beside baseline=FOLDER"),
        (["candidate=hqq4"], "results= is needed, or baseline=FOLDER"),
        (["candidate=hqq3", "RESULTS"], "candidate=hqq3: no cell has it; choose from none, hqq4, wanda50"),
        (["candidate=none", "RESULTS"], "candidate=none: is the baseline itself"),
        (["candidate=hqq4", "RESULTS", "margin=0"], "margin=0: must be above 0"),
        (["candidate=hqq4", "RESULTS", "margin=wide"], "margin=wide: must be a number"),
        (["candidate=hqq4", "RESULTS", "benchmarks=bbq"], "benchmarks=bbq: no cell of it here; choose from planted"),
        (["candidate=hqq4", "RESULTS", "models=gpt"], "models=gpt: has no candidate here; choose from tiny_llama"),
        (["candidate=hqq4", "RESULTS", "margn=1"], "margn: unknown; did you mean margin?"),
        (["candidate=hqq4", "RESULTS", "margin=9", "json=/dev/null/x"], "json=/dev/null/x: cannot be written"),
    ],
)
def test_wrong_requests(tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, **SMALL)
    assert gate(*[w.replace("RESULTS", f"results={sweep}") for w in words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", "--help"]) == 0
    assert "CANNOT TELL (5)" in capsys.readouterr().out
    assert main(["gate"]) == 2


def drop(sweep: Path, *, accel: str, seeds: tuple[int, ...]) -> None:
    """The files of some seeds of an accelerator are lost."""
    for entry in json.loads((sweep / "sweep.json").read_text())["cells"]:
        if entry["accel"] == accel and entry["seed"] in seeds:
            (sweep / "../../results" / entry["path"] / "cell.json").unlink()


def test_a_results_folder_knows_of_no_missing_model_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4",), models=("a",), notes={}, shift=0.0, noise=0.05)
    note = "a model or benchmark that is missing here is not known of"
    assert gate(f"results={tmp_path / 'outputs'}", "margin=1") == 0
    assert note in capsys.readouterr().out
    assert gate(f"results={sweep}", "margin=1") == 0
    assert note not in capsys.readouterr().out


def test_a_lost_seed_is_a_missing_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4",), models=("a",), notes={}, seeds=(0, 1, 2), shift=0.0, noise=0.05)
    assert gate(f"results={sweep}", "margin=1") == 0
    capsys.readouterr()
    drop(sweep, accel="hqq4", seeds=(2,))
    assert gate(f"results={sweep}", "margin=1") == 5
    assert "the cell of hqq4 is missing: its files are gone" in capsys.readouterr().out
    assert gate(f"results={sweep}", "margin=0.000001", "alpha=0.4") in (4, 5)


def test_a_decoding_that_is_missing_is_not_hidden_by_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = two_decodings(tmp_path, sampled_fails=[("a", "none"), ("a", "hqq4")])
    assert gate(f"results={sweep}", "margin=5") == 5
    out = capsys.readouterr().out
    assert [line.split()[:3] for line in out.splitlines()[2:6]] == [
        ["planted", "a", "PASS"], ["planted", "a", "CANNOT"], ["planted", "b", "PASS"], ["planted", "b", "PASS"],
    ]  # fmt: skip
    assert "the cell of none is failed: RuntimeError" in out


def test_every_model_is_judged_on_every_benchmark_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sweep(tmp_path, accels=("hqq4",), models=("a",), benchmarks=("one",), notes={}, shift=0.0)
    make_sweep(tmp_path, accels=("hqq4",), models=("b",), benchmarks=("two",), notes={}, shift=0.0, sweep_id="other")
    words = [f"results={tmp_path / 'outputs' / 'results'}", "margin=5"]
    assert gate(*words) == 0
    capsys.readouterr()
    for more in ((), ("models=a,b",)):
        assert gate(*words, "benchmarks=one", *more) == 5
        assert "no cell of this model was measured on it" in capsys.readouterr().out
    assert gate(*words, "benchmarks=one", "models=a") == 0


def test_the_original_may_be_the_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, **SMALL, shift=0.5, noise=0.05)
    assert gate(f"results={sweep}", "candidate=hqq4", "margin=0.2") == 4
    there = capsys.readouterr().out
    assert gate(f"results={sweep}", "baseline=hqq4", "candidate=none", "margin=0.2") == 4
    back = capsys.readouterr().out
    value = [line.split()[3] for line in there.splitlines()[2:4]]
    assert [line.split()[3] for line in back.splitlines()[2:4]] == [v.replace("+", "-") for v in value]


def test_levels_are_said_as_they_were_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, **SMALL, shift=0.0)
    assert gate(f"results={sweep}", "candidate=hqq4", "margin=5", "alpha=0.001") == 0
    assert "in all 2 cells the 99.8% interval" in capsys.readouterr().out
    text = analyse(sweep, Settings(n_resamples=1999, alpha=0.001)).methods
    assert "99.9% intervals" in text
    assert "its 99.8% interval" in text


def test_its_margin_is_the_reports(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, **SMALL)
    frame = make_frames(load(sweep).cells)[0]
    shift = next(s for s in analyse(sweep, Settings(n_resamples=99)).benchmarks[0].shifts if s.accel == "hqq4")
    assert judge(frame, shift.model, "hqq4", Settings()).margin == shift.margin


def test_a_candidates_own_missing_baseline_and_other_accels_do_not_matter(tmp_path: Path) -> None:
    first = make_sweep(tmp_path / "a", accels=(), models=("m",), notes={})
    second = make_sweep(tmp_path / "b", accels=("hqq4", "wanda50"), models=("m",), notes={}, shift=0.0, noise=0.05,
                        failed=[("m", "none"), ("m", "wanda50")])  # fmt: skip
    assert gate(f"baseline={first}", f"candidate={second}", "margin=5") == 0
    third = make_sweep(tmp_path / "c", accels=("hqq4",), models=("n",), benchmarks=("planted", "other"), notes={},
                       shift=0.0, noise=0.05)  # fmt: skip
    fail(third, benchmark="other", accel="hqq4")
    compared = of_two_folders(first, third, Inputs())
    assert compared.models == ["m"]  # what is missing is under the name that the cells have
    assert gate(f"baseline={first}", f"candidate={third}", "margin=5") == 5


def fail(sweep: Path, *, benchmark: str, accel: str) -> None:
    for entry in json.loads((sweep / "sweep.json").read_text())["cells"]:
        if (entry["benchmark"], entry["accel"]) == (benchmark, accel):
            (sweep / "../../results" / entry["path"] / "cell.json").unlink()
