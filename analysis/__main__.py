"""python -m analysis results=WHERE: analyse what is there, write the report, print the verdicts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from analysis.arguments import Request, input_keys, parse_words, settings_keys
from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs
from analysis.settings import Settings

if TYPE_CHECKING:
    from analysis.study import Study

VERBS = {
    "gate": "may it ship?",
    "power": "how large must a study be?",
    "recommend": "which accelerator?",
    "show": "any table of a report",
    "diff": "which verdicts differ between two reports?",
    "paper": "the seed paper's tables",
    "export": "in another tool's format",
}
OWN = ("results", "out")
HELP = """\
Does acceleration change bias, and does that depend on the model? Reads results, needs no model.

  python -m analysis results=WHERE [out=FOLDER] [setting=value ...]
  python -m analysis gate [candidate=ACCEL results=WHERE] ... may it ship? exit code 0 yes, 4 no, 5 cannot tell
  python -m analysis power [results=WHERE] [effect=SIZE] ...  how large must a study be, planned from a pilot
  python -m analysis recommend [results=WHERE] ...            accelerators that leave bias as it was, and their cost
  python -m analysis show [TABLE] [report=FOLDER] ...         any table of a report, on the terminal
  python -m analysis diff A B                                 which verdicts differ between two reports or sweeps
  python -m analysis paper [results=WHERE]                    the seed paper's printed figures, and yours beside them
  python -m analysis export to=FORMAT out=NEW [results=WHERE] every_eval_ever or lm_eval, item by item
  python -m analysis VERB --help                              what a verb takes

WHERE    a sweep's folder; a results folder (then every cell in it); a .csv, .tsv or .parquet with columns model,
         accel, item, score; a folder <model>/<accel>/ of lm-evaluation-harness samples_*.jsonl, of Inspect logs,
         or of every_eval_ever *_samples.jsonl
out      where the report goes (default: outputs/reports/ID)

Settings, with their defaults. Choose them before looking at results.
{settings}

How results of other tools are read:
{inputs}

Exit codes: 0 done, 2 the request or a file is wrong, 3 done, but cells are failed or missing.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m analysis`; the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["--version"]:
        print(_version())
        return 0
    verb = args.pop(0) if args and args[0] in VERBS else ""
    try:
        code = _answer(verb, args)
        sys.stdout.flush()  # here, where a reader that is gone is met, not when Python ends
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; nobody is left to tell
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 0


def _answer(verb: str, args: list[str]) -> int:
    try:
        return _verb(verb, args) if verb else _report(args)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the results are as they were", file=sys.stderr)
        return 130


def _version() -> str:
    """The version of the distribution that both packages come in."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("biaslab")
    except PackageNotFoundError:
        return "unknown: run from a folder that is not installed"


def asks_help(args: Sequence[str]) -> bool:
    """Whether help is asked for, in any of its spellings."""
    return bool({"-h", "--help", "help"} & set(args))


def _verb(verb: str, args: list[str]) -> int:
    module = import_module(f"analysis.verbs.{verb}")
    if asks_help(args) or (not args and not getattr(module, "RUNS_ALONE", False)):
        print(module.HELP, end="")
        return 0 if args else 2
    code: int = module.main(args, sys.stdout)
    return code


def _report(args: list[str]) -> int:
    if not args or asks_help(args):
        print(HELP.format(settings=_lines(settings_keys()), inputs=_lines(input_keys())), end="")
        return 0 if args else 2
    request = parse(args)
    results = Path(request.own["results"])
    out = Path(request.own["out"]) if request.own.get("out") else default_out(results)
    study = run(results, out, request.settings, sys.stdout, request.inputs)
    return 3 if study.missing else 0


def _lines(keys: Mapping[str, Any]) -> str:
    return "\n".join(f"  {name}={'' if value is None else value}" for name, value in keys.items())


def run(results: Path, out: Path, settings: Settings, stream: TextIO, inputs: Inputs | None = None) -> Study:
    """Analyse `results`, write the report into `out`, print the verdict table and its path to `stream`.

    inputs : how results of other tools are read.

    Raises AnalysisError in one line when the request or a file is wrong, or `out` cannot be written.
    """
    from analysis.analyse import analyse
    from analysis.report import refuse_other, write_all
    from analysis.report.terminal import coloured, columns, render

    refuse_other(Path(out))  # before the work, not after it
    study = analyse(results, settings, inputs)
    try:
        paths = write_all(study, Path(out))
    except OSError as error:
        raise AnalysisError(f"out={out}: the report cannot be written ({error.strerror or error})") from error
    print(render(study, color=coloured(stream), width=columns(stream)), file=stream)
    print(f"Report: {paths['html']}", file=stream, flush=True)
    return study


def parse(args: Sequence[str]) -> Request:
    """The request of a report from key=value words.

    Raises AnalysisError for a word without "=", an unknown key, a value of the wrong type, or no results.
    """
    request = parse_words(args, OWN)
    if not request.own.get("results"):
        raise AnalysisError("results= is needed: a sweep's folder, a results folder, a table or a folder of logs")
    return request


def default_out(results: Path) -> Path:
    """Beside the sweep or the results folder of biaslab's, as reports/ID or reports/results; of what another tool
    wrote outputs/reports/NAME, where the line is typed. Relative to that folder where it lies in it.
    """
    folder = results.resolve()
    folder = folder.parent if folder.name == "sweep.json" else folder
    if folder.parent.name == "sweeps":
        out = folder.parent.parent / "reports" / folder.name
    elif (folder / "results").is_dir():
        out = folder / "reports" / "results"
    elif folder.is_dir() and folder.name == "results":
        out = folder.parent / "reports" / "results"
    else:
        out = Path.cwd() / "outputs" / "reports" / (folder.name if folder.is_dir() else folder.stem)
    return out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out


if __name__ == "__main__":
    raise SystemExit(main())
