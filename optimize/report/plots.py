"""The four charts of a report as Vega-Lite specifications: guard-rails, latencies, proposals, and reliability of confidence.

Every specification is made twice, for a wide and for a narrow page: pairs such as `(168, 560)[form]` hold the narrow value first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimize.report import rows
from optimize.report.answers import reliability as bins
from optimize.report.charts import NARROW, TEXT, WIDE, Chart, Spec, Values, chart, number, numbered, rows_axis, rule
from optimize.report.pareto import Frontier
from optimize.report.rails import Rail, rails, worst
from optimize.report.speed import doubts
from optimize.report.terms import terms
from optimize.report.wording import Report

MAX_RAILS = 40
_OUTCOMES = ["pass", "inconclusive", "fail"]
_COLOURS = ["var(--bar)", "var(--amber)", "var(--bar-bad)"]
_SHAPES = ["circle", "triangle-up", "diamond"]
_FORMS = (WIDE, NARROW)
_POINT: Spec = {"type": "point", "filled": True, "size": 64, "opacity": 1}
_CONTENDER = (120, 190)


def forest(report: Report) -> Chart | None:
    """A forest plot: every rail as a point with its bounds and its limit. Of more than `MAX_RAILS`, those nearest to their limits."""
    rails = shown(report)
    # Differences (in points, from 0) and figures themselves (0 to 1) need two axes, so they are two panels.
    sides = [("drop", "rise"), ("floor", "ceiling")]
    titles = ("worse by, percentage points", "measured, as a share")
    parts = [([rail for rail in rails if rail["rule"] in side], title) for side, title in zip(sides, titles, strict=True)]
    # A panel without a rail would be an empty frame.
    parts = [(part, title) for part, title in parts if part]
    if not parts:
        return None
    wide, narrow = ({"vconcat": [_rails(part, title, form) for part, title in parts]} for form in _FORMS)
    return chart("Every guard-rail: the measured value, its bounds and its limit", wide, narrow)


def shown(report: Report) -> list[Rail]:
    """The rails that the chart has room for, in the report's order."""
    measured = [rail for rail in rails(report) if rail["value"] is not None]
    # The worst rail is taken again and again, by index, so that the chosen ones can be shown in the report's order.
    left, kept = list(range(len(measured))), set[int]()
    while left and len(kept) < MAX_RAILS:
        # Up to 40 rounds over some hundred rails take no time that anybody notices.
        first = worst([measured[i] for i in left])
        chosen = next(i for i in left if measured[i] is first)
        kept.add(chosen)
        left.remove(chosen)
    return [measured[i] for i in sorted(kept)]


def _label(rail: Rail) -> str:
    """A rail's label. Its class comes first, since a narrow chart cuts labels off at their end."""
    if rail["name"] is None:
        return str(rail["title"][:1].upper() + rail["title"][1:])
    return f"{rail['column'] + ' ' if rail['column'] else ''}{rail['name']}: {rail['figure']}"


def _rails(part: Sequence[Rail], title: str, form: int) -> Spec:
    changes = part[0]["rule"] in ("drop", "rise")
    labels, scale = [_label(rail) for rail in part], 100 if changes else 1
    values = [
        {"row": label, "outcome": rail["outcome"]}
        | {key: None if rail[key] is None else rail[key] * scale for key in ("value", "low", "high", "limit")}
        for label, rail in zip(numbered(labels), part, strict=True)
    ]
    # The outcome is shown by colour and by shape: about one reader in twelve cannot tell red from green.
    outcome = {"field": "outcome", "type": "nominal", "legend": None}
    colour = outcome | {"scale": {"domain": _OUTCOMES, "range": _COLOURS}}
    shape = outcome | {"scale": {"domain": _OUTCOMES, "range": _SHAPES}}
    y = rows_axis(labels, form)

    def x(field: str) -> Spec:
        # A recall's axis does not begin at 0: 0.91 and 0.93 would be one point on it.
        return number(field, title, zero=changes, nice=True)

    # The line at 0 separates worse from better. Figures such as a recall have no such point.
    layers = [rule(0, x("value"))] if changes else []
    layers += [
        {
            # A rail by points has no bounds, and null would be drawn as 0.
            "transform": [{"filter": "datum.low !== null"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": x("low"), "x2": {"field": "high"}, "y": y, "color": colour},
        },
        {"mark": {"type": "tick", "thickness": 2, "size": 15, "color": "var(--ink)"}, "encoding": {"x": x("limit"), "y": y}},
        {"mark": _POINT, "encoding": {"x": x("value"), "y": y, "color": colour, "shape": shape}},
    ]
    return {"data": {"values": values}, "width": (168, 560)[form], "height": {"step": 23}, "layer": layers}


def latency(report: Report) -> Chart | None:
    """For each batch size: median and p95 of every contender, and how many times faster the artifact is, with its interval."""
    found = {batch: rows.contenders(report, batch) for batch in rows.batches(report)}
    if not found:
        return None
    # On a wide page times and ratios stand side by side and share their labels; on a narrow one, each panel has its own.
    wide = {"vconcat": [{"hconcat": _batch(report, batch, entries, WIDE)} for batch, entries in found.items()]}
    narrow = {"vconcat": [panel for batch, entries in found.items() for panel in _batch(report, batch, entries, NARROW)]}
    return chart("Latency of the artifact and of every baseline, and the ratio between them", wide, narrow)


def _batch(report: Report, batch: str, entries: Sequence[rows.Contender], form: int) -> list[Spec]:
    names = [_contender(report, batch, row) for row in entries]
    values = [
        {"row": label, "p50": row.latency["p50"], "p95": row.latency["p95"], "ours": row.ours}
        | {key: None if row.ratio is None else row.ratio[key] for key in ("value", "low", "high")}
        for label, row in zip(numbered(names), entries, strict=True)
    ]
    colour = {"condition": {"test": "datum.ours", "value": "var(--accent)"}, "value": "var(--bar)"}
    whole: Spec = {"data": {"values": values}, "height": {"step": 23}}
    # `beside` is the axis of the ratios: without labels where the chart of times stands directly to its left.
    y, beside = rows_axis(names, form, _CONTENDER), rows_axis(names, form, _CONTENDER, shown=form == NARROW)
    x = number("p50", "ms for one call, median to p95", zero=True)
    taken = {
        "title": f"Batch {batch}",
        "width": (200, 300)[form],
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": x, "x2": {"field": "p95"}, "y": y, "color": colour}},
            {"mark": _POINT, "encoding": {"x": x, "y": y, "color": colour}},
        ],
    }

    # On a logarithmic axis twice as fast and half as fast are equally far from 1.
    def times(field: str) -> Spec:
        return number(field, "times faster, 95 % interval", type="log", nice=False, padding=8)

    ratios = {
        "title": "" if form == WIDE else f"Batch {batch}, ratio",
        "width": (200, 300)[form],
        "transform": [{"filter": "datum.value !== null"}],
        "layer": [
            rule(1, times("value"), "var(--ink)", (3, 2)),
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": "var(--bar)"},
                "encoding": {"x": times("low"), "x2": {"field": "high"}, "y": beside},
            },
            {"mark": _POINT | {"color": "var(--bar)"}, "encoding": {"x": times("value"), "y": beside}},
        ],
    }
    return [whole | taken] + ([whole | ratios] if any(row.ratio for row in entries) else [])


def _contender(report: Report, batch: str, row: rows.Contender) -> str:
    """A contender's label, with a star where its latency or its ratio is unreliable."""
    # The artifact is doubted for its own median; a baseline, for the ratio to it as well.
    mark = " *" if doubts(report, batch, None if row.ours else row.name) else ""
    return f"{row.name}{', this artifact' if row.ours else ''}{mark}"


def trials(report: Report, frontier: Frontier) -> Chart | None:
    """Accuracy on the guard split against what each proposal costs."""
    if not frontier.trials:
        return None
    # MACs of a small network stay as they are: 4,000 would be 0.004 millions.
    scale = 1 if frontier.timed or max(trial.cost for trial in frontier.trials) < 1e6 else 1e6
    unit = "median at batch 1, ms" if frontier.timed else "multiply–accumulates per case" + (", millions" if scale > 1 else "")
    values = [
        {"cost": t.cost / scale, "gain": t.overall * 100, "size": t.parameters, "label": str(t.number), "kept": t.kept, "best": t.best}
        for t in frontier.trials
    ]
    label = "Every proposal: what it costs and what it reaches; the line joins those that none beats"
    return scatter(values, unit, f"{terms(report).overall}, guard split, %", label)


def scatter(values: Values, cost: str, gain: str, label: str, *, name_all: bool = False) -> Chart | None:
    """A scatter plot of cost and gain, with a line along the frontier.

    Args:
        values: one mapping for each point, with keys `cost`, `gain`, `size` (its area), `label`, `kept` (filled) and `best` (on the line).
        cost: title of the horizontal axis.
        gain: title of the vertical axis.
        label: description of the chart for readers who do not see it.
        name_all: label every point, and not only those on the frontier.
    """
    return chart(label, *(_scatter(values, cost, gain, form, "true" if name_all else "datum.best") for form in _FORMS))


def _scatter(values: Values, cost: str, gain: str, form: int, named: str) -> Spec:
    # Padding keeps the outermost points and their labels inside the frame.
    x, y = (number(field, title, zero=False, nice=True, padding=16) for field, title in (("cost", cost), ("gain", gain)))
    kept = {"condition": {"test": "datum.kept", "value": "var(--accent)"}, "value": "transparent"}
    edge = {"condition": {"test": "datum.kept", "value": "var(--accent)"}, "value": "var(--quiet)"}
    size: Mapping[str, Any] = {"value": 80}
    # The area shows the parameters, but only where every point has a count: a point of size 0 would be invisible.
    if all(value["size"] is not None for value in values):
        size = {"field": "size", "type": "quantitative", "legend": None, "scale": {"type": "linear", "zero": True, "range": [24, 320]}}
    return {
        "data": {"values": list(values)},
        "width": (262, 760)[form],
        "height": (220, 300)[form],
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "transform": [{"filter": "datum.best"}],
                # A step: between two points of the frontier, the cheaper one is the best that its cost can buy.
                "mark": {"type": "line", "interpolate": "step-after", "color": "var(--bar)", "strokeWidth": 1.5, "strokeDash": [4, 3]},
                # Joined from the cheapest on; without an order Vega-Lite joins points as they come, in the order in which they were tried.
                "encoding": {"order": {"field": "cost", "type": "quantitative"}},
            },
            {"mark": {"type": "point", "strokeWidth": 1.5, "opacity": 1}, "encoding": {"fill": kept, "stroke": edge, "size": size}},
            {
                "transform": [{"filter": named}],
                "mark": {"type": "text", "dy": -15, "align": "center"},
                "encoding": {"text": {"field": "label", "type": "nominal"}},
            },
        ],
    }


def reliability(report: Report) -> Chart | None:
    """A reliability diagram of both models: share of right decisions against mean confidence, bin by bin."""
    bins_with_cases = bins(report)
    values = [
        {"confidence": row[part]["confidence"], "accuracy": row[part]["accuracy"], "cases": row[part]["cases"], "part": part}
        for part in ("before", "after")
        for row in bins_with_cases
        # An empty bin has no accuracy, and would be drawn at 0.
        if row[part]["cases"]
    ]
    if not values:
        return None
    return chart("How often answers of a given confidence are right, before and after", *(_reliability(values, form) for form in _FORMS))


def _reliability(values: Values, form: int) -> Spec:
    titles = (("confidence", "mean confidence"), ("accuracy", "share that is right"))
    # Both axes run from 0 to 1 in any case, so that the diagonal is a diagonal.
    x, y = (number(field, title, domain=[0, 1], nice=False) for field, title in titles)
    part = {"field": "part", "type": "nominal", "title": None, "sort": ["before", "after"]}
    legend = {"orient": "top", "labelColor": "var(--ink)", "labelFontSize": TEXT, "symbolSize": 64}
    scale = {"domain": ["before", "after"]}
    colour = part | {"scale": scale | {"range": ["var(--quiet)", "var(--accent)"]}, "legend": legend}
    shape = part | {"scale": scale | {"range": ["square", "circle"]}, "legend": legend}
    return {
        "data": {"values": list(values)},
        "width": (250, 380)[form],
        "height": (230, 300)[form],
        "layer": [
            {
                # The diagonal: a model whose confidence equals its share of right decisions.
                "data": {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]},
                "mark": {"type": "line", "color": "var(--quiet)", "strokeDash": [3, 3], "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {"x": x, "y": y, "color": colour}},
            {"mark": _POINT | {"size": 56}, "encoding": {"x": x, "y": y, "color": colour, "shape": shape}},
        ],
    }
