"""Writes the acceptance record of a site as a page: `acceptance.html` of the record that `deploy/acceptance/record.py` makes.

Whatever comes from the bundle or the site (names of classes, subgroups, files, sentences) is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimize.report import change_control, rails, wording
from optimize.report.limit_words import limit_words
from optimize.report.page import RUNTIMES, page

OUTCOMES = {"pass": "Accepted at this site", "fail": "Not accepted at this site", "inconclusive": "Inconclusive at this site"}
_NO_CASES = {
    "pass": "The model computes here what it computed where it was verified",
    "fail": "The model does not compute here what it computed where it was verified",
    "inconclusive": "What the model computes here could not be shown to be what it computed where it was verified",
}
_WITH_CASES = {
    "pass": "The model holds the criteria that were fixed before its run, on the cases of this site",
    "fail": "The model does not hold the criteria that were fixed before its run, on the cases of this site",
    "inconclusive": "The cases of this site do not show whether the model holds the criteria that were fixed before its run",
}
_AGREES = "The model agrees with the original on the cases of this site, within the largest loss that was allowed before its run"
_NOT_ACCEPTED_BEFORE = "The run of this model did not accept it, and what was found at this site does not undo that"
MAX_REASONS = 12
"""Number of reasons at the top of the page; a model with a hundred classes has a hundred."""
SIGNERS = ("Carried out by", "Clinical responsibility", "Technical responsibility (IT or medical physics)", "Released for use by")
"""Who signs a record by hand."""


def render(record: Mapping[str, Any]) -> str:
    """Return the record as one HTML page that needs nothing but itself.

    Args:
        record: a record of format 1.
    """
    bundle, cases = record["bundle"], record["cases"]
    judged = record["judgement"] or {"figures": [], "per_class": [], "not_judged": [], "disagreements": None}
    figures = [_row(figure) for figure in judged["figures"]]
    return page(
        "acceptance.html",
        record=record,
        judged=judged,
        not_judged=_not_judged(record, judged["not_judged"]),
        outcome=OUTCOMES[record["outcome"]],
        sentence=_sentence(record),
        runtime=RUNTIMES.get(bundle["target"], bundle["target"]),
        figures=figures,
        compared=any(row["before"] for row in figures),
        max_reasons=MAX_REASONS,
        per_class=judged["per_class"],
        criteria=_criteria(record),
        machine=[(wording.label(name), wording.fact(name, value)) for name, value in sorted(record["machine"].items())],
        facts=_facts(cases),
        signers=SIGNERS,
    )


def _sentence(record: Mapping[str, Any]) -> str:
    """Return what the outcome means, in one sentence."""
    cases, outcome, judged = record["cases"], record["outcome"], record["judgement"]
    found = record["self_test"]["outcome"] if judged is None else judged["outcome"]
    if outcome == "inconclusive" and found == "pass":
        return f"{_NOT_ACCEPTED_BEFORE}."
    if cases is None or record["self_test"]["outcome"] == "fail":
        return f"{_NO_CASES[outcome]}."
    if outcome == "pass" and not cases["labelled"]:
        return f"{_AGREES}."
    return f"{_WITH_CASES[outcome]}."


def _row(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts of one figure's row."""
    # a ceiling without labels is a bound of a drop, and is read in points as its limit is
    points = figure["rule"] in ("drop", "rise") or "pp" in figure["stated"]
    write = wording.points if points else wording.percent
    value, low, high = (None if figure[name] is None else write(figure[name]) for name in ("value", "low", "high"))
    unit = figure["unit"] if figure["seen"] != 1 else figure["unit"].removesuffix("s")
    before, after = (None if figure[name] is None else rails.level(figure, figure[name]) for name in ("before", "after"))
    return {
        "name": rails.name(figure),
        "scope": figure["scope"],
        "outcome": figure["outcome"],
        "limit": rails.limit(figure),
        "value": value or wording.DASH,
        "bounds": f"{low} to {high}" if low and high else f"up to {high}" if high else wording.DASH,
        "seen": f"{wording.count(figure['seen'])} {unit}",
        "before": before if figure["before"] is not None else None,
        "after": after if figure["before"] is not None else None,
        "method": figure["method"],
        "decides": _decides(figure),
    }


def _decides(figure: Mapping[str, Any]) -> str:
    if figure["outcome"] != "inconclusive":
        return ""
    return "labels would decide" if figure["needed"] is None else f"about {wording.count(figure['needed'])} {figure['unit']} would decide"


def _not_judged(record: Mapping[str, Any], lines: Sequence[str]) -> list[str]:
    """Return why criteria were not judged, with their words in place of their names: "max_drop: …" -> "Drop of overall accuracy: …"."""
    limits = limit_words({"limits": record["criteria"], "task": record["bundle"]["task"]})
    words = {limit.name: limit.criterion[:1].upper() + limit.criterion[1:] for limit in limits}
    parts = (line.partition(": ") for line in lines)
    return [f"{words.get(name, name)}{colon}{why}" for name, colon, why in parts]


def _criteria(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the criteria in words, as the report of the run has them, and how they are decided."""
    limits = record["criteria"]
    words = change_control.fixed({"limits": limits, "task": record["bundle"]["task"]})
    if limits["verdict"] != "statistical":
        return [*words, ("Decided by", "the measured values")]
    return [*words, ("Decided by", f"one-sided bounds at {100 * limits['confidence']:.4g} % confidence")]


def _facts(cases: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return what is known of the cases, as names and texts."""
    if cases is None:
        return []
    rows = [("Cases", wording.count(cases["cases"])), ("Patients", wording.count(cases["patients"]))]
    rows.append(("Labels", "given by the site" if cases["labelled"] else "none"))
    rows += [("Original’s outputs", cases["original"]), ("SHA-256", cases["sha256"])]
    return rows
