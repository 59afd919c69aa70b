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
        first = "The test cases were looked at for the first time, as far as the record of looks knows"
    # Three endings: no statistics at all; statistics with nothing left to spend; statistics with this look's own confidence.
    if looks["all_looks"] is None:
        return f"{first}. Measured values are compared: where a split is looked at again, the best of several results flatters."
    whole = f"{_percent(looks['all_looks'])} confidence is held over all looks together"
    if looks["confidence"] is None:
        return f"{first}. {whole}, and an earlier look had spent all of it: nothing could pass."
    if looks["fresh"] and number == 1:
        return f"{first}. They were said to be fresh, and this look spent the whole permitted error: no later look at them can pass."
    return f"{first}. {whole}; for this, each bound was taken at {_percent(looks['confidence'])}."


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
