"""The dashboard's charts as Vega-Lite, over the table that `tables.dashboard_rows` makes.

W&B puts a column's name where a spec says ${field:name}. Sweeps are told apart by rows of the chart, so
that two analyses in one project are never drawn as one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"

#: Okabe and Ito's colours, told apart by colour-blind readers; each cell carries its sign in words too.
VERDICTS = {"changed": "#D55E00", "unchanged": "#009E73", "exactly unchanged": "#009E73", "inconclusive": "#BBBBBB",
            "inert": "#F0E442", "placebo": "#56B4E9", "no verdict": "#DDDDDD", "missing": "#FFFFFF",
            "failed": "#CC79A7", "refused": "#CC79A7"}  # fmt: skip
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#6A4C93")
TIPS = ("model", "accel", "benchmark", "verdict", "shift", "ci_low", "ci_high", "p_adjusted", "unit", "reason", "sweep")


@dataclass(frozen=True)
class Chart:
    """One chart. title : for people; columns : of the table, each under its own name in the spec."""

    key: str
    title: str
    spec: Mapping[str, Any]
    columns: Sequence[str]

    @property
    def name(self) -> str:
        """A changed spec has another name, so that a chart that is there is the one that is meant."""
        digest = hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()[:8]
        return f"biaslab-{self.key}-{digest}"


def charts() -> list[Chart]:
    """Verdicts, shifts with intervals, and bias against perplexity and against memory."""
    return [
        _chart("verdicts", "Verdict of each cell: model by accelerator, a panel per benchmark", _heatmap(), ("label",)),
        _chart(
            "shifts", "Shift by accelerator with its interval, a colour per model, a panel per benchmark", _forest()
        ),
        _cost("perplexity", "perplexity_ratio", "perplexity ratio"),
        _cost("memory", "memory_ratio", "memory ratio"),
    ]


def _chart(key: str, title: str, layers: Mapping[str, Any], columns: Sequence[str] = ()) -> Chart:
    """Panels by sweep and benchmark, drawn from W&B's rows."""
    facet = {"row": {**_nominal("sweep"), "title": None}, "column": {**_nominal("panel"), "title": None}}
    spec = {"$schema": SCHEMA, "data": {"name": "wandb"}, "title": title, "facet": facet, **layers}
    return Chart(key, title, spec, tuple(dict.fromkeys([*TIPS, "panel", *columns])))


def _heatmap() -> dict[str, Any]:
    """A square per cell, coloured by verdict, with sign and shift written in it."""
    place: dict[str, Any] = {
        "x": {**_nominal("accel"), "title": "accelerator"},
        "y": {**_nominal("model"), "title": "model"},
    }
    colour = {
        **_nominal("verdict"),
        "scale": {"domain": list(VERDICTS), "range": list(VERDICTS.values())},
        "legend": {"symbolStrokeColor": "#888888"},
    }
    square = {"mark": {"type": "rect", "stroke": "#888888"}, "encoding": {"color": colour, "tooltip": _tips()}}
    words = {"mark": {"type": "text", "color": "black"}, "encoding": {"text": _nominal("label"), "tooltip": _tips()}}
    return {"spec": {"width": {"step": 84}, "height": {"step": 34}, "encoding": place, "layer": [square, words]}}


def _forest() -> dict[str, Any]:
    """Point and interval of each shift, accelerators one below the other, zero marked."""
    shared = {
        "y": {**_nominal("accel"), "title": "accelerator"},
        "yOffset": _nominal("model"),
        "color": _colour("model"),
    }
    low, high = _quantity("ci_low"), {"field": "${field:ci_high}"}
    title = "shift: this cell minus the same model unaccelerated"
    bar: dict[str, Any] = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {"x": {**low, "title": title}, "x2": high},
    }
    point: dict[str, Any] = {
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {"x": _quantity("shift"), "shape": _nominal("model"), "tooltip": _tips()},
    }
    for layer in (bar, point):
        layer["encoding"] = {**shared, **layer["encoding"]}
    layers = [_zero("x"), bar, point]
    return {"spec": {"width": 260, "height": {"step": 14}, "layer": layers}, "resolve": {"scale": {"x": "independent"}}}


def _cost(key: str, column: str, title: str) -> Chart:
    """Shift with its interval over what the accelerator costs or saves; zero shift and a ratio of one marked.

    Ratios are to the same model without acceleration.
    """
    where = {"x": {**_quantity(column), "title": title, "scale": {"zero": False}}, "color": _colour("accel")}
    low, high = {**_quantity("ci_low"), "title": "shift"}, {"field": "${field:ci_high}"}
    bar = {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**where, "y": low, "y2": high}}
    known = {"y": _quantity("shift"), "shape": _nominal("accel"), "tooltip": [*_tips(), _tip(column)]}
    point = {"mark": {"type": "point", "filled": True, "size": 70}, "encoding": {**where, **known}}
    one = {"mark": {"type": "rule", "color": "#888888", "strokeDash": [4, 4]}, "encoding": {"x": {"datum": 1}}}
    layers = {"spec": {"width": 260, "height": 220, "layer": [_zero("y"), one, bar, point]}}
    return _chart(
        key,
        f"Bias against {key}, as a multiple of the unaccelerated model's",
        layers | {"resolve": {"scale": {"y": "independent"}}},
        (column,),
    )


def _zero(axis: str) -> dict[str, Any]:
    return {"mark": {"type": "rule", "color": "#888888"}, "encoding": {axis: {"datum": 0}}}


def _colour(column: str) -> dict[str, Any]:
    """Points carry a shape too, so that they are distinct in grey."""
    return {**_nominal(column), "scale": {"range": list(SERIES)}}


def _tips() -> list[dict[str, Any]]:
    return [_tip(column) for column in TIPS]


def _tip(column: str) -> dict[str, Any]:
    number = {"type": "quantitative", "format": ".4g"}
    words = {"type": "nominal"}
    numeric = column in ("shift", "ci_low", "ci_high", "p_adjusted") or column.endswith("_ratio")
    return {"field": f"${{field:{column}}}", "title": column, **(number if numeric else words)}


def _nominal(column: str) -> dict[str, Any]:
    return {"field": f"${{field:{column}}}", "type": "nominal"}


def _quantity(column: str) -> dict[str, Any]:
    return {"field": f"${{field:{column}}}", "type": "quantitative"}
