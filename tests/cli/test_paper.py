"""The paper's grid as typed: what it plans, on which data, and small runs of it, by subprocess."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.run import biaslab, environment

SIX = ("crows_pairs", "discrim_eval", "discrim_eval_gen", "dt_stereotyping", "global_opinion_qa", "worldbench")
CONDITIONS = ("none", "bnb8", "bnb4", "awq4", "kv8", "kv4", "wanda50", "wanda24")


def cells(folder: Path) -> dict[tuple[str, str], dict[str, object]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob("cell.json")]
    return {(c["benchmark"]["name"], c["decoding"]["mode"]): c for c in found}


@pytest.mark.data
@pytest.mark.parametrize("experiment", ["paper", "paper_published"])
def test_the_grid_is_planned_on_the_data_there_are_and_says_so(tmp_path: Path, data_dir: Path, experiment: str) -> None:
    env = {"BIASLAB_DATA_DIR": str(data_dir), "BIASLAB_CACHE_DIR": str(tmp_path / "cache")}
    done = biaslab(tmp_path, f"experiment={experiment}", "model=tiny_llama", "limit=20", "dry_run=true", env=env)
    assert done.code == 0, done.err
    # 8 conditions, greedy and sampled; without free text a sampled cell is the greedy one.
    assert "72 cells" in done.out or "refused" in done.out
    suffix = "(variant=published)" if experiment == "paper_published" else ""
    for label in ("discrim_eval-reconstructed", "global_opinion_qa-partial", "worldbench"):
        assert f" {label}{suffix} " in done.out
    assert " discrim_eval " not in done.out
    assert " global_opinion_qa " not in done.out
    conditions = {line.split()[1] for line in done.out.splitlines() if line.startswith("tiny_llama")}
    expected = set(CONDITIONS)
    if experiment == "paper_published":
        expected = (expected - {"bnb4", "kv8", "kv4"}) | {"paper_int4", "paper_kv8", "paper_kv4"}
    assert conditions == expected


@pytest.mark.data
def test_paper_tiny_has_the_papers_shape(tmp_path: Path, data_dir: Path) -> None:
    env = {"BIASLAB_DATA_DIR": str(data_dir), "BIASLAB_CACHE_DIR": str(tmp_path / "cache")}
    done = biaslab(tmp_path, "experiment=paper_tiny", "dry_run=true", env=env)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines() if line.startswith("tiny_")]
    assert len({row[0] for row in rows}) == 3
    assert len({row[1] for row in rows}) == len(CONDITIONS)
    assert len({row[2] for row in rows}) == len(SIX)
    assert len(rows) == 3 * 8 * (6 + 3)  # three of the six are free text, greedy and sampled
    # What is not the published data or not the paper's accelerator does not carry its name.
    assert {"discrim_eval-reconstructed", "global_opinion_qa-partial"} < {row[2] for row in rows}
    assert not {"bnb8", "bnb4", "awq4"} & {row[1] for row in rows}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_paper_tiny_runs_and_is_not_held_to_the_paper(tmp_path: Path, data_dir: Path) -> None:
    words = ("experiment=paper_tiny", "limit=1", "analysis.n_resamples=99")
    done = biaslab(tmp_path, *words, env={"BIASLAB_DATA_DIR": str(data_dir)}, timeout=1700)
    assert done.code == 0, done.err
    assert len(list(tmp_path.rglob("cell.json"))) == 216
    assert len(list((tmp_path / "outputs" / "reports").glob("*/report.html"))) == 1
    code = [sys.executable, "-m", "analysis", "paper", f"results={tmp_path / 'outputs' / 'results'}"]
    beside = subprocess.run(code, capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert beside.returncode == 5, beside
    assert "not compared: 216 cells, another model than the paper's three" in beside.stdout
    assert "3 models x 8 conditions x 6 benchmarks, where the paper has 3 x 8 x 6" in beside.stdout


def test_without_the_files_one_line_says_which_and_where(tmp_path: Path) -> None:
    env = {"BIASLAB_CACHE_DIR": str(tmp_path / "cache")}
    done = biaslab(tmp_path, "benchmark=[discrim_eval]", env=env)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "explicit.jsonl: not here" in done.err
    assert (
        "https://huggingface.co/datasets/Anthropic/discrim-eval/resolve/6986d6ea802e019d01e94dd59597e94fbd8f8c4a"
        in done.err
    )
    assert "by hand" in done.err


@pytest.mark.data
@pytest.mark.slow
def test_both_variants_in_one_sweep_stand_side_by_side(tmp_path: Path, data_dir: Path) -> None:
    done = biaslab(
        tmp_path, "-m", "model=local", f"model.path={data_dir / 'models/tinystories-656k'}", "accel=none", "limit=12",
        "benchmark=[discrim_eval,global_opinion_qa]", "benchmark.discrim_eval.variant=default,published",
        "analysis=skip", env={"BIASLAB_DATA_DIR": str(data_dir)},
    )  # fmt: skip
    assert done.code == 0, done.err
    names = {name for name, _ in cells(tmp_path)}
    assert names == {
        "discrim_eval-reconstructed", "discrim_eval-reconstructed(variant=published)", "global_opinion_qa-partial",
    }  # fmt: skip
    records = {
        name: pd.concat(map(pd.read_parquet, (tmp_path / "outputs/results" / name).rglob("*.parquet")))
        for name in names
    }
    one, other = (records[name] for name in sorted(names)[:2])
    assert one["item"].tolist() == other["item"].tolist()  # so they pair
    content = cells(tmp_path)["discrim_eval-reconstructed", "greedy"]
    assert content["benchmark"]["meta"]["title"].endswith("(not the published data)")  # type: ignore[index]
    metric = content["metrics"]["max_min"]  # type: ignore[index]
    assert metric["value"] is None
    assert "80% of its 135 profiles" in metric["reason"]


@pytest.mark.data
@pytest.mark.slow
def test_formats_subsets_and_five_samples(tmp_path: Path, data_dir: Path) -> None:
    env = {"BIASLAB_DATA_DIR": str(data_dir)}
    done = biaslab(
        tmp_path, "accel=none", "benchmark=[discrim_eval_gen]", "categories=[gender]", "sample=3", "decoding=sampled5",
        "prompt.system=Be brief.", "analysis=skip", env=env,
    )  # fmt: skip
    assert done.code == 0, done.err
    ((name, mode),) = cells(tmp_path)
    assert (name.split("=")[0], mode) == ("discrim_eval_gen+system", "sampled")
    content = cells(tmp_path)[name, mode]
    assert content["decoding"] == {"mode": "sampled", "temperature": 1.0, "top_p": 1.0, "repeats": 5}
    frame = pd.read_parquet(next(tmp_path.rglob("records.parquet")))
    assert len(frame) == 15
    assert frame.groupby("item")["repeat"].apply(list).tolist() == [[0, 1, 2, 3, 4]] * 3
    assert frame["item"].str.startswith("gender-").all()
    assert (content["benchmark"]["categories"], content["benchmark"]["sample"]) == (["gender"], 3)  # type: ignore[index]
    wrong = biaslab(tmp_path, "benchmark=[discrim_eval_gen]", "categories=[sex]", env=env)
    assert (wrong.code, "there are gender, race" in wrong.err) == (2, True)
    both = biaslab(tmp_path, "benchmark=[discrim_eval_gen]", "limit=3", "sample=3", env=env)
    assert (both.code, "choose one" in both.err) == (2, True)


@pytest.mark.data
def test_list_says_which_data_would_be_asked(tmp_path: Path, data_dir: Path) -> None:
    done = biaslab(tmp_path, "list", env={"BIASLAB_DATA_DIR": str(data_dir), "BIASLAB_CACHE_DIR": str(tmp_path)})
    assert "DiscrimEval templates, reconstructed (not the published data)" in done.out
    assert "GlobalOpinionQA, 1803 of 2556 questions in part (not the published data)" in done.out


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories260K-hf", "tinystories-656k"])
def test_text_trained_checkpoints_run_through_all_six(tmp_path: Path, data_dir: Path, name: str) -> None:
    """Their context is short: what does not fit is counted as too long, and no metric is made of the rest."""
    done = biaslab(
        tmp_path, "model=local", f"model.path={data_dir / 'models' / name}", "accel=none", "limit=8", "analysis=skip",
        f"benchmark=[{','.join(SIX)}]", env={"BIASLAB_DATA_DIR": str(data_dir)}, timeout=280,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = cells(tmp_path)
    assert len(found) == 6
    for content in found.values():
        coverage = content["coverage"]
        assert isinstance(coverage, dict)
        parts = sum(coverage[f"n_{part}"] for part in ("valid", "refused", "unparsed", "too_long"))
        assert parts == coverage["n_records"] == 8
    too_long = sum(content["coverage"]["n_too_long"] for content in found.values())  # type: ignore[index]
    assert too_long > 0
