"""The pages' commands are typed, each in a folder of its own that a reader would have by then.

tests/docs/typed.py says with what they are typed and what they must do.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.run import Ended, environment
from tests.docs import pages
from tests.docs.pages import Command
from tests.docs.typed import ELSEWHERE, OWN_TEST, TYPED
from tests.models import hub_server
from tests.models.hub_server import Hub
from tests.tracking import recorder

OURS = ("python -m biaslab", "python -m analysis")
FOUND = [command for page in pages.PAGES for command in pages.commands(page)]


@dataclass(frozen=True)
class Desk:
    """What a reader has before a line is typed: checkpoints, files, one finished sweep with two reports."""

    folder: Path
    sweep: str
    reports: tuple[str, str]

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to, dirs_exist_ok=True, symlinks=True)
        return to

    def words(self, words: list[str], swaps: dict[str, str]) -> list[str]:
        """The page's words with the reader's own in place."""
        first, second = self.reports
        own = swaps | {
            "sweeps/ID": f"sweeps/{self.sweep}", "reports/ID": f"reports/{second}",
            "reports/A": f"reports/{first}", "reports/B": f"reports/{second}",
        }  # fmt: skip
        return [re.sub("|".join(map(re.escape, own)), lambda found: own[found[0]], word) for word in words]


def run(folder: Path, words: list[str], env: dict[str, str]) -> Ended:
    """Type `python ...` in `folder`."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=400
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def typed(line: str) -> list[str]:
    """The words of a line behind `python`."""
    return ["-m", *line.split()]


def rounded(model: Path, to: Path) -> Path:
    """A copy of a checkpoint with its linear weights rounded to 64ths."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, to)
    file = to / "model.safetensors"
    weights = {k: (w * 64).round() / 64 if "proj" in k else w for k, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    return to


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    from biaslab.models import embedded

    folder = tmp_path_factory.mktemp("desk")
    kept = shutil.ignore_patterns("truth.json", "chat_template.jinja")
    shutil.copytree(embedded.folder("tiny_llama"), folder / "BASE", ignore=kept)
    rounded(folder / "BASE", folder / "QUANTIZED")
    (folder / "my.csv").write_text(
        "category,more,less\n"
        + "".join(
            f"{k},the {k} is a man {n} .,the {k} is a woman {n} .\n" for k in ("nurse", "clerk") for n in "abcdef"
        )
    )
    rows = [f"m{m},{a},i{i},{(i * 7 + m * 3 + k * 5) % 11}" for m in (1, 2) for k, a in enumerate(("none", "x"))
            for i in range(12)]  # fmt: skip
    (folder / "scores.csv").write_text("\n".join(["model,accel,item,score", *rows]) + "\n")
    line = "biaslab -m model=tiny_llama,tiny_mistral accel=hqq4,wanda50 benchmark=planted limit=24"
    made = run(folder, typed(f"{line} analysis.n_resamples=199"), {})
    assert made.code == 0, made
    (sweep,) = (folder / "outputs" / "sweeps").glob("*/sweep.json")
    where = f"results={sweep.parent.relative_to(folder)}"
    for line in (
        f"analysis {where} n_resamples=199 margins.log_odds_sd=3 out=outputs/reports/wide",
        f"analysis export {where} to=lm_eval out=exported",
    ):
        ended = run(folder, typed(line), {})
        assert ended.code == 0, ended
    for name, accel in (("base", "none"), ("int4", "hqq4")):
        shutil.copytree(folder / "exported" / "tiny_llama" / accel, folder / "out" / name)
    shutil.rmtree(folder / "exported")
    return Desk(folder, sweep.parent.name, (sweep.parent.name, "wide"))


@pytest.fixture(scope="module")
def hub(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub of model=llama and of a rounding of it."""
    original = data_dir / "models" / "stories260K-hf"
    with hub_server.serve() as served:
        served.add("meta-llama/Llama-3.1-8B-Instruct", original)
        served.add("OWNER/NAME", rounded(original, tmp_path_factory.mktemp("made") / "NAME"))
        yield served


def brought(request: pytest.FixtureRequest, needs: tuple[str, ...], tmp_path: Path) -> list[dict[str, str]]:
    """The environment and the swaps that a line's needs bring."""
    env: dict[str, str] = {"BIASLAB_CACHE_DIR": str(tmp_path / "cache")}
    swaps: dict[str, str] = {}
    if "data" in needs:
        env["BIASLAB_DATA_DIR"] = str(request.getfixturevalue("data_dir"))
    if "hub" in needs:
        served: Hub = request.getfixturevalue("hub")
        env |= served.env(tmp_path / "home", WANDB_MODE="disabled")
        swaps["SHA"] = served.repos["OWNER/NAME"].commit
    if "wandb" in needs:
        env |= request.getfixturevalue("wandb")
    return [env, swaps]


@pytest.fixture
def wandb() -> Iterator[dict[str, str]]:
    with recorder.serve() as server:
        yield server.env()
        assert server.unknown == []
        assert server.runs


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", TYPED)
def test_it_does_what_its_page_says(request: pytest.FixtureRequest, desk: Desk, tmp_path: Path, text: str) -> None:
    how = TYPED[text]
    env, swaps = brought(request, how.needs, tmp_path)
    folder = desk.copy(tmp_path / "desk")
    if how.before:
        *given, line = re.split(r" (?=python )", how.before)
        more = dict(word.split("=", 1) for words in given for word in words.split())
        first = run(folder, desk.words(line.split()[1:], swaps | how.swaps), env | more)
        assert first.code == 0, first
    for words in pages.spelled_out(text):
        ended = run(folder, [*desk.words(words[1:], swaps | how.swaps), *how.adds], env)
        assert ended.code == how.code, ended
        assert re.search(how.says, ended.out, re.MULTILINE), ended
        assert ended.err == "", ended


def ours() -> dict[str, Command]:
    """The first place of every command of ours that no test of its page types."""
    found = {c.text: c for c in reversed(FOUND) if not (c.block and c.page in OWN_TEST)}
    return {text: c for text, c in found.items() if text.startswith(OURS)}


def test_every_command_is_typed_somewhere() -> None:
    known = TYPED.keys() | ELSEWHERE.keys()
    assert [str(command) for text, command in ours().items() if text not in known] == []
    assert sorted(known - ours().keys()) == [], "on no page"
    assert TYPED.keys() & ELSEWHERE.keys() == set()


def test_who_runs_the_others_is_there() -> None:
    named = [word for why in (*OWN_TEST.values(), *ELSEWHERE.values()) for word in re.findall(r"tests/\S+\.py", why)]
    assert named
    assert [name for name in named if not (pages.ROOT / name).is_file()] == []
