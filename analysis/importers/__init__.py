"""Results of other tools as cells of this analysis: one importer a file, each yields a tidy table."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs

if TYPE_CHECKING:
    from analysis.load import Loaded

#: In the order they are asked; a module has FORMAT, matches(path) and read(path, inputs).
MODULES = ("tidy", "lm_eval", "every_eval_ever", "inspect")


def importable(path: Path) -> bool:
    """Whether some importer takes `path`."""
    return _importer(path) is not None


def import_results(path: Path, inputs: Inputs | None = None) -> Loaded:
    """The results at `path`, whoever wrote them, as cells.

    Raises AnalysisError, in one line, where no importer takes `path` or its importer cannot.
    """
    from analysis.importers.cells import to_loaded

    name = _importer(path)
    if name is None:
        formats = "; ".join(import_module(f"analysis.importers.{name}").FORMAT for name in MODULES)
        raise AnalysisError(f"results={path}: neither results of biaslab nor one of these: {formats}")
    module = import_module(f"analysis.importers.{name}")
    inputs = inputs or Inputs()
    return to_loaded(module.read(path, inputs), path, inputs)


def _importer(path: Path) -> str | None:
    return next((m for m in MODULES if import_module(f"analysis.importers.{m}").matches(path)), None)
