"""The history as lines of text and as one HTML page: every figure over time, with its change points.

The page needs nothing else: no font, picture, style or script from anywhere. Its charts are drawn here as SVG, since they are a line, some
points and some rules, and must also be drawn where the package that draws the report's charts is not installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from optimize.deploy.gate.change_points import Change, change_points
from optimize.deploy.gate.history import Series, label
from optimize.deploy.gate.judged import change_in_words
from optimize.deploy.gate.result import in_words

FOLDER = Path(__file__).parent
STYLE = FOLDER.parent.parent / "report" / "style.css"
WIDTH, HEIGHT = 860.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 16.0, 26.0, 26.0
"""Margins of a chart, for the labels of its axis."""
HEADROOM = 0.15
"""Share of the range of the values that is left free above and below."""
_CELLS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Followed:
    """A series with its changes.

    Args:
        series: the figure over time.
        changes: its change points.
    """

    series: Series
    changes: tuple[Change, ...]

    @property
    def title(self) -> str:
        """The figure, its model and its machine, in words."""
        return f"{self.series.name} of {self.series.candidate}, machine {self.series.machine[:8]}"

    def as_dict(self) -> dict[str, Any]:
        """Return the form of `--json`."""
        one = self.series
        points = [vars(point) for point in one.points]
        changes = [{"at": change.at, "growth": change.growth, "commit": one.points[change.at].commit or None} for change in self.changes]
        facts = {"name": one.name, "unit": one.unit, "candidate": one.candidate, "machine": one.machine}
        return {**facts, "points": points, "changes": changes}


def follow(many: Sequence[Series]) -> list[Followed]:
    """Return every series with its change points.

    Raises:
        InputError: when the package that finds them is not installed.
    """
    return [Followed(one, tuple(change_points(one.values))) for one in many]


def text(many: Sequence[Followed]) -> Iterator[str]:
    """Yield lines: of each series its course in eight heights, and its changes."""
    for one in many:
        values, unit = one.series.values, one.series.unit
        yield f"{one.title}: {len(values)} comparison{'' if len(values) == 1 else 's'}, last {in_words(values[-1], unit)}"
        yield f"  {_course(values)}"
        for change in one.changes:
            point = one.series.points[change.at]
            yield f"  change at {label(point)}: {change_in_words(change.growth, 'growth')}"


def _course(values: Sequence[float], longest: int = 60) -> str:
    """Return the last values as one character each, from the smallest to the largest of them."""
    shown = values[-longest:]
    low, high = min(shown), max(shown)
    return "".join(_CELLS[0 if high == low else round((value - low) / (high - low) * (len(_CELLS) - 1))] for value in shown)


def html(many: Sequence[Followed], source: str) -> str:
    """Return the page.

    Args:
        many: the series with their changes.
        source: name of the file that they come from.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # the style belongs to this package; escaped, it would be no style
    style = Markup(STYLE.read_text(encoding="utf-8"))  # noqa: S704
    charts = [_chart(one) for one in many]
    return environment.get_template("history.html").render(style=style, charts=charts, source=source, width=WIDTH, height=HEIGHT)


def _chart(one: Followed) -> dict[str, Any]:
    """Return what the template draws: coordinates and texts."""
    values, unit, points = one.series.values, one.series.unit, one.series.points
    low, high = min(values), max(values)
    # of a figure that never changed there is no range: a fiftieth of it keeps the line in the middle
    spread = (high - low) or abs(high) / 50 or 1.0
    bottom, top = low - HEADROOM * spread, high + HEADROOM * spread

    def x(position: float) -> float:
        return round(LEFT + position * (WIDTH - LEFT - RIGHT) / max(1, len(values) - 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    edges = [0, *(change.at for change in one.changes), len(values)]
    return {
        "title": one.title,
        "last": in_words(values[-1], unit),
        "count": len(values),
        "ticks": [{"y": y(value), "label": in_words(value, unit)} for value in dict.fromkeys((low, (low + high) / 2, high))],
        "line": " ".join(f"{x(i)},{y(value)}" for i, value in enumerate(values)),
        "points": [
            {"x": x(i), "y": y(point.value), "outcome": point.outcome, "label": f"{label(point)}: {in_words(point.value, unit)}"}
            for i, point in enumerate(points)
        ],
        "segments": [{"x1": x(start), "x2": x(end - 1), "y": y(_middle(values[start:end]))} for start, end in pairwise(edges)],
        "changes": [
            # between the last figure before and the first after
            {
                "x": x(change.at - 0.5),
                "growth": change_in_words(change.growth, "growth"),
                "worse": (change.growth > 0) == (one.series.rule == "growth"),
                "label": label(points[change.at]),
            }
            for change in one.changes
        ],
        "first_label": label(points[0]),
        "last_label": label(points[-1]) if len(points) > 1 else "",
        "axis": {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM},
    }


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
