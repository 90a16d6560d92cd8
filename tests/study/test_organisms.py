"""The figures of docs/organisms.md: right on results made up with a known answer, and on organisms really trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.load import load
from tests.analysis.fake import make_sweep
from tests.cli.run import biaslab
from tests.study import organisms
from tests.study.organisms import Study, against_parent, of

MODELS = ("llama64-s1", "llama64-s2", "mistral64-s1", "llama64-s1-small", "llama64-s1-cells")
ACCELS = ("hqq4", "hqq8", "kv8", "hqq3", "wanda50", "wanda24", "magnitude50", "placebo_rerun", "placebo_batch",
          "placebo_dtype")  # fmt: skip


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The last model alone reacts to the first accelerator; all others move every model alike."""
    sweep = make_sweep(tmp_path_factory.mktemp("made"), models=MODELS, accels=ACCELS, interaction=0.8, n_clusters=40)
    return Study(load(sweep).cells)


def test_what_was_put_in_is_found_where_it_is_and_nowhere_else(made_up: Study) -> None:
    pairs = {how: against_parent(made_up, how) for how in organisms.UNDONE}
    built = {row[0]: row for row in organisms.built_rows(made_up, pairs)}
    assert built["cells under hqq4"][1] == "1 of 1"
    assert built["cells under hqq4"][2] == "+{0:.2f} to +{0:.2f}".format(
        of(pairs["-cells"]["llama64-s1-cells"], "llama64-s1-cells", "hqq4").estimate.value
    )
    assert built["small under wanda50"][1] == built["small under magnitude50"][1] == "0 of 1"
    for row in organisms.untouched_rows(pairs):
        assert row[1] == "0 of 1", row


def test_the_groups_and_their_intervals(made_up: Study) -> None:
    assert made_up.plain == ["llama64-s1", "llama64-s2", "mistral64-s1"]
    assert made_up.aligned("-cells") == ["llama64-s1-cells"]
    four = [*made_up.plain, "llama64-s1-small"]
    kept = organisms.foretold(made_up, four, four)
    assert kept.n == 4 * 7  # placebos are no prediction
    assert kept.inside >= 23
    surprised = organisms.foretold(made_up, four, ["llama64-s1-cells"], lambda accel: accel == "hqq4")
    assert (surprised.inside, surprised.n) == (0, 1)


def test_every_table_is_written_between_the_marks(made_up: Study, tmp_path: Path) -> None:
    text = organisms.figures(made_up)
    assert "nan" not in text
    assert text.count("\n| --- |") == 7
    seeds = next(line for line in text.splitlines() if line.startswith("| two seeds under hqq8"))
    assert " 0 of 1 " in seeds
    placebo = next(line for line in text.splitlines() if line.startswith("| placebo_rerun"))
    assert placebo.split("|")[2].strip() == "0 of 5"  # made-up placebos carry noise


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_bias_hidden_in_rounding_cells_comes_back_and_is_found(tmp_path: Path) -> None:
    words = [
        "experiment=organisms", "model.organism={family:mistral,width:64,seed:5}", "model.organism.align=none,cells",
        "accel=hqq4,hqq8,placebo_rerun", "analysis=skip",
    ]  # fmt: skip
    done = biaslab(tmp_path, *words, env={"BIASLAB_CACHE_DIR": str(tmp_path / "cache")}, timeout=1700)
    assert done.code == 0, done.err
    study = Study(load(tmp_path / "outputs" / "results").cells)
    result = against_parent(study, "-cells")["mistral64-s5-cells"]
    assert result.verdict == "interaction"
    hidden = of(result, "mistral64-s5-cells", "hqq4")
    assert hidden.estimate.value > 0.2
    assert hidden.estimate.p_adjusted < 0.01
    assert abs(of(result, "mistral64-s5-cells", "hqq8").estimate.value) < hidden.margin
    again = [s.estimate.exact_zero for s in result.shifts if s.accel == "placebo_rerun"]
    assert again == [True, True]
    for row in organisms.recovery_rows(study):
        assert float(row[3]) > 0.6, row  # r between what was planted and what is measured
    assert np.isfinite(hidden.margin)
