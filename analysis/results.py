"""What a notebook works with: results as data frames, their analysis when first asked for, its figures inline.

    import analysis

    results = analysis.load("outputs/sweeps/ID")
    results.verdicts
    results.interaction("planted")

Everything here is made of what the report is made of, so no figure can differ from the report's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError
from analysis.importers.inputs import Inputs
from analysis.settings import Settings
from analysis.words import plural

if TYPE_CHECKING:
    import pandas as pd

    from analysis.frame import Frame
    from analysis.load import Cell, Loaded
    from analysis.report.figures import Figure
    from analysis.study import BenchmarkResult, Missing, Omnibus, Study

ASKED = (
    "refused",
    "prompt_tokens",
    "sent",
    "prompt",
    "response",
    "detail",
)  # columns of records.parquet that the analysis leaves out
VERDICTS = ("model", "accel", "verdict", "value", "ci_low", "ci_high", "p_adjusted", "margin", "unit", "sentence")
Where = str | Path


def load(
    results: Where | Sequence[Where],
    *words: str,
    settings: Settings | None = None,
    inputs: Inputs | None = None,
    **options: Any,
) -> Results:
    """The results at one place or several, read together: whatever `python -m analysis results=` takes.

    words, options : settings as on that line, "columns.cluster=template", n_resamples=999, accels=["hqq4"].
    settings, inputs : the same as objects, instead of them.

    Raises AnalysisError, in one line, for a place without results, a file that is wrong, an unknown setting, or two
    places that hold one cell with different settings.

    >>> import pandas as pd
    >>> rows = [(m, a, f"i{i}", i % 5 + (a == "int4")) for m in "ab" for a in ("none", "int4") for i in range(20)]
    >>> pd.DataFrame(rows, columns=["model", "accel", "item", "score"]).to_csv("own.csv", index=False)
    >>> results = load("own.csv", "imports.score_kind=log-odds", n_resamples=199)
    >>> results.verdicts[["model", "accel", "verdict", "value"]]
      model accel  verdict  value
    0     a  int4  changed    1.0
    1     b  int4  changed    1.0
    """
    from analysis.arguments import parse_words
    from analysis.importers.cells import refuse_without_baseline
    from analysis.load import load as read

    if words or options:
        if settings is not None or inputs is not None:
            raise AnalysisError("settings: give them as objects or as words and keywords, not as both")
        request = parse_words([*words, *(f"{key}={_text(value)}" for key, value in options.items())], ())
        settings, inputs = request.settings, request.inputs
    places = [results] if isinstance(results, str | Path) else list(results)
    if not places:
        raise AnalysisError("results: give at least one folder or file")
    loaded = []
    for place in places:
        loaded.append(read(Path(place), inputs))
        refuse_without_baseline(loaded[-1], Path(place))
    return Results(_together(loaded), settings or Settings())


def records_of(cell: Cell) -> pd.DataFrame:
    """The checked records of a cell, and the columns beside them that its file has."""
    import pandas as pd
    import pyarrow.parquet as pq

    from analysis.load import read_records

    frame = read_records(cell)
    if cell.records is None:
        path = cell.folder / "records.parquet"
        there = [c for c in ASKED if c in pq.read_schema(path).names]
        frame = pd.concat([frame, pd.read_parquet(path, columns=there, use_threads=False)], axis=1)
    labels = pd.DataFrame({k: [v] * len(frame) for k, v in _labels(cell).items()}, index=frame.index)
    return pd.concat([labels, frame], axis=1)


@dataclass(frozen=True)
class Results:
    """Results that were read, and their analysis.

    loaded : the cells as they were found. settings : of the analysis, which is made when first asked for.
    """

    loaded: Loaded
    settings: Settings

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a complete cell: its labels, whether it is a baseline, a placebo or accelerated, and its folder."""
        import pandas as pd

        rows = [(*_labels(c).values(), c.kind, c.key, str(c.folder)) for c in self.loaded.cells]
        return pd.DataFrame(rows, columns=[*_LABELS, "kind", "key", "folder"])

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row an item and repeat of a cell: its labels, score, outcome, and what was asked and answered.

        `score` is signed: 0 is unbiased, positive the stereotyped direction; NaN where there is no answer.
        """
        import pandas as pd

        return pd.concat([records_of(cell) for cell in self.loaded.cells], ignore_index=True)

    @cached_property
    def frames(self) -> list[Frame]:
        """One frame of paired scores for each benchmark, decoding and kind of model."""
        from analysis.frame import make_frames

        return make_frames(self.loaded.cells)

    def scores(self, benchmark: str) -> pd.DataFrame:
        """(items x (model, accel)) mean scores of one benchmark, NaN where there is no answer."""
        index = self.study.benchmarks.index(self.benchmark(benchmark))
        return self.frames[index].scores

    @cached_property
    def study(self) -> Study:
        """The whole analysis, as the report has it. AnalysisError where the settings are wrong or nothing can be."""
        from analysis.analyse import analyse_loaded

        return analyse_loaded(self.loaded, self.settings)

    @property
    def answer(self) -> str:
        """Does making these models cheaper change their bias, and does that depend on the model? In a sentence."""
        return self.study.answer

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row an accelerated cell: "unchanged", "changed", "inconclusive", ..., its shift and its margin."""
        units = {(b.name, b.decoding, b.pool): b.unit for b in self.study.benchmarks}
        shifts = self.shifts
        shifts["unit"] = [units[tuple(key)] for key in shifts[["benchmark", "decoding", "pool"]].to_numpy().tolist()]
        shifts["sentence"] = [s.sentence for b in self.study.benchmarks for s in b.shifts]
        varying = [c for c in ("decoding", "pool") if shifts[c].nunique() > 1]
        return shifts[["benchmark", *varying, *VERDICTS]]

    @property
    def shifts(self) -> pd.DataFrame:
        """One row an accelerated cell: item-paired mean difference from its own baseline."""
        return self.table("shifts")

    @property
    def differences(self) -> pd.DataFrame:
        """One row a cell: its shift minus the mean shift of the other models under the same accelerator."""
        return self.table("differences")

    @property
    def flips(self) -> pd.DataFrame:
        """One row a cell: items whose answer changed, in each direction."""
        return self.table("flips")

    @property
    def tables(self) -> dict[str, str]:
        """Name and title of every table of the report."""
        return {name: table.title for name, table in self._tables.items()}

    def table(self, name: str) -> pd.DataFrame:
        """A table of the report as a frame; AnalysisError, naming those there are, for another name."""
        import pandas as pd

        if name not in self._tables:
            raise AnalysisError(f"table {name!r}: choose one of {', '.join(self._tables)}")
        found = self._tables[name]
        return pd.DataFrame(found.rows, columns=list(found.columns))

    def benchmark(self, name: str) -> BenchmarkResult:
        """Everything said about one benchmark, by its name or its title; AnalysisError where that is not one."""
        found = [b for b in self.study.benchmarks if name == b.title] or [
            b for b in self.study.benchmarks if name == b.name
        ]
        if len(found) == 1:
            return found[0]
        choices = ", ".join(repr(b.title if found else b.name) for b in found or self.study.benchmarks)
        raise AnalysisError(f"benchmark {name!r}: {'several are called so' if found else 'unknown'}; one of {choices}")

    def interaction(self, benchmark: str) -> Interaction:
        """Does the effect of acceleration depend on the model? The test, its contrasts and its figure."""
        b = self.benchmark(benchmark)
        mine = self.differences
        rows = (mine["benchmark"] == b.name) & (mine["decoding"] == b.decoding) & (mine["pool"] == b.pool)
        shown = [c for c in mine.columns if c not in ("benchmark", "decoding", "pool")]
        place = self.study.benchmarks.index(b) + 1
        return Interaction(b, mine[rows][shown].reset_index(drop=True), self.figures[f"{place:02d}-interaction"])

    @cached_property
    def figures(self) -> Figures:
        """Every figure of the report by name, such as "01-interaction"; each shows itself in a notebook."""
        from analysis.report.figures import all_figures

        return Figures({figure.name: Picture(figure) for figure in all_figures(self.study)})

    def report(self, out: Where) -> Path:
        """Write the whole report into the folder `out`, in the place of an earlier one; the path of its page."""
        from analysis.report import write_all

        return write_all(self.study, Path(out))["html"]

    @cached_property
    def _tables(self) -> Mapping[str, Any]:
        from analysis.report.tables import all_tables

        return {table.name: table for table in all_tables(self.study)}

    def __repr__(self) -> str:
        """How much there is, without any analysis."""
        cells = self.loaded.cells
        names = [list(dict.fromkeys(getattr(c, name) for c in cells)) for name in ("model", "accel", "benchmark")]
        counts = ", ".join(
            f"{len(n)} {word}" for n, word in zip(names, ("models", "accels", "benchmarks"), strict=True)
        )
        missing = f", {len(self.loaded.missing)} missing" if self.loaded.missing else ""
        return _plain(f"<Results of {self.loaded.name}: {plural(len(cells), 'cell')} ({counts}){missing}>")

    def _repr_html_(self) -> str:
        """The answer, and the verdicts; all text escaped."""
        try:
            verdicts = self.verdicts.drop(columns=["sentence", "p_adjusted"])
        except AnalysisError as error:
            return f"<pre>{_html(repr(self))}\n{_html(str(error))}</pre>"
        sentences = "".join(f"<li>{_html(f'{b.title}: {b.verdict}. {b.sentence}')}</li>" for b in self.study.benchmarks)
        missing = "".join(f"<li>! {_html(f'{m.model} {m.accel} {m.where}: {m.state}. {m.reason}')}</li>"
                          for m in self.study.missing)  # fmt: skip
        return f"<p><b>{_html(self.answer)}</b></p>{frame_html(verdicts)}<ul>{missing}{sentences}</ul>"


@dataclass(frozen=True)
class Interaction:
    """The interaction of one benchmark.

    result : all that is said about the benchmark. differences : one row a cell, its difference-in-differences.
    """

    result: BenchmarkResult
    differences: pd.DataFrame
    figure: Picture

    @property
    def verdict(self) -> str:
        """One of "interaction", "additive", "undecided" and "cannot be tested"."""
        return self.result.verdict

    @property
    def omnibus(self) -> Omnibus:
        """The combined cluster sign-flip test that decides it."""
        return self.result.omnibus

    @property
    def p(self) -> float:
        """Of the omnibus, NaN where there is no test."""
        return self.result.omnibus.p

    def __repr__(self) -> str:
        """The verdict in words."""
        return _plain(f"{self.result.title}: {self.verdict}. {self.result.sentence}")

    def _repr_html_(self) -> str:
        """The verdict, its contrasts and its figure; all text escaped."""
        shown = self.differences[["model", "accel", "value", "ci_low", "ci_high", "p_adjusted"]]
        return f"<p><b>{_html(repr(self))}</b></p>{self.figure._repr_html_()}{frame_html(shown)}"


@dataclass(frozen=True)
class Picture:
    """A figure of the report that shows itself; `figure` is the report's own, with its numbers and its text."""

    figure: Figure

    @property
    def numbers(self) -> pd.DataFrame:
        """What is drawn, one row a mark."""
        import pandas as pd

        return pd.DataFrame(self.figure.numbers.rows, columns=list(self.figure.numbers.columns))

    @property
    def svg(self) -> str:
        """A file of its own: everything in it escaped, nothing in it runs."""
        from analysis.report import svg

        return svg.alone(self.figure.trace)

    def draw(self) -> Any:
        """As a matplotlib Figure, to be changed for a paper."""
        from analysis.report import mpl

        return mpl.draw(self.figure.trace)

    def __repr__(self) -> str:
        """Its title, and in words what it shows."""
        return _plain(f"{self.figure.title}. {self.figure.text}")

    def _repr_html_(self) -> str:
        """As an image, so that neither its style nor its text reaches the notebook's page."""
        data = base64.b64encode(self.svg.encode()).decode()
        return f'<img alt="{_html(repr(self))}" src="data:image/svg+xml;base64,{data}">'


class Figures(Mapping[str, Picture]):
    """The figures by name."""

    def __init__(self, pictures: Mapping[str, Picture]) -> None:
        self._pictures = dict(pictures)

    def __getitem__(self, name: str) -> Picture:
        """The figure of that name; AnalysisError, naming those there are, for another one."""
        if name not in self._pictures:
            raise AnalysisError(f"figure {name!r}: choose one of {', '.join(self._pictures)}")
        return self._pictures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __contains__(self, name: object) -> bool:
        return name in self._pictures

    def __repr__(self) -> str:
        """Names and titles."""
        return "\n".join(_plain(f"{name}: {picture.figure.title}") for name, picture in self._pictures.items())

    def _repr_html_(self) -> str:
        """Names and titles, escaped."""
        return f"<pre>{_html(repr(self))}</pre>"


_LABELS = ("model", "accel", "benchmark", "decoding", "seed", "calibration_seed")


def _labels(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in _LABELS}


def _together(loads: Sequence[Loaded]) -> Loaded:
    """Several results as one. A cell that two of them hold is taken once; what one lacks another may have."""
    from analysis.load import refuse_conflicts

    if len(loads) == 1:
        return loads[0]
    cells = list({(c.folder, c.key): c for loaded in loads for c in loaded.cells}.values())
    cells = list({(c.model, c.accel, c.benchmark, c.decoding, c.pool, c.key): c for c in cells}.values())
    refuse_conflicts(cells)
    missing = [m for loaded in loads for m in loaded.missing if not any(_has(o, m) for o in loads if o is not loaded)]
    notes = list(dict.fromkeys(note for loaded in loads for note in loaded.notes))
    names = " + ".join(dict.fromkeys(loaded.name for loaded in loads))
    return replace(loads[0], name=names, command="", cells=cells, missing=missing, ledger={}, notes=notes)


def _has(loaded: Loaded, m: Missing) -> bool:
    return any(
        (c.model, c.accel, c.benchmark) == (m.model, m.accel, m.benchmark) and m.decoding in ("", c.decoding)
        for c in loaded.cells
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(text: str) -> str:
    """Untrusted text for a terminal: what would not print, as its code."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _html(text: str) -> str:
    return escape(_plain(text))


def frame_html(frame: pd.DataFrame) -> str:
    """A table of at most a hundred rows, three digits, all text escaped and printable."""
    shown = frame.map(lambda x: _plain(x) if isinstance(x, str) else x)
    return str(shown.to_html(index=False, max_rows=100, float_format=lambda x: f"{x:+.3g}", escape=True))
