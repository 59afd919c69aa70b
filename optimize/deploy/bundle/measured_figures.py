"""The figures that a run measured on the test split: of all cases, of each class, of each subgroup; with intervals where they are known.

A figure of the artifact has an exact interval where it is a share of independent cases: accuracy and recall (Clopper and Pearson 1934, 95 %
two-sided). Other figures have none in the report. A drop against the original has the bounds by which the run was judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optimize.guard.exact import clopper_pearson
from optimize.report.rows import class_names, find

CONFIDENCE = 0.95
"""Of the two-sided intervals of a share."""
_SHARES = ("accuracy", "recall")
_COUNTS = ("cases", "patients")


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        name: name of the figure, such as "recall".
        slice: cases that it is taken over, such as "class basophil"; "" for all test cases.
        value: its value, as a fraction; None where it could not be measured.
        low: lower end of its interval; None where it is not known.
        high: upper end of its interval; None where it is not known.
        n: number of cases or patients that it is taken over; None where the report does not say.
        before: value for the original; None where it does not apply.
    """

    name: str
    slice: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    before: float | None = None


def figures(report: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of the artifact: overall, then of each class in label order, then of each subgroup."""
    return [] if not report["compressed"] else [*_overall(report), *_classes(report), *_groups(report)]


def drops(report: Mapping[str, Any]) -> list[Figure]:
    """Return what each guard-rail compared with its limit, with its bounds; one for each rail, in the report's order."""
    found = []
    for rail in report["rails"] or ():
        name = f"{rail['rule']} of {rail['figure']}" if rail["rule"] in ("drop", "rise") else str(rail["figure"])
        place = {"overall": "", "class": f"class {rail['name']}", "group": f"{rail['column']} {rail['name']}"}[rail["scope"]]
        found.append(Figure(name, place, rail["value"], rail["low"], rail["high"], rail["seen"], rail["before"]))
    return found


def _overall(report: Mapping[str, Any]) -> Iterator[Figure]:
    test = find(report, "data", "test") or {}
    for name, value in sorted((find(report, "compressed", "metrics", "overall") or {}).items()):
        yield _figure(report, name, "", value, test.get("cases"), find(report, "baseline", "metrics", "overall", name))


def _classes(report: Mapping[str, Any]) -> Iterator[Figure]:
    for label in class_names(report):
        measured = find(report, "compressed", "metrics", "per_class", label) or {}
        yield from _parts(report, measured, f"class {label}", ("per_class", label))


def _groups(report: Mapping[str, Any]) -> Iterator[Figure]:
    for column, values in sorted((find(report, "compressed", "metrics", "per_group") or {}).items()):
        for value, measured in sorted(values.items()):
            yield from _parts(report, measured, f"{column} {value}", ("per_group", column, value))


def _parts(report: Mapping[str, Any], measured: Mapping[str, Any], place: str, path: tuple[str, ...]) -> Iterator[Figure]:
    n = next((measured[count] for count in _COUNTS if measured.get(count) is not None), None)
    for name in sorted(set(measured) - set(_COUNTS)):
        yield _figure(report, name, place, measured[name], n, find(report, "baseline", "metrics", *path, name))


def _figure(report: Mapping[str, Any], name: str, place: str, value: float | None, n: int | None, before: float | None) -> Figure:
    low = high = None
    # cases of one patient are not independent, and the exact interval would be too narrow for them
    if value is not None and n and name in _SHARES and (find(report, "data", "test") or {}).get("patients") is None:
        low, high = clopper_pearson(round(value * n), n, (1 - CONFIDENCE) / 2)
    return Figure(name, place, value, low, high, n, before)
