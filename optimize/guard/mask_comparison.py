"""Two segmentations of the same images, and how far Dice fell: guard-rails of masks are judged by this.

All figures are means over the classes of means over patients. A patient who shows a class that few others show moves that class's mean, and
so the figure, more than others do. `_influences` gives each patient that weight, so that the spread of the influences is the spread of the
figure.

Example: two patients show a tumour, and only the second shows a cyst. Dice of the tumour fell by 0.1 and 0.3, Dice of the cyst by 0.2. The
class means fell by 0.2 and 0.2, and the overall figure by 0.2. The second patient alone stands for the cyst, and both share the tumour:
so one hundredth more in the second patient's cyst moves the figure twice as far as one hundredth more in anybody's tumour.

*Few patients.* Of n patients who all do well, one in n / 3 may still lose much, and no interval of the measured values knows of it. So the
verdict's bounds hold one more patient (`optimize.guard.worst_case`), who loses half of a perfect Dice: that is the assumption about
the tail. A limit of 2 pp then takes at least 74 patients, and a limit of 6 pp at least 24.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np

from optimize.data.masks import Booleans
from optimize.guard.comparison import Comparison
from optimize.guard.intervals import Estimate, mean_of
from optimize.guard.limits import Relative
from optimize.guard.rails import Task
from optimize.guard.segmentation_score import Doubles, SegmentationScore, mean_agreement, means, ratio

SHARES = (0.0, 1.0)
UNSEEN_LOSS = 0.5
"""Dice that a patient is assumed to lose at most if the test set holds no such patient: half of a perfect one."""


class MaskComparison(Comparison[SegmentationScore]):
    """Two segmentations of the same N images, with F classes."""

    task: ClassVar[Task] = "segmentation"

    def parts(self, column: str) -> Iterator[tuple[str, MaskComparison]]:
        """The comparison within each subgroup of a column, in the order of their names."""
        for (value, baseline), (_, candidate) in zip(self.baseline.parts(column), self.candidate.parts(column), strict=True):
            # Both scores hold the same images, so both have the same subgroups in the same order; `strict` would show if they had not.
            yield value, MaskComparison(self.limits, baseline, candidate)

    def overall_drop(self, limit: float) -> Estimate:
        """How far the overall Dice fell; a `Relative` limit is bounded as a ratio."""
        known, drops = self._drops(limit)
        # The drop is passed on as the figure, since the mean of the influences is 0 by construction.
        drop = self.baseline.overall - self.candidate.overall
        # The added patient shows every class, and loses `UNSEEN_LOSS` of each.
        worst = drop + _influence_of_one(known, UNSEEN_LOSS - means(np.where(known, drops, np.nan)))
        return mean_of(_influences(known, drops), self.limits.confidence, worst, drop, freedom=_freedom(known))

    def class_drop(self, k: int, limit: float) -> tuple[Estimate, float, float]:
        """How far the mean Dice of class k fell, and both models' Dice; a `Relative` limit is bounded as a ratio."""
        # One class is a plain mean over its patients, so its values need no influences.
        known, drops = self._drops(limit)
        # A class that nobody shows is segmented perfectly by marking nothing.
        baseline, candidate = (float(np.nan_to_num(dice[k], nan=1.0)) for dice in self._class_dice)
        estimate = mean_of(drops[known[:, k], k], self.limits.confidence, UNSEEN_LOSS, baseline - candidate)
        return estimate, baseline, candidate

    def class_dice(self, name: str) -> Estimate:
        """The candidate's mean Dice of a class that some patients show."""
        dice = self.candidate.per_patient[:, self.candidate.classes.index(name)]
        # A Dice cannot be below 0: with a mean of 0.4 the added patient has Dice 0, and not -0.1.
        worst = max(0.0, self.candidate.figures[name] - UNSEEN_LOSS)
        return mean_of(dice[~np.isnan(dice)], self.limits.confidence, worst, ends=SHARES)

    def agreement(self) -> Estimate:
        """Overall Dice of the candidate's masks with the baseline's masks in place of the true ones."""
        agreements = self.candidate.agreements(self.baseline)
        known = ~np.isnan(agreements)
        influences = _influences(known, np.where(known, agreements, 0.0))
        agreement = mean_agreement(agreements)
        worst = agreement - _influence_of_one(known, np.full(len(self.candidate.classes), UNSEEN_LOSS))
        return mean_of(influences, self.limits.confidence, worst, agreement, SHARES, _freedom(known))

    @cached_property
    def _class_dice(self) -> tuple[Doubles, Doubles]:
        return self.baseline.mean_dice, self.candidate.mean_dice

    def _drops(self, limit: float) -> tuple[Booleans, Doubles]:
        """Which patients show which class, and how far each Dice fell, both (patients, F).

        A mask that is rightly empty has Dice 1. For a relative limit r, the values are the drops of (1 - r) * baseline, plus r times the
        class's mean, which leaves the mean as it is. They are linear in every patient, so their spread holds that of both figures.
        """
        old, new = self.baseline.per_patient, self.candidate.per_patient
        known, whole = ~(np.isnan(old) & np.isnan(new)), np.nan_to_num(old, nan=1.0)
        # A patient without the class, to whom only one model gives it: the other model's empty mask is right, which is Dice 1.
        drops = whole - np.nan_to_num(new, nan=1.0)
        if isinstance(limit, Relative):
            # Example: baseline 0.9 and 0.7, limit 10 %. The drops change by -0.1 * (0.9 - 0.8) and -0.1 * (0.7 - 0.8), which add up to 0.
            drops = drops - limit * (whole - ratio(np.where(known, whole, 0.0).sum(0), known.sum(0)))
        return known, drops


def _influences(known: Booleans, values: Doubles) -> Doubles:
    """How much each patient moves the mean over the classes of the means over patients, (patients,), up to a constant.

    This is the derivative of the figure by the patient's weight, times the number of patients. Patients who show no class are left out.
    In the example of the module, the cyst is shown by one patient and the tumour by two, so the cyst counts twice as much.

    Args:
        known: which patients show which class, (patients, F).
        values: value of each patient and class, (patients, F).
    """
    counts = known.sum(0)
    class_means = np.where(known, values, 0.0).sum(0) / np.maximum(counts, 1)
    some, classes = known.any(1), max(1, int((counts > 0).sum()))
    # In the module's example the tumour counts 1/2 and the cyst 1 in each patient who shows it, times 2 patients, divided by 2 classes.
    influences = np.where(known, (values - class_means) / np.maximum(counts, 1), 0.0).sum(1) * some.sum() / classes
    return np.asarray(influences[some])


def _influence_of_one(known: Booleans, gaps: Doubles) -> float:
    """How far one more patient, who shows every class, lies from the mean over the classes.

    Args:
        known: which patients show which class, (patients, F).
        gaps: how far the added patient lies from the mean of each class, (F,).
    """
    counts = known.sum(0)
    shown = counts > 0
    return float((gaps[shown] / counts[shown]).sum() * known.any(1).sum() / max(1, int(shown.sum())))


def _freedom(known: Booleans) -> int:
    """Degrees of freedom of the figure's spread: those of the class that the fewest patients show."""
    counts = known.sum(0)
    # A class of 6 patients in a split of 200 bounds the mean with 5 degrees of freedom, since its own spread is known no better.
    return max(1, int(counts[counts > 0].min(initial=known.shape[0])) - 1)
