"""Judge without labels: how often the artifact and the original disagree, and how much accuracy that can have cost.

Let D be the event that the two models decide differently on a case, O the original's class, A the artifact's, and Y the true one.

*Overall.* A case is lost when the original is right and the artifact is wrong. Then they disagree. So

    drop of accuracy = P(O = Y) - P(A = Y) = P(O = Y, A != Y) - P(O != Y, A = Y) <= P(O = Y, A != Y) <= P(D).

Of n cases k disagree. The upper bound of P(D) is that of Clopper and Pearson (Biometrika 26, 1934), u = B(1 - alpha; k + 1, n - k), with B
the quantile of the beta distribution. With several cases of one patient, counts are divided by the design effect, as in the guard-rails.
The drop is at most u at that confidence, whatever the truth is. The same holds for the share of cases that were right and are wrong, and
within each subgroup.

Example: 3 of 600 cases disagree, at 95 %. Then u = 1.29 %: accuracy fell by 1.29 pp at most, so a limit of 2 pp holds.

*A class.* With r = P(Y = c), its share of all cases, the recall of class c falls by

    P(O = c | Y = c) - P(A = c | Y = c) <= P(O = c, A != c, Y = c) / r <= P(O = c, A != c) / r.

The numerator is counted: cases that the original gives to c and the artifact does not. Its bound is u_c, of the same kind. The share r is
not known without labels; how often the original answers c is no substitute, since it may be wrong. So the bound is turned round: a limit l
of the recall's drop holds if at least r* = u_c / l of all cases are truly of class c.

Example: of 600 cases the original gives 80 to c, and the artifact gives 1 of these to another class. Then u_c = B(0.95; 2, 599) = 0.79 %.
A limit of 6 pp holds if r is at least 0.79 / 6 = 13.1 %. Where the site knows from elsewhere that 15 % of its cases are of class c
(`class_shares` in the data), recall fell by 0.79 / 0.15 = 5.2 pp at most.

*What cannot be concluded.* A disagreement may also be a mistake that was mended, so a large P(D) shows no harm: without labels the outcome
is pass or inconclusive, and never fail. F1, precision, AUC, confidences, and limits that are a share of the original's figure need labels.
So does the question whether the original is good at this site at all. Only labels of the k cases that disagree are needed to settle the
drop of accuracy: on all others both models are right, or both are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from optimize.candidate import Floats, Predict
from optimize.deploy.acceptance.judgement import Judgement
from optimize.deploy.acceptance.local_cases import LocalCases
from optimize.deploy.acceptance.model_use import ModelUse
from optimize.guard.design_effect import as_numbers
from optimize.guard.intervals import Estimate, share_of
from optimize.guard.limits import Limits, Relative, points, stated
from optimize.guard.rail import MAX_REQUIRED_N, POWER, Outcome, Rail, Scope
from optimize.guard.rails import rows
from optimize.progress import track

Booleans = npt.NDArray[np.bool_]
_ACCURACY, _RECALL, _REGRESSED = "drop of accuracy", "drop of recall", "share of regressed cases"
MAX_LISTED = 200
"""Largest number of cases that are listed by their positions."""
_BOUNDED = ("max_drop", "max_class_drop", "max_group_drop", "max_regressed")
"""Limits that disagreements bound; all others need labels."""


def judge_agreement(limits: Limits, cases: LocalCases, use: ModelUse, original: Predict, artifact: Predict) -> Judgement:
    """Return what the disagreements of two classifiers show about the limits of a run.

    Args:
        limits: limits of the run.
        cases: cases without labels.
        use: how the artifact is used.
        original: the original network, (N, C, *spatial) -> (N, K).
        artifact: the compiled model.
    """
    before, after = (_outputs(predict, cases, name) for predict, name in ((original, "original"), (artifact, "artifact")))
    # outputs that are not finite decide nothing, so such a case agrees with nothing
    finite = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    decided, decided_now = use.decided(before), use.decided(after)
    differ = (decided != decided_now) | ~finite
    patients = None if cases.split.patients is None else as_numbers(cases.split.patients)
    rails = list(_rails(limits, differ, patients, cases.split.groups))
    left = [(decided == k) & differ for k in range(len(use.classes))]
    per_class, class_rails = _classes(limits, use.classes, decided, left, patients, cases.class_shares)
    figures = [without_failure(rail) for rail in (*rails, *class_rails)]
    outcome: Outcome = "pass" if figures and all(figure["outcome"] == "pass" for figure in figures) else "inconclusive"
    reasons = (_summary(differ, share_of(differ, limits.confidence, patients), limits), *_doubts(figures, int(differ.sum())))
    listed = tuple(np.flatnonzero(differ)[:MAX_LISTED].tolist())
    return Judgement(outcome, reasons, tuple(figures), per_class, tuple(not_judged(limits, cases.class_shares is not None)), listed)


def _outputs(predict: Predict, cases: LocalCases, name: str) -> Floats:
    batches = track(cases.split.batches, f"{name} on the site's cases")
    return np.concatenate([predict(cases.split.inputs(batch)) for batch in batches])


def _rails(
    limits: Limits, differ: Booleans, patients: npt.NDArray[np.int64] | None, groups: Mapping[str, npt.NDArray[Any]]
) -> Iterator[Rail]:
    """Yield the bounds of the drop of accuracy, overall and within each subgroup, and of the share of regressed cases."""
    overall, of_group, regressed = limits.max_drop, limits.rails["max_group_drop"], limits.rails["max_regressed"]
    everything = share_of(differ, limits.confidence, patients)
    if limits.metric == "accuracy" and not isinstance(overall, Relative):
        yield rail(limits, overall, _ACCURACY, everything)
    if regressed is not None:
        yield rail(limits, regressed, _REGRESSED, everything)
    # a limit of subgroups that was not set is that of classes, as in `Limits.of`
    of_group = limits.max_class_drop if of_group is None else of_group
    if isinstance(of_group, Relative) or limits.metric != "accuracy":
        return
    for column, values in groups.items():
        for value in sorted(set(values.tolist())):
            rows_of_group = values == value
            of_these = None if patients is None else as_numbers(patients[rows_of_group])
            estimate = share_of(differ[rows_of_group], limits.confidence, of_these)
            yield rail(limits, of_group, _ACCURACY, estimate, scope="group", name=str(value), column=column)


def rail(
    limits: Limits,
    limit: float,
    figure: str,
    estimate: Estimate,
    *,
    scope: Scope = "overall",
    name: str | None = None,
    column: str | None = None,
) -> Rail:
    """Return a bound of a loss as a judged rail: what is compared with the limit is the largest loss that is still possible."""
    made = Rail.of(limits, "ceiling", limit, figure, estimate, None, estimate.value, scope=scope, name=name, column=column)
    about = f"{figure} of {name}" if scope == "class" else figure
    of_group = f", where {column} is {name}" if scope == "group" else ""
    # the value is a share of cases, the limit a drop: both are read in points
    return replace(made, title=f"{about} that disagreements allow{of_group}", wording=stated(limit))


def without_failure(judged: Rail) -> dict[str, Any]:
    """Return a rail as the record shows it, where a limit that is not held is inconclusive: a disagreement need be no loss."""
    outcome: Outcome = "pass" if judged.outcome == "pass" else "inconclusive"
    needed = None if outcome == "pass" else required_n(judged.estimate, judged.limit)
    return {**judged.as_dict(), "outcome": outcome, "needed": needed, "power": None}


def required_n(estimate: Estimate, limit: float) -> int | None:
    """Return the number of cases with which the upper bound is within the limit in 80 % of samples, at the observed rate.

    None where no number is: the observed rate is at the limit or above it.

    Example: none of 50 cases disagrees, and the limit is 2 pp. 149 cases without a disagreement have the bound 1 - 0.05^(1/149) = 1.99 pp.

    Args:
        estimate: share of cases with its bounds.
        limit: largest bound that passes.
    """
    if estimate.odds is None or not estimate.n or estimate.value >= limit:
        return None
    few, many = 0, 1
    while estimate.odds(many / estimate.n, limit)[0] < POWER:
        few, many = many, 2 * many
        if many > MAX_REQUIRED_N:
            return None
    # the chance grows with the number of cases, but for small steps of whole numbers
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if estimate.odds(middle / estimate.n, limit)[0] >= POWER else (middle, many)
    return many


def _classes(
    limits: Limits,
    classes: tuple[str, ...],
    decided: npt.NDArray[np.int64],
    left: list[Booleans],
    patients: npt.NDArray[np.int64] | None,
    shares: npt.NDArray[Any] | None,
) -> tuple[tuple[Mapping[str, Any], ...], list[Rail]]:
    """Return what is known of each class, and the rails of those classes whose share the site vouches for.

    Args:
        limits: limits of the run.
        classes: names of the classes.
        decided: the original's class of each case, (N,).
        left: for each class, the cases that the original gives to it and the artifact does not, (N,).
        patients: patient number of each case; None where every case stands for itself.
        shares: share of each class that the site vouches for, (K,), NaN where it does not; None where it gives none.
    """
    limit = limits.max_class_drop
    judged = limits.class_metric == "recall" and not isinstance(limit, Relative)
    per_class: list[Mapping[str, Any]] = []
    rails: list[Rail] = []
    for k, name in enumerate(classes):
        estimate = share_of(left[k], limits.confidence, patients)
        share = None if shares is None or np.isnan(shares[k]) or not shares[k] else float(shares[k])
        row = {
            "name": name,
            "answers": int((decided == k).sum()),
            "left": int(left[k].sum()),
            "high": estimate.high,
            "needed_share": estimate.high / limit if judged else None,
            "stated_share": share,
        }
        per_class.append(row)
        if judged and share is not None:
            rails.append(rail(limits, limit, _RECALL, scaled(estimate, share), scope="class", name=name))
    return tuple(per_class), rails


def scaled(estimate: Estimate, share: float) -> Estimate:
    """Return a bound of P(O = c, A != c) as one of the drop of recall of class c, whose share of all cases is `share` at least."""
    odds = estimate.odds

    def scaled_odds(times: float, limit: float) -> tuple[float, float]:
        assert odds is not None
        return odds(times, limit * share)

    low, value, high = (min(1.0, number / share) for number in (estimate.low, estimate.value, estimate.high))
    return replace(estimate, low=low, value=value, high=high, odds=None if odds is None else scaled_odds, usual=None)


def not_judged(limits: Limits, shares_given: bool) -> Iterator[str]:
    """Yield the criteria of the run that need labels, one sentence each."""
    for row in rows():
        limit = limits.of(row)
        if limit is None or row.classification is None:
            continue
        if row.name == "max_class_drop" and limits.class_metric == "recall" and not isinstance(limit, Relative):
            if not shares_given:
                yield f"{row.name}: the share of each class among the cases is not known without labels (see the table of classes)"
        elif row.name not in _BOUNDED:
            yield f"{row.name}: needs labels"
        elif isinstance(limit, Relative):
            yield f"{row.name}: a share of the original's figure, which is not known without labels"
        elif row.name in ("max_drop", "max_group_drop") and limits.metric != "accuracy":
            yield f"{row.name}: a limit of {limits.metric}, which needs labels"
        elif row.name == "max_class_drop" and limits.class_metric != "recall":
            yield f"{row.name}: a limit of {limits.class_metric}, which needs labels"


def _summary(differ: Booleans, estimate: Estimate, limits: Limits) -> str:
    count, n = int(differ.sum()), len(differ)
    verb = "disagrees" if count == 1 else "disagree"
    bound = f"at most {100 * estimate.high:.3g} % of all such cases, at {100 * limits.confidence:.4g} % confidence"
    return f"{count} of {n} cases {verb} with the original, {bound}: accuracy fell by {points(round(estimate.high, 6))} at most"


def _doubts(figures: list[dict[str, Any]], count: int) -> Iterator[str]:
    """Yield why a figure does not pass, and what would settle it."""
    if not figures:
        yield "no limit of the run can be shown without labels: pass labelled cases"
    for figure in figures:
        if figure["outcome"] == "pass":
            continue
        said = f"{figure['title']}: up to {points(round(figure['high'] if figure['high'] is not None else figure['value'] or 0.0, 6))}"
        limit = f"the limit is {figure['stated']}"
        if figure["needed"] is None:
            these = "label the case on which they disagree" if count == 1 else f"label the {count} cases on which they disagree"
            yield f"{said}; {limit}; no number of cases without labels would decide at the observed rate: {these}"
        else:
            would = f"about {figure['needed']} {figure['unit']} would decide at the observed rate ({figure['seen']} were used)"
            yield f"{said}; {limit}; {would}"
