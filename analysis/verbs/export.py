"""python -m analysis export: results in the formats of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from analysis.arguments import parse_words
from analysis.errors import AnalysisError
from analysis.exporters import MODULES, export
from analysis.load import load
from analysis.settings import Settings
from analysis.verbs.newest import results_of
from analysis.words import plural

OWN = ("results", "to", "out")
HELP = """\
Results in the formats of other tools, item by item; `python -m analysis results=OUT` reads them back.

  python -m analysis export [results=WHERE] to=FORMAT out=FOLDER

WHERE a sweep's folder, a results folder or a table (default: the newest sweep below outputs/sweeps)
to    every_eval_ever   its schema 0.3.0: data/<benchmark>/<developer>/<model>/<uuid>.json and <uuid>_samples.jsonl
      lm_eval           <model>/<accel>/samples_*.jsonl and results_*.json, as lm-evaluation-harness 0.4 writes them,
                        and runs.csv for labels that no folder can have (imports.runs=OUT/runs.csv)
out   a new folder

What is written is what was asked and answered: prompts are there where the run kept them (record_prompts=true).
Exit codes: 0 done, 2 wrong request.
"""


def main(args: Sequence[str], stream: TextIO) -> int:
    """Export, print how much was written and how it is read; the exit code."""
    request = parse_words(args, OWN)
    for key, words in (("to", ", ".join(MODULES)), ("out", "a folder")):
        if not request.own.get(key):
            raise AnalysisError(f"{key}= is needed: {words}")
    if request.settings != Settings():  # nothing here would heed them
        raise AnalysisError(f"export takes {', '.join(f'{key}=' for key in OWN)}, columns and imports, and no settings")
    results, said = results_of(request.own, needed=" (a sweep's folder or a table)")
    loaded = load(results, request.inputs)
    out = Path(request.own["out"])
    files = export(loaded, request.own["to"], out)
    for line in said:
        print(f"note: {line}", file=stream)
    for missing in loaded.missing:
        print(f"! {missing.model} {missing.accel} {missing.where}: {missing.state}, so not exported", file=stream)
    print(f"{plural(len(loaded.cells), 'cell')}, {plural(len(files), 'file')} in {out}", file=stream)
    runs = f" imports.runs={out / 'runs.csv'}" if (out / "runs.csv").is_file() else ""
    print(f"Read back: python -m analysis results={out}{runs}", file=stream)
    return 0
