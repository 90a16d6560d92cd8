"""python -m analysis results=FOLDER: analyse what is there, write the report, print the verdicts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from analysis.errors import AnalysisError
from analysis.settings import Settings

if TYPE_CHECKING:
    from analysis.study import Study

HELP = """\
Does acceleration change bias, and does that depend on the model? Reads results, needs no model.

  python -m analysis results=outputs/sweeps/ID [out=FOLDER] [setting=value ...]

results  a sweep's folder, or a results folder (then every cell in it)
out      where the report goes (default: outputs/reports/ID)

Settings, with their defaults. Choose them before looking at results.
{settings}

Exit codes: 0 done, 2 the request or a file is wrong, 3 done, but cells are failed or missing.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m analysis`; the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or {"-h", "--help", "help"} & set(args):
        lines = [f"  {name}={value}" for name, value in _flat(Settings()).items()]
        print(HELP.format(settings="\n".join(lines)), end="")
        return 0 if args else 2
    try:
        results, out, settings = parse(args)
        study = run(results, out or default_out(results), settings, sys.stdout)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the results are as they were", file=sys.stderr)
        return 130
    return 3 if study.missing else 0


def run(results: Path, out: Path, settings: Settings, stream: TextIO) -> Study:
    """Analyse `results`, write the report into `out`, print the verdict table and its path to `stream`.

    Raises AnalysisError in one line when the request or a file is wrong, or `out` cannot be written.
    """
    from analysis.analyse import analyse
    from analysis.report import write_all
    from analysis.report.terminal import render

    study = analyse(results, settings)
    try:
        paths = write_all(study, Path(out))
    except OSError as error:
        raise AnalysisError(f"out={out}: the report cannot be written ({error.strerror or error})") from error
    color = stream.isatty() and "NO_COLOR" not in os.environ
    print(render(study, color=color), file=stream)
    print(f"Report: {paths['html']}", file=stream, flush=True)
    return study


def parse(args: Sequence[str]) -> tuple[Path, Path | None, Settings]:
    """Folder of results, folder of the report (None for the default) and settings from key=value words.

    Raises AnalysisError for a word without "=", an unknown key, a value of the wrong type, or no results.
    """
    values = {}
    for word in args:
        key, equals, value = word.partition("=")
        if not equals:
            raise AnalysisError(f"{word!r}: write key=value, such as results=outputs/sweeps/ID; see --help")
        values[key] = value
    results, out = values.pop("results", ""), values.pop("out", "")
    settings = _settings(values)
    if not results:
        raise AnalysisError("results= is needed: a sweep's folder or a results folder")
    return Path(results), Path(out) if out else None, settings


def default_out(results: Path) -> Path:
    """outputs/reports/ID for outputs/sweeps/ID, outputs/reports/results for a results folder."""
    folder = results.resolve()
    folder = folder.parent if folder.name == "sweep.json" else folder
    if folder.parent.name == "sweeps":
        return folder.parent.parent / "reports" / folder.name
    if (folder / "results").is_dir():
        return folder / "reports" / "results"
    return folder.parent / "reports" / folder.name


def _settings(values: dict[str, str]) -> Settings:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = _flat(Settings())
    for key in values:
        if key not in known and not key.startswith("margins.by_benchmark."):
            raise AnalysisError(f"{key}: unknown; choose from results, out, {', '.join(known)}")
    settings = OmegaConf.structured(Settings)
    for key, value in values.items():
        try:
            settings = OmegaConf.merge(settings, OmegaConf.from_dotlist([f"{key}={value}"]))
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise AnalysisError(f"{key}={value}: {reason}") from error
    merged = OmegaConf.to_object(settings)
    assert isinstance(merged, Settings)
    return merged


def _flat(settings: Settings) -> dict[str, object]:
    from dataclasses import asdict

    out: dict[str, object] = {}
    for name, value in asdict(settings).items():
        if name == "skip":  # for biaslab: at the end of a run
            continue
        if isinstance(value, dict):
            out |= {f"{name}.{k}": v for k, v in value.items()}
        else:
            out[name] = value
    return out


if __name__ == "__main__":
    raise SystemExit(main())
