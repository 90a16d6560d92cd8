"""A tidy table: csv, tsv or parquet, one row for each item of each model under each accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError
from analysis.importers.inputs import NEEDED, OPTIONAL, Inputs, Table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "a .csv, .tsv or .parquet with columns model, accel, item, score"
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def matches(path: Path) -> bool:
    """Whether `path` is a table."""
    return path.is_file() and path.suffix.lower() in (*SEPARATORS, ".parquet")


def read(path: Path, inputs: Inputs) -> Table:
    """The table at `path`, its columns renamed as inputs.columns maps them.

    Raises AnalysisError for a file that is no table, or a column that is needed or named and not there.
    """
    import pandas as pd

    frame = _read(path)
    names = vars(inputs.columns)
    for column in NEEDED:
        if names[column] not in frame:
            raise AnalysisError(
                f"{path}: no column {names[column]!r} for {column}; its columns are "
                f"{', '.join(map(str, frame.columns))}: say which with columns.{column}=NAME"
            )
    for column in OPTIONAL:
        if names[column] != column and names[column] not in frame:
            raise AnalysisError(f"columns.{column}={names[column]}: {path} has no such column")
    there = {c: frame[names[c]] for c in (*NEEDED, *OPTIONAL) if names[c] in frame}  # one column may stand for two
    return Table(pd.DataFrame(there), formulas={"": f"column {names['score']} of {path.name}"})


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path, use_threads=False)  # Arrow's threads can abort a process that ends early
        # Labels such as "NA" or "none" are labels: only an empty field is empty.
        return pd.read_csv(path, sep=SEPARATORS[path.suffix.lower()], keep_default_na=False, na_values=[""])
    except Exception as error:  # pandas and pyarrow raise many kinds; the line names the file in every case
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AnalysisError(f"{path}: cannot be read as a table ({reason})") from error
