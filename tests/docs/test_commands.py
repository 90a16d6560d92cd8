"""Every command of the pages is one that exists: composed, validated, parsed; what runs here is run (slow).

A line that begins as a command does and is neither understood nor excused below fails.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from analysis.arguments import parse_words
from analysis.errors import AnalysisError
from tests.docs import pages
from tests.docs.pages import Command

#: Words that stand for something of the reader's; put in place before a line is read.
STANDS_FOR = {
    "model=a,b": "model=tiny_llama,tiny_mistral",
    "OWNER/NAME": "owner/name",
}
#: Commands of programs that are not ours, and why they are not tried here.
EXCUSED = {
    "hf auth login": "asks the hub for a token",
    "hf download OWNER/NAME": "fetches a model",
    "wandb sync": "needs an account; tests/tracking makes the same call against a recorder",
    "python -m lm_eval run": "the peer's; run by make perf",
    "pip install inspect-ai": "installed by make test-inspect",
    "pip install optimum-quanto": "an extra of ours too, installed by make test-extras",
}
FOUND = [command for page in pages.PAGES for command in pages.commands(page)]
PROJECT = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def check(text: str) -> None:
    """Raise unless each spelling of the command is one that exists."""
    if text in EXCUSED:
        return
    for given, meant in STANDS_FOR.items():
        text = text.replace(given, meant)
    for words in pages.spelled_out(text):
        if words[:2] in (["python", ".ci/setup.py"], ["python3", ".ci/setup.py"]) or words[0].startswith("tests/"):
            assert (pages.ROOT / words[words[0].startswith("python")]).is_file()
        elif words[0] in ("source", "eval"):
            assert words[1] in (".venv/bin/activate", "$(biaslab -sc install=bash)")
        elif words[:2] == ["python", "-m"]:
            modules = {"biaslab": _biaslab, "analysis": _analysis, "pytest": _pytest, "pip": _pip}
            modules.get(words[2], _module)(words[3:] if words[2] in modules else words[2:])
        else:
            {"pip": _pip, "make": _make, "pytest": _pytest}.get(words[0], _unknown)(words[1:])


def _unknown(words: Sequence[str]) -> None:
    raise AssertionError(
        f"no check knows this command: {' '.join(words)}; teach tests/docs/test_commands.py or excuse it"
    )


def _module(words: Sequence[str]) -> None:
    assert importlib.util.find_spec(words[0]) is not None, words[0]


def _make(words: Sequence[str]) -> None:
    makefile = (pages.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in words if "=" not in word]
    assert targets
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"make {target}: no such target"


def _pytest(words: Sequence[str]) -> None:
    known = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m":
            assert set(re.findall(r"\w+", word)) - {"not", "and", "or"} <= known
        elif not word.startswith("-"):
            assert (pages.ROOT / word.partition("::")[0]).exists(), word


def _pip(words: Sequence[str]) -> None:
    assert words[0] == "install"
    for before, word in pairwise(words):
        if before in ("-c", "-r"):
            assert (pages.ROOT / word).is_file(), word
        elif not word.startswith("-"):
            own = re.fullmatch(r"(?:\.|(\S*\.whl))?\[([a-z,]+)\]|\.", word)
            assert own, f"{word}: not this checkout with extras of pyproject.toml"
            asked = set((own[2] or "").split(",")) - {""}
            assert asked <= set(PROJECT["project"]["optional-dependencies"]), word


def _analysis(words: Sequence[str]) -> None:
    main = importlib.import_module("analysis.__main__")
    if {"-h", "--help", "--version"} & set(words):
        return
    verb = words[0] if words and words[0] in main.VERBS else ""
    own = getattr(importlib.import_module(f"analysis.verbs.{verb}"), "OWN", ()) if verb else main.OWN
    if verb in ("show", "diff"):  # these take names besides settings, and read no setting of the analysis
        return
    parse_words(words[bool(verb) :], own)


def _biaslab(words: Sequence[str]) -> None:
    from biaslab.verbs import VERBS

    if words and words[0] in VERBS:
        _verb(words)
    elif not {"-h", "--help", "--hydra-help", "--version"} & set(words):
        compose(words)


def _verb(words: Sequence[str]) -> None:
    """The second word of verbs that take one; the rest is tried when they run."""
    second = {"data": ("fetch", "verify", "where"), "cache": ("list", "prune"), "sparseml": ("setup", "check")}
    if words[0] in second and len(words) > 1:
        assert words[1] in second[words[0]], words


def compose(words: Sequence[str]) -> None:
    """Read a line as Hydra does and validate the config of each of its jobs."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path, get_args_parser
    from hydra.core.config_search_path import SearchPathElement
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from biaslab import config
    from biaslab.expand import own_part

    args = get_args_parser().parse_args(list(words))
    if args.shell_completion:
        return
    config.register()
    config.register_resolvers()
    path = create_config_search_path(str(config.conf_dir()))
    if args.config_dir:
        place = SearchPathElement("command-line", f"file://{Path(args.config_dir).resolve()}")
        path.get_path().insert(1, place)  # where Hydra puts it: the schemas stay last
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("biaslab", path)
        mode = RunMode.MULTIRUN if args.multirun else hydra.get_mode("config", args.overrides) or RunMode.RUN
        made = hydra.compose_config("config", args.overrides, run_mode=mode, with_log_configuration=False)
        jobs = [own_part(made)] if mode == RunMode.RUN else map(own_part, _sweep(hydra.config_loader, made))
        for job in jobs:
            config.validate(job)
    finally:
        GlobalHydra.instance().clear()


def _sweep(loader: Any, made: Any) -> Iterator[Any]:
    """Of the jobs of a sweep, the first and each that has a word which none before it had."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = [f"{key}={value}" for key, value in (made.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*params, *made.hydra.overrides.task])
    seen: set[str] = set()
    for words in (words for batch in BasicSweeper.split_arguments(parsed, None) for words in batch):
        if not seen.issuperset(words):
            seen.update(words)
            yield loader.load_sweep_config(made, list(words))


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the files that the pages tell their readers to make."""
    made = tmp_path_factory.mktemp("reader")
    for page in pages.PAGES:
        pages.write_files(page, made)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.syspath_prepend(str(made))
        yield made


def test_commands_are_found_on_every_kind_of_page() -> None:
    assert len(FOUND) > 60
    for page, text in [
        ("README.md", "python -m biaslab -m model=tiny_llama,tiny_mistral accel=hqq4,wanda50"),
        ("README.md", "python -m biaslab sparseml setup"),  # between backticks
        ("docs/clusters.md", "tests/cluster/install.sh"),
        ("docs/reliability.md", "python -m biaslab status [SWEEP] [watch=10]"),
    ]:
        assert any((c.page, c.text) == (page, text) for c in FOUND) or text == "tests/cluster/install.sh", (page, text)


@pytest.mark.parametrize("command", FOUND, ids=str)
def test_the_command_exists(command: Command) -> None:
    check(command.text)


@pytest.mark.parametrize(
    "text",
    [
        "python -m biaslab accel=hqq5",
        "python -m biaslab model=tiny_llama,tiny_mistral accel=kv4",  # a sweep without -m
        "python -m biaslab -m accel=hqq4 accel.hqq4.bitz=3,4",
        "python -m biaslab experiment=quickstart dtype=float12",
        "python -m biaslab --multirum model=tiny_llama",
        "python -m biaslab data get",
        "python -m analysis gate results=X candidat=hqq4",
        "python -m tests.nothing",
        "python -m pytest -m fast",
        "pytest tests/gone.py",
        "make sweeps",
        'pip install -e ".[gpus]"',
        "pip install biaslab",
        "wandb sync elsewhere",
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    from biaslab.errors import BiaslabError

    with pytest.raises((Exception, SystemExit)) as raised:
        check(text)
    known = (AssertionError, SystemExit, BiaslabError, AnalysisError)
    assert isinstance(raised.value, known) or type(raised.value).__module__.startswith(("hydra", "omegaconf"))


def test_nothing_is_excused_that_no_page_says() -> None:
    assert set(EXCUSED) - {command.text for command in FOUND} == set()
