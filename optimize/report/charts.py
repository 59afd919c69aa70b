"""Draws charts as static SVG, each in a wide and in a narrow form, so that its text keeps its size on a telephone.

`vl-convert-python` draws them from Vega-Lite specifications. Without that package there are no charts, and the tables hold the same
figures. Colours are the page's own variables, so a chart follows the page from light to dark. The same report gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from typing import Any, TypeAlias

Spec: TypeAlias = dict[str, Any]
Values: TypeAlias = Sequence[Mapping[str, Any]]

WIDE, NARROW = 1, 0
TEXT = 12
_CONFIG: Spec = {
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)",
        "titleColor": "var(--quiet)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "gridColor": "var(--rule)",
        "gridOpacity": 0.6,
        "labelFontSize": TEXT,
        "titleFontSize": TEXT,
        "titleFontWeight": 400,
        "labelFlush": False,
    },
    "axisY": {"domain": False, "ticks": False, "labelPadding": 8},
    "title": {"anchor": "start", "color": "var(--ink)", "fontSize": TEXT, "fontWeight": 600, "offset": 10},
    "text": {"color": "var(--ink)", "fontSize": TEXT},
    "concat": {"spacing": 26},
}


@dataclass(frozen=True)
class Chart:
    """One chart.

    Args:
        label: what the chart shows, for readers who do not see it.
        wide: SVG for a page of about 800 pixels and for paper.
        narrow: SVG for about 340 pixels.
    """

    label: str
    wide: str
    narrow: str


def available() -> bool:
    """Whether the library that draws is installed."""
    return find_spec("vl_convert") is not None


def chart(label: str, wide: Spec, narrow: Spec) -> Chart | None:
    """A chart drawn in both forms; None where `vl-convert-python` is not installed."""
    # Sorted keys make equal charts equal texts, so the cache finds a chart that was drawn before.
    return Chart(label, *(_svg(json.dumps(spec, sort_keys=True), label) for spec in (wide, narrow))) if available() else None


@lru_cache(maxsize=128)
def _svg(spec: str, label: str) -> str:
    # Importing the renderer takes a second, so only code that draws imports it.
    import vl_convert

    # The background stays transparent, so that the page's own light or dark colour shows through.
    whole = json.loads(spec) | {"background": None, "padding": 4, "config": _CONFIG}
    svg: str = vl_convert.vegalite_to_svg(whole, vl_version="5.20")
    # The parts of a picture are described by its label and by the table beside it, not one by one.
    svg = re.sub(r' (?:aria-[a-z]+|role|xmlns(?::xlink)?|pointer-events|class)="[^"]*"', "", svg)
    svg = re.sub(r'<path d="[^"]*" display="none"/>|<path d="M0,0h0v0h0Z"/>', "", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def rows_axis(labels: Sequence[str], form: int, limit: tuple[int, int] = (138, 300), *, shown: bool = True) -> Spec:
    """A vertical axis with one line for each label, in the order given.

    Vega-Lite merges rows with equal labels, such as two subgroups "A" of two columns. So each row is called "000 A", "001 A" (see
    `numbered`), and the axis shows the text from the fifth character on.
    """
    # `sort: None` keeps the given order; by default Vega-Lite sorts rows by their text.
    axis = {"labelExpr": "slice(datum.label, 4)", "labelLimit": limit[form], "labelColor": "var(--ink)", "title": None, "grid": False}
    return {"field": "row", "type": "nominal", "sort": None, "scale": {"domain": numbered(labels)}, "axis": axis if shown else None}


def numbered(labels: Sequence[str]) -> list[str]:
    """'000 first', '001 second'."""
    # Three digits, since charts have at most a few dozen rows; the prefix has the fixed length of four that the axis cuts off.
    return [f"{i:03d} {label}" for i, label in enumerate(labels)]


def number(field: str, title: str, **scale: Any) -> Spec:
    """A quantitative channel with few ticks, on a scale of these properties."""
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": {"tickCount": 5, "grid": True}}


def rule(at: float, x: Spec, colour: str = "var(--quiet)", dash: Sequence[int] = ()) -> Spec:
    """A vertical line at one value of a horizontal channel."""
    mark = {"type": "rule", "color": colour, "strokeDash": list(dash)}
    return {"data": {"values": [{x["field"]: at}]}, "mark": mark, "encoding": {"x": x}}
