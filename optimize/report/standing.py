"""The original's own figure, which stands before everything that is compared with it."""

from __future__ import annotations

from collections.abc import Iterator

from optimize.report.rows import find
from optimize.report.wording import Report, count

NAMES = {"accuracy": "accuracy", "dice": "Dice"}


def figure(report: Report) -> str:
    """The original's overall figure in a few words, such as "accuracy 96.20 %"; empty where the report does not know it."""
    name = _name(report)
    value = find(report, "baseline", "metrics", "overall", name)
    value = find(report, "original", "guard") if value is None else value
    return "" if value is None else f"{NAMES[name]} {_percent(value)}"


def original_sentence(report: Report) -> str:
    """One sentence about the original; empty where the report has nothing to say of it."""
    return "; ".join(_parts(report))


def _parts(report: Report) -> Iterator[str]:
    name = _name(report)
    tested, told = find(report, "baseline", "metrics", "overall", name), find(report, "original")
    if tested is None and told is None:
        return
    on_test = [] if tested is None else [f"{_percent(tested)} on the test split"]
    on_guard = [] if told is None else [f"{_percent(told['guard'])} on {count(told['n'])} {told['unit']} of the guard split"]
    yield f"The original reaches {NAMES[name]} {' and '.join([*on_test, *on_guard])}"
    if told is None:
        return
    if told["expected"] is not None:
        yield f"{_percent(told['expected'])} was expected"
    yield f"{told['constant_answer']} reaches {_percent(told['constant'])}"
    if not told["better_than_constant"]:
        yield "it is no better than a constant answer, which was allowed, so the limits protect nothing"


def _name(report: Report) -> str:
    """Of the overall figure, as `metrics` has it."""
    return "dice" if report.get("task") == "segmentation" else "accuracy"


def _percent(share: float) -> str:
    """For a terminal too, with an ordinary space; the page's filter narrows it."""
    return f"{100 * share:.2f} %"
