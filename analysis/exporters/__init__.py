"""Results in the formats of other tools: one exporter a file, each read back by the importer of that format."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError
from analysis.exporters.arms import arms_of
from analysis.staging import staging_of

if TYPE_CHECKING:
    from analysis.load import Loaded

#: A module has write(arms, out), which writes files below `out`.
MODULES = ("every_eval_ever", "lm_eval")


def export(loaded: Loaded, to: str, out: Path) -> list[Path]:
    """Write every cell in the format `to` below the folder `out`; the files.

    Raises AnalysisError for a format that is not there, and for a folder that is not empty or cannot be written.
    """
    if to not in MODULES:
        raise AnalysisError(f"to={to}: choose one of {', '.join(MODULES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AnalysisError(f"out={out}: is there already; name a new folder")
    staging = staging_of(out, "out")
    arms = arms_of(loaded.cells)
    try:
        staging.mkdir(parents=True)
        files: list[Path] = import_module(f"analysis.exporters.{to}").write(arms, staging)
        staging.replace(out)  # an empty folder may be there; whole or not at all
        return [out / file.relative_to(staging) for file in files]
    except OSError as error:
        raise AnalysisError(f"out={out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
