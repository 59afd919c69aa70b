"""How good the original is. A report says this first, since everything else is compared with the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optimize.report.rows import find
from optimize.report.terms import terms
from optimize.report.wording import Report, count

NAMES = {"accuracy": "accuracy", "dice": "Dice", "balanced_accuracy": "balanced accuracy", "r2": "R²", "recall_at_1": "recall@1"}


def figure(report: Report) -> str:
    """The original's overall figure in a few words, such as "accuracy 96.20 %"; empty where the report does not know it."""
    name = _name(report)
    value = find(report, "baseline", "metrics", "overall", name)
    # A run that ended before the test split was read knows the original only on the guard split.
    value = find(report, "original", "guard") if value is None else value
    return "" if value is None else f"{NAMES[name]} {_percent(value)}"


def original_sentence(report: Report) -> str:
    """One sentence about the original, or two where it is weak; empty where the report has no figure of it. Without a full stop."""
    parts = "; ".join(_parts(report))
    allowed = ". That was allowed, so the limits protect nothing" if find(report, "original", "better_than_constant") is False else ""
    return f"{parts}{allowed}"


def _parts(report: Report) -> Iterator[str]:
    name = _name(report)
    tested, original = find(report, "baseline", "metrics", "overall", name), find(report, "original")
    if tested is None and original is None:
        return
    on_test = [] if tested is None else [f"{_percent(tested)} on the test split"]
    on_guard = []
    if original is not None:
        on_guard = [f"{_percent(original['guard'])} on {count(original['n'])} {original['unit']} of the guard split{_interval(original)}"]
    yield f"The original reaches {NAMES[name]} {' and '.join([*on_test, *on_guard])}"
    # The rest is known from the guard split only, which this report does not hold.
    if original is None:
        return
    if original["expected"] is not None:
        yield f"{_percent(original['expected'])} was expected"
    yield f"{original['constant_answer']} reaches {_percent(original['constant'])}"
    if not original["better_than_constant"]:
        yield "it is no better than a constant answer"


def _interval(original: Mapping[str, Any]) -> str:
    """The 95 % interval in brackets; empty where the figure has none, or the report is of an earlier version."""
    low, high = original.get("low"), original.get("high")
    return "" if low is None or high is None else f" (95 % interval {_percent(low)} to {_percent(high)})"


def _name(report: Report) -> str:
    """Key of the overall figure under `metrics.overall` of the report."""
    return terms(report).overall_key


def _percent(share: float) -> str:
    """0.962 -> '96.20 %', with an ordinary space, which a terminal shows too. The page's filter makes it a narrow one."""
    return f"{100 * share:.2f} %"
