"""What a run did not look at, in plain sentences. They follow from what its report holds and from what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

from optimize.report.limit_words import limit_words
from optimize.report.looks import confidence
from optimize.report.rails import rails
from optimize.report.rows import find, per_group
from optimize.report.terms import terms
from optimize.report.wording import Report, count, plain, points

FEW_CASES = 30
"""Cases below which a figure of a class or a subgroup is named as one that comes from few cases."""
_NAMES = {"precision": "precision", "f1": "F1"}


def limitations(report: Report, runtime: str) -> list[str]:
    """The limitations, each one or two sentences. Those that are specific to this run come first."""
    return [*_of_verdict(report), *_of_limits(report), *_of_data(report), *_of_everything(report, runtime)]


def _of_verdict(report: Report) -> Iterator[str]:
    judged = rails(report)
    if not judged:
        yield "The run ended before the guard-rails were judged: the artifact’s results on the test split are not known."
        return
    if report["limits"].get("verdict") == "point":
        yield "The verdict compares only the measured values with the limits, without a margin for chance."
    # With 10 rails at 95 % each, all 10 bounds hold together with 50 % at the least, by adding up the 10 errors of 5 %.
    elif len(judged) > 1:
        share = plain(100 * (confidence(report) or 0.0))
        yield f"Each bound holds with {share} % confidence. The confidence that all {len(judged)} hold at the same time is lower."
    if (report.get("looks") or {}).get("number", 1) > 1:
        yield "The confidence accounts for earlier looks at the test cases. This does not hold for a model that was adapted to these cases."
    few: dict[str, int] = {rail["name"]: rail["seen"] for rail in judged if rail["scope"] != "overall" and rail["seen"] < FEW_CASES}
    if few:
        named = ", ".join(f"{name} ({count(n)})" for name, n in few.items())
        # One case of 12 is 8.3 pp of a recall: that is how coarse the figure is.
        moved, unit = points(1 / max(1, min(few.values()))), str(judged[0]["unit"]).removesuffix("s")
        yield f"These figures come from fewer than {FEW_CASES} {unit}s: {named}. One {unit} changes such a figure by up to {moved}."
    patients = min((rail["seen"] for rail in judged if rail["unit"] == "patients" and rail["seen"]), default=0)
    if patients:
        # The rule of three: a loss that none of n patients had may still be one in n / 3 (95 % confidence). 60 patients: one in 20.
        rare = count(max(1, patients // 3))
        yield f"Of {count(patients)} patients: a severe loss in fewer than one of {rare} patients would probably not have been observed."
    if report["limits"].get("class_metric") in ("precision", "f1"):
        metric = _NAMES[report["limits"]["class_metric"]]
        yield f"Classes were judged by their {metric}. Recall, the share of a class that the model finds, had no limit."
    unknown = [rail["title"] for rail in judged if rail["value"] is None]
    if unknown:
        yield f"These figures could not be measured: {', '.join(unknown)}."


def _of_limits(report: Report) -> Iterator[str]:
    limits, groups = report["limits"], per_group(report)
    if not groups:
        yield "No column of subgroups was given: the report makes no statement about sites, scanners, sexes, ages or other subgroups."
    elif limits.get("max_group_drop") is None:
        yield f"No limit was fixed for subgroups by {', '.join(groups)}; their figures are shown, but not judged."
    # Three names read "a, b and c", two read "a and b", one stands alone.
    unlimited = [limit.unlimited for limit in limit_words(report) if limit.unlimited and not limit.asked]
    if unlimited:
        last = f" and {unlimited[-1]}" if len(unlimited) > 1 else ""
        yield f"No limit was fixed for {', '.join(unlimited[: len(unlimited) - 1 or 1])}{last}."
    if report.get("task") == "segmentation":
        yield "Calibration of confidence is not measured for masks."
    elif report["calibration"] is None and rails(report):
        yield "Calibration of confidence was not measured."


def _of_data(report: Report) -> Iterator[str]:
    test = find(report, "data", "test") or {}
    # A patient in two splits is the commonest reason for figures that are too good, and without ids nobody can rule it out.
    if test and test.get("patients") is None:
        yield "The data has no patient ids: every case counts as independent, and cases of one patient may be in two splits."
    empty = [name for name, cases in (test.get("per_class") or {}).items() if not cases]
    if empty:
        yield f"The test split has no case of: {', '.join(empty)}."
    findings = [finding for finding in report["health"] or [] if finding["level"] == "warning"]
    yield from (f"Calibration set, {finding['check']}: {finding['text']}." for finding in findings)
    listed = find(report, "flips", "listed") or []
    flips = report["flips"]
    if flips and len(listed) < (total := flips["regressed"] + flips["fixed"] + flips["changed"]):
        rest = f"; {flips['file']} lists all of them." if flips["file"] else "."
        yield f"The page lists {count(len(listed))} of {count(total)} cases whose decision changed{rest}"


def _of_everything(report: Report, runtime: str) -> Iterator[str]:
    # Kernels differ between processors and may round differently, so even the same file can answer differently elsewhere.
    if report["compressed"]:
        files = "the files whose hashes are listed above" if report["artifact"] else "the artifact that was measured"
        yield f"The verdict applies only to {files}, run in {runtime} on this kind of machine. Another processor may use other kernels."
    yield f"It applies only to cases like those of the test split, and only to {terms(report).overall} and the other figures named here."
    yield "Latency is measured for the network alone: reading files, preparing inputs and showing results are not included."
    if not report["signature"]:
        yield "This report is not signed."
    yield "This report is evidence for a decision about a release; it does not make that decision and is not a regulatory clearance."
