"""Two classifiers on the same cases, and how far each figure fell: guard-rails of classes are judged by this.

Figures come in two kinds. A share of cases (accuracy, recall, sensitivity) has an exact bound of its own, from the counts of cases that
were lost and gained. All others (F1, precision, macro F1) are bootstrapped (`optimize.guard.bootstrap`): for them this module counts, on
any weights of the cases, what the figure needs.

Example: the precision of class k on one bootstrap draw. Of the cases of k, the draw holds 40 that both models find, 2 that only the
baseline finds and 1 that only the candidate finds. Of the cases of other classes, both models predict k for 4, the baseline for 1 more and
the candidate for 3 more. Then the baseline's precision is 42 / (42 + 5), and the candidate's 41 / (41 + 7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from optimize.guard.bootstrap import BOOTSTRAP, Draws, PairedFigure, Sample, bootstrap_estimate, on_all_cases, sample
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.comparison import Comparison
from optimize.guard.intervals import ANYTHING, Estimate, drop_of_share
from optimize.guard.limits import Relative
from optimize.guard.rail import Rail
from optimize.guard.rails import Task
from optimize.guard.roc import auc_drop
from optimize.guard.score_intervals import Booleans, Doubles, Integers

FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "auc": "AUC", "recall": "recall", "precision": "precision", "f1": "F1"}
"""Names of the figures of `Limits.metric` and `Limits.class_metric`, as in the middle of a sentence."""

Drop = tuple[Estimate, float, float]
"""How far a figure fell, with its bounds; the baseline's figure; the candidate's figure."""


class ClassComparison(Comparison[ClassificationScore]):
    """Two classifiers on the same N cases of K classes."""

    task: ClassVar[Task] = "classification"

    def parts(self, column: str) -> Iterator[tuple[str, ClassComparison]]:
        """The comparison within each subgroup of a column, in the order of their names."""
        # Only the overall figure of a subgroup is judged. With "recall" as the classes' figure none of its classes is bootstrapped for
        # nothing.
        limits = replace(self.limits, class_metric="recall")
        for (value, baseline), (_, candidate) in zip(self.baseline.parts(column), self.candidate.parts(column), strict=True):
            yield value, ClassComparison(limits, baseline, candidate)

    def patients_of(self, rows: Booleans) -> Integers | None:
        """Patient numbers of some of the cases; None where patients are not known."""
        return None if self.baseline.patients is None else self.baseline.patients[rows]

    def overall_drop(self, limit: float) -> Drop:
        """How far the overall figure fell, which is the one that `limits.metric` names."""
        metric, baseline, candidate = self.limits.metric, self.baseline, self.candidate
        if metric == "accuracy":
            estimate = self.drop_of_hits(baseline.correct, candidate.correct, limit, baseline.patients)
            return estimate, baseline.accuracy, candidate.accuracy
        if metric == "auc":
            # A limit in points is a limit on the plain difference of the areas, which is the share 0.
            share = float(limit) if isinstance(limit, Relative) else 0.0
            sides = baseline.probabilities, candidate.probabilities
            return auc_drop(*sides, baseline.labels, self.limits.confidence, baseline.patients, share)
        # The worst case is one more wrong case of the smallest class. It takes 1 / (cases of the class) of that class's F1, which is 1 / K
        # of the mean. Example: 8 classes, the smallest has 25 cases: the mean falls by 1 / 200.
        counts = np.bincount(baseline.labels)
        worst = 1 / (counts[counts > 0].min() * (counts > 0).sum())
        return self._drop_of_shared(metric, limit, len(baseline), baseline.patients, float(worst))

    def class_drop(self, k: int, limit: float) -> Drop:
        """How far the figure of class k fell, which is the one that `limits.class_metric` names."""
        rows, metric, name = self.baseline.labels == k, self.limits.class_metric, self.baseline.classes[k]
        patients = self.patients_of(rows)
        # Precision and F1 depend on the cases of all classes, through those wrongly given to k: so they are drawn from the whole split.
        if metric != "recall":
            cases = int(rows.sum())
            return self._drop_of_shared(f"{metric} {k}", limit, cases, patients, 1 / cases if cases else 0.0)
        estimate = self.drop_of_hits(self.baseline.correct[rows], self.candidate.correct[rows], limit, patients)
        return estimate, self.baseline.per_class[name].recall, self.candidate.per_class[name].recall

    def drops_at_threshold(self, figure: str, limit: float, *, of_class: bool) -> Iterator[Rail]:
        """Yield the rail of each positive class at the operating point; none where the limits name no threshold.

        Args:
            figure: name of the figure: "sensitivity" or "specificity".
            limit: largest allowed drop of it.
            of_class: whether the figure is about the cases of the class, which the threshold must find, or about all others, which it must
                leave out.
        """
        threshold, baseline = self.limits.threshold, self.baseline
        if threshold is None:
            return
        for name in self.limits.positive or baseline.may_be_positive:
            k = baseline.classes.index(name)
            rows = (baseline.labels == k) == of_class
            shares = [score.probabilities[rows, k] for score in (baseline, self.candidate)]
            # a probability that is no number is right for neither figure, so the second is not the negation of the first
            hits = [share >= threshold if of_class else share < threshold for share in shares]
            estimate = self.drop_of_hits(hits[0], hits[1], limit, self.patients_of(rows))
            rates = [float(right.mean()) if len(right) else 0.0 for right in hits]
            yield self.rail("drop", limit, f"{figure} at {threshold:g}", estimate, *rates, scope="class", name=name)

    def drop_of_hits(self, baseline: Booleans, candidate: Booleans, limit: float, patients: Integers | None) -> Estimate:
        """How far a share of cases fell.

        Args:
            baseline: the cases that the baseline got right, (n,).
            candidate: the cases that the candidate got right, (n,).
            limit: the limit of the drop; a `Relative` one is bounded as a ratio.
            patients: patient number of each of these cases, (n,); None where every case stands for itself.
        """
        return drop_of_share(baseline, candidate, self.limits.confidence, patients, relative=isinstance(limit, Relative))

    def drop_of_figure(self, figure: PairedFigure, limit: float, worst: float) -> Drop:
        """How far any figure of all cases fell, bounded by the bootstrap.

        Args:
            figure: the figure of both models on weighted cases, see `optimize.guard.bootstrap`.
            limit: the limit of the drop; a `Relative` one is bounded as a ratio.
            worst: largest fall of the figure by one more case, which the candidate gets wrong.
        """
        baseline = self.baseline
        samples = sample({"figure": figure}, len(baseline), len(baseline.classes), baseline.patients)
        return self._bounded(figure, samples["figure"], limit, len(baseline), baseline.patients, worst)

    # "Shared" figures are drawn together in `_samples`: 2,000 draws of all cases take longer than the figures of all classes on them.
    def _drop_of_shared(self, name: str, limit: float, cases: int, patients: Integers | None, worst: float) -> Drop:
        values = on_all_cases(self._pairs[name], len(self.baseline), len(self.baseline.classes))
        # A figure that does not exist on all cases (F1 of a class that occurs nowhere) is unmeasured, with n = 0, and not 0.
        if np.isnan(values).any():
            return Estimate(0.0, *ANYTHING, 0, "cases", BOOTSTRAP, None), 0.0, 0.0
        return self._bounded(self._pairs[name], self._samples[name], limit, cases, patients, worst)

    def _bounded(self, figure: PairedFigure, samples: Sample, limit: float, cases: int, patients: Integers | None, worst: float) -> Drop:
        baseline, candidate = on_all_cases(figure, len(self.baseline), len(self.baseline.classes))
        drops = samples.relative_drops(baseline) if isinstance(limit, Relative) else samples.drops()
        return bootstrap_estimate(drops, baseline - candidate, self.limits.confidence, cases, patients, worst), baseline, candidate

    @cached_property
    def _samples(self) -> dict[str, Sample]:
        """Every figure that the limits name and that has to be bootstrapped, all on the same draws: drawing takes most of the time."""
        return sample(self._pairs, len(self.baseline), len(self.baseline.classes), self.baseline.patients)

    @cached_property
    def _pairs(self) -> dict[str, PairedFigure]:
        metric, count = self.limits.class_metric, len(self.baseline.classes)
        # Recall has an exact bound, so it is never drawn.
        pairs = {} if metric == "recall" else {f"{metric} {k}": self._pair_of_class(k, metric) for k in range(count)}
        return pairs | ({"macro_f1": self._pair_of_macro_f1()} if self.limits.metric == "macro_f1" else {})

    def _pair_of_class(self, k: int, metric: str) -> PairedFigure:
        """Precision or F1 of class k, see the example above."""
        true, old, new = (predicted == k for predicted in (self.baseline.labels, self.baseline.predicted, self.candidate.predicted))
        # Every case falls into one of eight groups (of class k or not, predicted k by neither, one or both models), so one matrix product
        # (draws, n) x (n, 7) counts them for all draws; the eighth group enters neither precision nor F1.
        own = (true & old & new, true & old & ~new, true & ~old & new, true & ~old & ~new)
        other_cases = (~true & old & new, ~true & old & ~new, ~true & ~old & new)
        stacked = np.stack([*own, *other_cases], axis=1).astype(np.float64)

        def pair(draws: Draws) -> tuple[Doubles, Doubles]:
            both, lost, gained, neither, both_wrongly, no_longer, newly = (draws.weights @ stacked).T
            # Decisions that the sample does not show, added in both directions: else a class without a mistake had a bound of exactly 0.
            lost, gained = lost + draws.unseen[:, 0, k], gained + draws.unseen[:, 1, k]
            no_longer, newly = no_longer + draws.unseen[:, 2, k], newly + draws.unseen[:, 3, k]
            cases = both + lost + gained + neither  # of class k on this draw
            sides = ((both + lost, both_wrongly + no_longer), (both + gained, both_wrongly + newly))
            figures = [_precision(hits, wrongly) if metric == "precision" else _f1(hits, wrongly, cases) for hits, wrongly in sides]
            return figures[0], figures[1]

        return pair

    def _pair_of_macro_f1(self) -> PairedFigure:
        # A class without a case in the split has no F1 in the score either, so both means are over the same classes.
        pairs = [self._pair_of_class(k, "f1") for k in range(len(self.baseline.classes)) if (self.baseline.labels == k).any()]

        def pair(draws: Draws) -> tuple[Doubles, Doubles]:
            figures = np.array([of_class(draws) for of_class in pairs])
            counts = np.maximum(1, (~np.isnan(figures)).sum(0))  # a draw may lack a class
            baseline, candidate = np.nansum(figures, axis=0) / counts
            return baseline, candidate

        return pair


def _precision(hits: Doubles, wrongly: Doubles) -> Doubles:
    predicted = hits + wrongly
    # A class that is never predicted has precision 0 here, as in `ClassificationScore`; NaN would hide that the model lost it.
    return np.where(predicted > 0, hits / np.maximum(predicted, 1e-300), 0.0)


def _f1(hits: Doubles, wrongly: Doubles, cases: Doubles) -> Doubles:
    whole = cases + hits + wrongly
    return np.where(whole > 0, 2 * hits / np.maximum(whole, 1e-300), np.nan)
