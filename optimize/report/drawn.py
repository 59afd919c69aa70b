"""What the charts of a report show: its guard-rails, latencies, trials and confidence, as Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimize.report import rows
from optimize.report.answers import reliability as bins
from optimize.report.charts import NARROW, WIDE, Chart, Spec, Values, chart, number, numbered, rows_axis, rule
from optimize.report.pareto import Frontier
from optimize.report.rails import Rail, name, rails, worst
from optimize.report.terms import terms
from optimize.report.wording import Report

MOST_RAILS = 40
_OUTCOMES = ["pass", "inconclusive", "fail"]
_COLOURS = ["var(--bar)", "var(--amber)", "var(--bar-bad)"]
_SHAPES = ["circle", "triangle-up", "diamond"]
_FORMS = (WIDE, NARROW)


def forest(report: Report) -> Chart | None:
    """Every rail as a point with its bounds beside its limit; of very many those that decide."""
    found = shown(report)
    sides = [("drop", "rise"), ("floor", "ceiling")]
    titles = ("worse by, percentage points", "measured, %")
    parts = [([rail for rail in found if rail["rule"] in side], title) for side, title in zip(sides, titles, strict=True)]
    parts = [(part, title) for part, title in parts if part]
    if not parts:
        return None
    wide, narrow = ({"vconcat": [_rails(part, title, form) for part, title in parts]} for form in _FORMS)
    return chart("Every guard-rail: the measured value, its bounds and its limit", wide, narrow)


def shown(report: Report) -> list[Rail]:
    """The rails that the chart has room for, in the report's order."""
    found = [rail for rail in rails(report) if rail["value"] is not None]
    left, kept = list(range(len(found))), set[int]()
    while left and len(kept) < MOST_RAILS:
        first = worst([found[i] for i in left])
        chosen = next(i for i in left if found[i] is first)
        kept.add(chosen)
        left.remove(chosen)
    return [found[i] for i in sorted(kept)]


def _rails(part: Sequence[Rail], title: str, form: int) -> Spec:
    labels = numbered([name(rail) for rail in part])
    values = [
        {"row": label, "outcome": rail["outcome"]} | {key: None if rail[key] is None else rail[key] * 100 for key in ("value", "low", "high", "limit")}
        for label, rail in zip(labels, part, strict=True)
    ]
    y = rows_axis([name(rail) for rail in part], form)
    free = {"zero": part[0]["rule"] in ("drop", "rise"), "nice": True}
    outcome = {"field": "outcome", "type": "nominal", "legend": None}
    colour = outcome | {"scale": {"domain": _OUTCOMES, "range": _COLOURS}}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.low !== null"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": number("low", title, scale=free), "x2": {"field": "high"}, "color": colour},
        },
        {"mark": {"type": "tick", "thickness": 2, "size": 15, "color": "var(--ink)"}, "encoding": {"x": number("limit", title, scale=free)}},
        {
            "mark": {"type": "point", "filled": True, "size": 64, "opacity": 1},
            "encoding": {
                "x": number("value", title, scale=free),
                "color": colour,
                "shape": outcome | {"scale": {"domain": _OUTCOMES, "range": _SHAPES}},
            },
        },
    ]
    if free["zero"]:
        layers.insert(0, rule(0))
    return {"data": {"values": values}, "width": (168, 440)[form], "height": {"step": 23}, "encoding": {"y": y}, "layer": layers}


def latency(report: Report) -> Chart | None:
    """Median and spread of every contender, and how many times faster the artifact is, with its interval; for each batch size."""
    found = {batch: rows.contenders(report, batch) for batch in rows.batches(report)}
    if not found:
        return None
    wide = {"vconcat": [{"hconcat": _batch(batch, entries, WIDE)} for batch, entries in found.items()]}
    narrow = {"vconcat": [panel for batch, entries in found.items() for panel in _batch(batch, entries, NARROW)]}
    return chart("Latency of the artifact and of every baseline, and the ratio between them", wide, narrow)


def _batch(batch: str, entries: Sequence[rows.Contender], form: int) -> list[Spec]:
    names = [row.name for row in entries]
    values = [
        {"row": label, "p50": row.latency["p50"], "p95": row.latency["p95"], "ours": row.ours}
        | {key: None if row.ratio is None else row.ratio[key] for key in ("value", "low", "high")}
        for label, row in zip(numbered(names), entries, strict=True)
    ]
    colour = {"condition": {"test": "datum.ours", "value": "var(--accent)"}, "value": "var(--bar)"}
    whole: Spec = {"data": {"values": values}, "height": {"step": 23}}
    taken = {
        "title": f"Batch {batch}",
        "width": (190, 260)[form],
        "encoding": {"y": rows_axis(names, form, (120, 190))},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": number("p50", "ms for one call, median to p95", scale={"zero": True}), "x2": {"field": "p95"}, "color": colour},
            },
            {"mark": {"type": "point", "filled": True, "size": 64, "opacity": 1}, "encoding": {"x": number("p50", None), "color": colour}},
        ],
    }
    log = {"type": "log", "nice": False}
    ratios = {
        "title": "" if form == WIDE else f"Batch {batch}, the artifact is faster by",
        "width": (190, 200)[form],
        "transform": [{"filter": "datum.value !== null"}],
        "encoding": {"y": rows_axis(names, form, (120, 190), shown=form == NARROW)},
        "layer": [
            rule(1, "var(--ink)", (3, 2)),
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": "var(--bar)"},
                "encoding": {"x": number("low", "times faster, 95 % interval", scale=log), "x2": {"field": "high"}},
            },
            {"mark": {"type": "point", "filled": True, "size": 64, "opacity": 1, "color": "var(--bar)"}, "encoding": {"x": number("value", None)}},
        ],
    }
    return [whole | taken] + ([whole | ratios] if any(row.ratio for row in entries) else [])


def trials(report: Report, found: Frontier) -> Chart | None:
    """Accuracy on the guard split against what each proposal costs."""
    if not found.trials:
        return None
    scale = 1 if found.timed or max(trial.cost for trial in found.trials) < 1e6 else 1e6
    unit = "median at batch 1, ms" if found.timed else "multiply–accumulates per case" + (", millions" if scale > 1 else "")
    values = [
        {"cost": t.cost / scale, "gain": t.overall * 100, "size": t.parameters, "label": str(t.number), "kept": t.kept, "best": t.best}
        for t in found.trials
    ]
    words = terms(report).overall
    return scatter(values, unit, f"{words}, guard split, %", "Every proposal: what it costs and what it reaches; the line joins those that none beats")


def scatter(values: Values, cost: str, gain: str, label: str) -> Chart | None:
    """Points with `cost`, `gain`, `size`, `label`, `kept` and `best`; a line joins the best, cheapest first."""
    return chart(label, *(_scatter(values, cost, gain, form) for form in _FORMS))


def _scatter(values: Values, cost: str, gain: str, form: int) -> Spec:
    free = {"zero": False, "nice": True, "padding": 14}
    x, y = number("cost", cost, scale=free), number("gain", gain, scale=free)
    kept = {"condition": {"test": "datum.kept", "value": "var(--accent)"}, "value": "transparent"}
    edge = {"condition": {"test": "datum.kept", "value": "var(--accent)"}, "value": "var(--quiet)"}
    size: Mapping[str, Any] = {"value": 80}
    if all(value["size"] is not None for value in values):
        size = {"field": "size", "type": "quantitative", "legend": None, "scale": {"type": "linear", "zero": True, "range": [24, 320]}}
    return {
        "data": {"values": list(values)},
        "width": (262, 600)[form],
        "height": (220, 300)[form],
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "transform": [{"filter": "datum.best"}],
                "mark": {"type": "line", "interpolate": "step-after", "color": "var(--bar)", "strokeWidth": 1.5, "strokeDash": [4, 3]},
                "encoding": {"order": {"field": "cost", "type": "quantitative"}},
            },
            {"mark": {"type": "point", "strokeWidth": 1.5, "opacity": 1}, "encoding": {"fill": kept, "stroke": edge, "size": size}},
            {
                "transform": [{"filter": "datum.best"}],
                "mark": {"type": "text", "dy": -15, "align": "center"},
                "encoding": {"text": {"field": "label", "type": "nominal"}},
            },
        ],
    }


def reliability(report: Report) -> Chart | None:
    """Share that is right against confidence, before and after."""
    found = bins(report)
    values = [
        {"confidence": row[part]["confidence"], "accuracy": row[part]["accuracy"], "cases": row[part]["cases"], "part": part}
        for part in ("before", "after")
        for row in found
        if row[part]["cases"]
    ]
    return chart("How often answers of a given confidence are right, before and after", *(_reliability(values, form) for form in _FORMS)) if values else None


def _reliability(values: Values, form: int) -> Spec:
    unit = {"domain": [0, 1], "nice": False}
    x, y = number("confidence", "mean confidence", scale=unit), number("accuracy", "share that is right", scale=unit)
    part = {"field": "part", "type": "nominal", "title": None, "sort": ["before", "after"]}
    legend = {"orient": "top", "labelColor": "var(--ink)", "labelFontSize": _LEGEND, "symbolSize": 64}
    scale = {"domain": ["before", "after"]}
    colour = part | {"scale": scale | {"range": ["var(--quiet)", "var(--accent)"]}, "legend": legend}
    shape = part | {"scale": scale | {"range": ["square", "circle"]}, "legend": legend}
    return {
        "data": {"values": list(values)},
        "width": (250, 380)[form],
        "height": (230, 300)[form],
        "layer": [
            {
                "data": {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]},
                "mark": {"type": "line", "color": "var(--quiet)", "strokeDash": [3, 3], "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": {"x": x, "y": y, "color": colour}},
            {"mark": {"type": "point", "filled": True, "opacity": 1, "size": 56}, "encoding": {"x": x, "y": y, "color": colour, "shape": shape}},
        ],
    }


_LEGEND = 12
