"""How often the test split was looked at, in words (`optimize.guard.spending` says why that matters). Empty where a report does not say."""

from __future__ import annotations

from typing import Any

from optimize.report.wording import DASH, Report, count, plain


def confidence(report: Report) -> float | None:
    """Confidence of each bound: that of this look at the test split where the report names one, else that of the limits."""
    looks = report.get("looks") or {}
    # Example: limits at 95 %, and a first look that spends four fifths of the 5 %: its bounds have 96 %.
    value: float | None = looks.get("confidence") or report["limits"].get("confidence")
    return value


def sentence(report: Report) -> str:
    """Which look at the test split this was, and the confidence that all looks share; empty where the report does not say."""
    looks = report.get("looks")
    if not looks:
        return ""
    number = looks["number"]
    first = f"This was look {count(number)} at these test cases"
    # The record knows only of looks that were made with it, hence the words at the end.
    if number == 1:
        first = "The record of looks has no earlier look at these test cases"
    # Three endings: no statistics at all; statistics with nothing left to spend; statistics with this look's own confidence.
    if looks["all_looks"] is None:
        return f"{first}. Only measured values are compared, so the best result of several looks is better than the model is."
    whole = f"Every look at the same test cases spends a part of the permitted error of {_percent(1 - looks['all_looks'])}"
    if looks["confidence"] is None:
        return f"{first}. {whole}. An earlier look spent all of it, so no model can pass on these cases."
    if looks["fresh"] and number == 1:
        return f"{first}. {whole}. This look was declared the only one and spends all of it, so no later look at these cases can pass."
    held = f"all looks together have {_percent(looks['all_looks'])} confidence"
    return f"{first}. {whole}. Each bound of this look has {_percent(looks['confidence'])} confidence, so that {held}."


def earlier(report: Report) -> list[tuple[str, str, str]]:
    """The looks before this one: number, date, and verdict."""
    looks: list[dict[str, Any]] = (report.get("looks") or {}).get("earlier") or []
    return [(str(number), look["date"][:10], look["verdict"] or DASH) for number, look in enumerate(looks, start=1)]


def use_of_test(report: Report) -> str:
    """What the test split was used for."""
    looks = report.get("looks")
    return "the verdict" + (f", look {count(looks['number'])}" if looks else ", read once")


def _percent(share: float) -> str:
    return f"{plain(100 * share)} %"
