"""The guard-rails of a classification, in the order in which a report shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from optimize.guard.bootstrap import BOOTSTRAP, Drawn, Pair, Sample, bounded, once, sample
from optimize.guard.calibration_rise import rise_of_error
from optimize.guard.intervals import ANYTHING, Estimate, drop_of_share, share_of
from optimize.guard.limits import Limits, Relative
from optimize.guard.rail import Rail, drop_rail
from optimize.guard.roc import auc_drop
from optimize.guard.score_intervals import Booleans, Doubles, Integers

if TYPE_CHECKING:
    from optimize.guard.classification_score import ClassificationScore

FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "auc": "AUC", "recall": "recall", "precision": "precision", "f1": "F1"}


def rails(limits: Limits, before: ClassificationScore, after: ClassificationScore) -> list[Rail]:
    """Every rail that was asked for.

    Args:
        limits: what was.
        before: the original's answers.
        after: the artifact's, to the same cases in the same order.
    """
    return list(_Comparison(limits, before, after).rails())


@dataclass(frozen=True, eq=False)
class _Comparison:
    limits: Limits
    before: ClassificationScore
    after: ClassificationScore

    def rails(self) -> Iterator[Rail]:
        limits, classes = self.limits, self.before.classes
        yield self._overall(limits.max_drop)
        for k, name in enumerate(classes):
            figure = FIGURES[limits.class_metric]
            found, old, new = self._class(k, limits.class_metric, limits.max_class_drop)
            yield drop_rail(limits, limits.max_class_drop, figure, found, old, new, scope="class", name=name)
        for column in self.before.groups:
            for (value, old_part), (_, new_part) in zip(self.before.parts(column), self.after.parts(column), strict=True):
                yield _Comparison(_overall_alone(limits), old_part, new_part)._overall(limits.group_drop, column, value)
        for k, name in enumerate(classes):
            yield from self._floors(k, name)
        yield from self._operating_points()
        if limits.max_ece_rise is not None:
            yield self._rise_of_error(limits.max_ece_rise)
        if limits.max_regressed is not None:
            found = share_of(self.before.correct & ~self.after.correct, limits.confidence, self.before.patients)
            title, wording = "share of cases that were right and are wrong", f"{100 * limits.max_regressed:.6g} %"
            yield Rail(title, title, "ceiling", limits.max_regressed, wording, None, found.value, found, self.limits.sure)

    @cached_property
    def _drawn(self) -> dict[str, Sample]:
        """Everything that has to be drawn, on the same draws."""
        return sample(self._pairs, len(self.before), len(self.before.classes), self.before.patients)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        limits, count = self.limits, len(self.before.classes)
        pairs: dict[str, Pair] = {}
        for k in range(count):
            if limits.class_metric != "recall":
                pairs[f"{limits.class_metric} {k}"] = self._pair_of_class(k, limits.class_metric)
        if limits.metric == "macro_f1":
            pairs["macro_f1"] = self._pair_of_macro_f1()
        return pairs

    def _overall(self, limit: float, column: str | None = None, value: str | None = None) -> Rail:
        """The overall figure; of a subgroup where a column and its value are named."""
        metric, limits = self.limits.metric, self.limits
        if metric == "accuracy":
            relative, patients = isinstance(limit, Relative), self.before.patients
            found = drop_of_share(self.before.correct, self.after.correct, limits.confidence, patients, relative=relative)
            old, new = self.before.accuracy, self.after.accuracy
        elif metric == "auc":
            sides, patients = (self.before.probabilities, self.after.probabilities), self.before.patients
            share = float(limit) if isinstance(limit, Relative) else 0.0
            found, old, new = auc_drop(*sides, self.before.labels, limits.confidence, patients, share)
        else:
            found, old, new = self._drop_of_drawn(metric, limit, len(self.before), self.before.patients)
        if column is None:
            figure = "overall accuracy" if metric == "accuracy" else FIGURES[metric]
            return drop_rail(limits, limit, figure, found, old, new)
        return drop_rail(limits, limit, FIGURES[metric], found, old, new, scope="group", name=value, column=column)

    def _class(self, k: int, metric: str, limit: float) -> tuple[Estimate, float, float]:
        """Drop of a class's figure, and the figure before and after."""
        rows = self.before.labels == k
        patients = self._patients(rows)
        if metric != "recall":
            return self._drop_of_drawn(f"{metric} {k}", limit, int(rows.sum()), patients)
        hits = self.before.correct[rows], self.after.correct[rows]
        found = drop_of_share(*hits, self.limits.confidence, patients, relative=isinstance(limit, Relative))
        name = self.before.classes[k]
        return found, self.before.per_class[name].recall, self.after.per_class[name].recall

    def _floors(self, k: int, name: str) -> Iterator[Rail]:
        limits, rows = self.limits, self.before.labels == k
        if not rows.any():
            return  # a class without a case has been told of by its drop
        old, new = self.before.per_class[name], self.after.per_class[name]
        if limits.min_class_f1:
            said = self.after.predicted == k
            found = share_of((rows & said)[rows | said], limits.confidence, self._patients(rows | said))
            yield self._floor("F1", name, limits.min_class_f1, old.f1, new.f1, _f1_of_overlap(found, int(rows.sum())))
        if limits.min_class_recall:
            found = share_of(self.after.correct[rows], limits.confidence, self._patients(rows))
            yield self._floor("recall", name, limits.min_class_recall, old.recall, new.recall, found)

    def _patients(self, rows: Booleans) -> Integers | None:
        return None if self.before.patients is None else self.before.patients[rows]

    def _floor(self, figure: str, name: str, limit: float, old: float, new: float, found: Estimate) -> Rail:
        title, wording = f"{figure} of {name}", f"{100 * limit:.2f} %"
        return Rail(figure, title, "floor", limit, wording, old, new, found, self.limits.sure, "class", name)

    def _operating_points(self) -> Iterator[Rail]:
        limits, classes = self.limits, self.before.classes
        if limits.threshold is None:
            return
        for name in limits.positive or classes:
            k = classes.index(name)
            positive = self.before.labels == k
            found = [each.probabilities[:, k] >= limits.threshold for each in (self.before, self.after)]
            for figure, limit, rows, flip in (
                ("sensitivity", limits.max_sensitivity_drop, positive, False),
                ("specificity", limits.max_specificity_drop, ~positive, True),
            ):
                if limit is not None:
                    yield self._rate(f"{figure} at {limits.threshold:g}", name, limit, [each[rows] != flip for each in found], rows)

    def _rate(self, figure: str, name: str, limit: float, hits: list[Booleans], rows: Booleans) -> Rail:
        found = drop_of_share(hits[0], hits[1], self.limits.confidence, self._patients(rows), relative=isinstance(limit, Relative))
        old, new = (float(each.mean()) if len(each) else 0.0 for each in hits)
        return drop_rail(self.limits, limit, figure, found, old, new, scope="class", name=name)

    def _rise_of_error(self, limit: float) -> Rail:
        sides = [(each.probabilities.max(1).astype(np.float64), each.correct) for each in (self.before, self.after)]
        found, old, new = rise_of_error(sides[0], sides[1], self.limits.confidence, self.before.patients)
        title = "expected calibration error"
        return Rail(title, title, "rise", limit, f"{100 * limit:.6g} pp", old, new, found, self.limits.sure)

    def _drop_of_drawn(self, name: str, limit: float, cases: int, patients: Integers | None) -> tuple[Estimate, float, float]:
        """Drop of a figure that is drawn, bounded as a difference or as a ratio; and the figure before and after."""
        old, new = once(self._pairs[name], len(self.before), len(self.before.classes))
        if np.isnan(old) or np.isnan(new):
            return Estimate(0.0, *ANYTHING, 0, "cases", BOOTSTRAP, None), 0.0, 0.0
        falls = self._drawn[name].shares_lost(old) if isinstance(limit, Relative) else self._drawn[name].drops()
        counts = np.bincount(self.before.labels)
        worst = 1 / (counts[counts > 0].min() * (counts > 0).sum()) if name == "macro_f1" else 1 / cases
        return bounded(falls, old - new, self.limits.confidence, cases, patients, float(worst)), old, new

    def _pair_of_class(self, k: int, metric: str) -> Pair:
        """Precision or F1 of one class, from counts of what became of its cases and of those taken for it."""
        true, old, new = (each == k for each in (self.before.labels, self.before.predicted, self.after.predicted))
        own = (true & old & new, true & old & ~new, true & ~old & new, true & ~old & ~new)
        others = (~true & old & new, ~true & old & ~new, ~true & ~old & new)
        stacked = np.stack([*own, *others], axis=1).astype(np.float64)

        def pair(drawn: Drawn) -> tuple[Doubles, Doubles]:
            kept, lost, gained, never, wrongly, mended, spoilt = (drawn.weights @ stacked).T
            lost, gained = lost + drawn.unseen[:, 0, k], gained + drawn.unseen[:, 1, k]
            mended, spoilt = mended + drawn.unseen[:, 2, k], spoilt + drawn.unseen[:, 3, k]
            cases = kept + lost + gained + never
            each = ((kept + lost, wrongly + mended), (kept + gained, wrongly + spoilt))
            figures = [_precision(hits, said) if metric == "precision" else _f1(hits, said, cases) for hits, said in each]
            return figures[0], figures[1]

        return pair

    def _pair_of_macro_f1(self) -> Pair:
        pairs = [self._pair_of_class(k, "f1") for k in range(len(self.before.classes)) if (self.before.labels == k).any()]

        def pair(drawn: Drawn) -> tuple[Doubles, Doubles]:
            each = np.array([one(drawn) for one in pairs])
            counts = np.maximum(1, (~np.isnan(each)).sum(0))  # a draw may lack a class
            old, new = np.nansum(each, axis=0) / counts
            return old, new

        return pair


def _overall_alone(limits: Limits) -> Limits:
    """What a subgroup is asked: nothing that would have to be drawn but its overall figure."""
    return replace(limits, class_metric="recall", min_class_f1=0.0, max_ece_rise=None)


def _f1_of_overlap(found: Estimate, cases: int) -> Estimate:
    """F1 from the overlap J, the share of the cases that are of the class or taken for it which are both: F1 = 2 J / (1 + J).

    It rises with J, so that bounds of the share are bounds of F1.
    """

    def reached(overlap: float) -> float:
        return 2 * overlap / (1 + overlap)

    def odds(times: float, limit: float) -> tuple[float, float]:
        assert found.odds is not None
        return found.odds(times, limit / (2 - limit))

    method = f"{found.method}, of the cases that are of the class or taken for it"
    usual = None if found.usual is None else (reached(found.usual[0]), reached(found.usual[1]))
    ends = reached(found.low), reached(found.high)
    return Estimate(reached(found.value), *ends, cases, found.unit, method, odds if found.odds else None, usual=usual)


def _precision(hits: Doubles, wrongly: Doubles) -> Doubles:
    said = hits + wrongly
    return np.where(said > 0, hits / np.maximum(said, 1e-300), 0.0)


def _f1(hits: Doubles, wrongly: Doubles, cases: Doubles) -> Doubles:
    whole = cases + hits + wrongly
    return np.where(whole > 0, 2 * hits / np.maximum(whole, 1e-300), np.nan)

