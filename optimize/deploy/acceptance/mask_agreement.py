"""Judge masks without labels: Dice between the masks of the artifact and of the original, and how much Dice that can have cost.

Let O be the original's mask of one patient and one class, A the artifact's, T the true one, and e = 1 - Dice(A, O) the disagreement. The
largest harm that it allows is

    Dice(O, T) - Dice(A, T) <= h(e) = 4 e / (1 + 3 e).

*Why.* The Jaccard distance d = 1 - J is a metric (Levandowsky and Winter, Nature 234, 1971), so J(A, T) >= J(O, T) - d(A, O). In terms of
the Jaccard index J, Dice is 2 J / (1 + J), which is concave. So it falls most where J(A, T) ends at 0 and J(O, T) = d(A, O): by
2 d / (1 + d). With d = 2 e / (1 + e) this is h(e). It is reached: the original's mask holds the true one and more, and the artifact's mask
lacks just the true one.

Example: the masks agree with Dice 0.99, so e = 0.01. Dice with the truth can have fallen by 0.04 / 1.03 = 0.039 in this patient.

*All patients.* The drop of a class's mean Dice is at most the mean of h over the patients to whom either model gives the class: patients
without it lose nothing, and those whom only the truth shows make the mean smaller. Its upper bound is that of `betting.py`, which holds for
every distribution of values in 0..1 and any number of patients. The overall figure is the mean over F classes; its bound is the mean of
theirs, each at confidence 1 - alpha / F, so that all hold together with confidence 1 - alpha (Bonferroni).

*What cannot be concluded.* h is the worst case: a limit of 2 pp asks for Dice of about 0.995 between the two. Masks that differ more may be
as good as the original's, or better. So a limit of Dice that is not shown to hold is inconclusive. `min_agreement` is a limit of the
agreement itself: it can fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from optimize.candidate import Predict
from optimize.deploy.acceptance.agreement import rail
from optimize.deploy.acceptance.betting import mean_upper_bound
from optimize.deploy.acceptance.judgement import Judgement
from optimize.deploy.acceptance.local_cases import LocalCases
from optimize.deploy.acceptance.model_use import ModelUse
from optimize.guard.intervals import Estimate
from optimize.guard.limits import Limits, Relative, points
from optimize.guard.mask_comparison import MaskComparison
from optimize.guard.rail import MAX_REQUIRED_N, POWER, Outcome, Rail, Scope
from optimize.guard.rails import rows
from optimize.guard.segmentation_score import SegmentationScore, score_masks
from optimize.progress import track

Doubles = npt.NDArray[np.float64]
METHOD = "bound of a mean in 0..1 (betting, Waudby-Smith and Ramdas 2024)"
AGREEMENT = "min_agreement"
_FIGURE = "drop of Dice"


def judge_mask_agreement(limits: Limits, cases: LocalCases, use: ModelUse, original: Predict, artifact: Predict) -> Judgement:
    """Return what the disagreements of two segmentations show about the limits of a run.

    Args:
        limits: limits of the run.
        cases: cases without labels; patients that they name count once each.
        use: how the artifact is used.
        original: the original network, (N, C, *spatial) -> (N, K, *spatial).
        artifact: the compiled model.
    """
    before, after = (_score(predict, cases, use, name) for predict, name in ((original, "original"), (artifact, "artifact")))
    unit = "cases" if cases.split.patients is None else "patients"
    bounded = [(judged, needed_patients(judged, harms, alpha)) for judged, harms, alpha in _rails(limits, before, after, unit)]
    figures = [_as_figure(judged, needed) for judged, needed in bounded]
    row = next(row for row in rows() if row.name == AGREEMENT)
    asked = limits.of(row)
    agreed = [] if asked is None or row.segmentation is None else list(row.segmentation(MaskComparison(limits, before, after), asked))
    figures += [judged.as_dict() for judged in agreed]
    outcomes = {figure["outcome"] for figure in figures}
    outcome: Outcome = "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "inconclusive"
    agreement = after.agreement(before)
    summary = f"Dice between the masks of the artifact and of the original is {agreement:.4f} over {len(after.per_patient)} {unit}"
    missed = (judged.doubt if judged.outcome == "inconclusive" else str(judged) for judged in agreed if judged.outcome != "pass")
    doubts = [*_doubts(figures), *missed]
    return Judgement(outcome, (summary, *doubts), tuple(figures), not_judged=tuple(_not_judged(limits)))


def harm(disagreement: Doubles) -> Doubles:
    """Return the largest drop of Dice with the truth that a disagreement 1 - Dice allows, 4 e / (1 + 3 e).

    Example:
        >>> harm(np.array([0.0, 0.01, 1.0])).round(4).tolist()
        [0.0, 0.0388, 1.0]
    """
    return np.asarray(4 * disagreement / (1 + 3 * disagreement))


def _score(predict: Predict, cases: LocalCases, use: ModelUse, name: str) -> SegmentationScore:
    """Return the masks of a model, scored against empty ones: only the masks themselves are used."""
    split, inner = cases.split, cases.split.preprocessing.inner

    def answers() -> Iterator[tuple[Any, Any]]:
        for batch in track(split.batches, f"{name} on the site's cases"):
            outputs = inner(predict(split.inputs(batch)))
            empty = np.zeros(outputs.shape, bool) if use.overlapping else np.zeros((len(outputs), *outputs.shape[2:]), np.uint8)
            yield outputs, empty

    return score_masks(answers(), use.classes, split.patients, split.groups, use.meaning)


def _rails(limits: Limits, before: SegmentationScore, after: SegmentationScore, unit: str) -> Iterator[tuple[Rail, list[Doubles], float]]:
    """Yield the bounds of the drop of Dice, overall, of each class and within each subgroup, each with its values and its alpha."""
    if not isinstance(limits.max_drop, Relative):
        yield _overall(limits, limits.max_drop, before, after, unit)
    if not isinstance(limits.max_class_drop, Relative):
        agreements = after.agreements(before)
        for k, name in enumerate(after.classes):
            values, alpha = _harms(agreements)[k], 1 - limits.confidence
            yield rail(limits, limits.max_class_drop, _FIGURE, _estimate([values], alpha, unit), scope="class", name=name), [values], alpha
    of_group = limits.rails["max_group_drop"]
    of_group = limits.max_class_drop if of_group is None else of_group
    if isinstance(of_group, Relative):
        return
    for column in after.groups:
        for (value, old), (_, new) in zip(before.parts(column), after.parts(column), strict=True):
            yield _overall(limits, of_group, old, new, unit, scope="group", name=value, column=column)


def _overall(
    limits: Limits,
    limit: float,
    before: SegmentationScore,
    after: SegmentationScore,
    unit: str,
    *,
    scope: Scope = "overall",
    name: str | None = None,
    column: str | None = None,
) -> tuple[Rail, list[Doubles], float]:
    # classes that neither model shows have no values; at the least one list stays, so that there is a bound
    values = [harms for harms in _harms(after.agreements(before)) if len(harms)] or [np.zeros(0)]
    alpha = (1 - limits.confidence) / len(values)
    return rail(limits, limit, _FIGURE, _estimate(values, alpha, unit), scope=scope, name=name, column=column), values, alpha


def _harms(agreements: Doubles) -> list[Doubles]:
    """Return the harm of each patient to whom either model gives a class, for each class."""
    return [harm(1 - column[~np.isnan(column)]) for column in agreements.T]


def _estimate(values: list[Doubles], alpha: float, unit: str) -> Estimate:
    """Return the mean over the classes of the mean harms, with its upper bound."""
    value = float(np.mean([harms.mean() if len(harms) else 0.0 for harms in values]))
    high = float(np.mean([mean_upper_bound(harms, alpha) for harms in values]))
    return Estimate(value, 0.0, high, min(len(harms) for harms in values), unit, METHOD, None)


def needed_patients(judged: Rail, values: list[Doubles], alpha: float) -> int | None:
    """Return the number of patients with which the bound is within the limit in 80 % of samples, if their harms are as these.

    None where the rail passes, or no number is enough. The mean of a new sample is taken to lie 0.84 standard errors above the present one.
    """
    n = judged.estimate.n
    if judged.outcome == "pass" or not n or judged.value >= judged.limit:
        return None

    def bound(times: float) -> float:
        chance = float(np.sqrt(np.sum([harms.var() / len(harms) for harms in values]))) / len(values)
        highs = [mean_upper_bound(harms, alpha, times) for harms in values]
        return float(np.mean(highs) + ndtri(POWER) * chance / np.sqrt(times))

    few, many = n, 2 * n
    while bound(many / n) > judged.limit:
        few, many = many, 2 * many
        if many > MAX_REQUIRED_N:
            return None
    while many - few > max(1, few // 200):
        middle = (few + many) // 2
        few, many = (few, middle) if bound(middle / n) <= judged.limit else (middle, many)
    return many


def _as_figure(judged: Rail, needed: int | None) -> dict[str, Any]:
    outcome: Outcome = "pass" if judged.outcome == "pass" else "inconclusive"
    return {**judged.as_dict(), "low": None, "outcome": outcome, "needed": needed, "power": None}


def _doubts(figures: list[dict[str, Any]]) -> Iterator[str]:
    for figure in figures:
        if figure["outcome"] == "pass" or figure["figure"] != _FIGURE:
            continue
        if not figure["seen"]:
            yield f"{figure['title']}: neither model marks anything; the limit is {figure['stated']}"
            continue
        shown = figure["high"] if figure["high"] is not None else figure["value"]
        number = figure["needed"]
        would = (
            f"about {number} {figure['unit']} would decide at these values ({figure['seen']} were used)"
            if number
            else "no number of cases without labels would decide at these values: pass masks of the truth"
        )
        yield f"{figure['title']}: up to {points(round(shown, 6))}; the limit is {figure['stated']}; {would}"


def _not_judged(limits: Limits) -> Iterator[str]:
    """Yield the criteria of the run that need labels, one sentence each."""
    for row in rows():
        limit = limits.of(row)
        if limit is None or row.segmentation is None or row.name == AGREEMENT:
            continue
        if row.name not in ("max_drop", "max_class_drop", "max_group_drop"):
            yield f"{row.name}: needs labels"
        elif isinstance(limit, Relative):
            yield f"{row.name}: a share of the original's figure, which is not known without labels"
