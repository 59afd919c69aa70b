"""Whether a network is better than a constant answer, that is, the same class or the same mask for every image.

Limits are relative to the original. If the original knows nothing, they protect nothing, and any network holds them. So before a
search the original must beat the best constant answer on the guard split, beyond chance:

*Classes.* The best constant answer is the most frequent class; its accuracy is the *no-information rate*. The original passes when

- its accuracy is higher by more than chance (the paired bound of `guard.intervals`) and by `SKILL` of what is left above the rate, or
- its mean recall is higher than 1 / K by `BALANCED_SKILL` of what is left, by more than chance. A constant answer has recall 1 for one of
  K classes and 0 for the others, whatever their shares. The variance is that of a stratified mean, sum r (1 - r) / n / K^2, or
- where it is used by rank (the metric is AUC, or an operating point is given), the area under the curve of a class is above `MIN_AREA`
  and the test of Mann and Whitney says that this is no chance (Bonferroni over the classes).

Example: 60 % of the cases are of one class. The no-information rate is 0.60, and the original needs an accuracy of at least 0.62
(0.05 of the remaining 0.40 more), with a lower bound above 0.60.

These shares are asked for besides chance because networks with random weights, too, have features that are related to the classes. On eight
kinds of blood cells, the best of 92 such networks reached a mean recall of 0.22, a tenth of the way.

*Masks.* A constant answer is one mask for every image: nothing, everything, or the pixels that are foreground in at least some share of
the images, whichever has the largest Dice. The original passes when its overall Dice is higher and the bound of the patients' paired
differences is above 0. Fewer than `intervals.MIN_PATIENTS` patients give no bound; then the higher figure alone decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from optimize.data.masks import Array, foreground, perfect
from optimize.guard.classification_score import ClassificationScore
from optimize.guard.intervals import MIN_PATIENTS, drop_of_share, mean_of, quantile
from optimize.guard.limits import Limits
from optimize.guard.roc import macro_auc
from optimize.guard.score import Score
from optimize.guard.score_intervals import wilson
from optimize.guard.segmentation_score import SegmentationScore, score_masks
from optimize.guard.tasks import kinds

CONFIDENCE = 0.99
SKILL, BALANCED_SKILL = 0.05, 0.15
"""Parts of the way from a constant answer to a perfect one that accuracy and mean recall must reach."""
MIN_AREA = 0.6
SPLIT_TOLERANCE = 0.02
"""Difference of a figure between two splits of the same data that is accepted besides chance."""
COVERAGES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""A constant mask marks the pixels that are foreground in at least this share of the images."""


@dataclass(frozen=True)
class NoInformation:
    """The original compared with the best constant answer; true when the original is better.

    Args:
        figure: name of what is compared: "accuracy" or "Dice".
        original: the original's figure.
        constant: figure of the best constant answer.
        answer: the best constant answer in words.
        better: whether the original is better by more than chance.
        same: whether the original gives every image the same answer.
        n: number of cases or patients that were compared.
        unit: "cases" or "patients".
    """

    figure: str
    original: float
    constant: float
    answer: str
    better: bool
    same: bool
    n: int
    unit: str

    def __bool__(self) -> bool:
        return self.better

    def __str__(self) -> str:
        measured = f"{self.figure} {100 * self.original:.2f} % on {self.n} {self.unit} of the guard split"
        return f"{measured}; {self.answer} reaches {100 * self.constant:.2f} %"

    def as_dict(self) -> dict[str, Any]:
        """The form that the report uses."""
        return {
            "figure": self.figure.lower(),
            "guard": self.original,
            "constant": self.constant,
            "constant_answer": self.answer,
            "better_than_constant": self.better,
            **self._interval(),
            "n": self.n,
            "unit": self.unit,
        }

    def _interval(self) -> dict[str, float]:
        """Wilson's bounds of an accuracy, 95 % between them; no bounds of other figures, which are no shares of cases."""
        if self.figure != "accuracy" or self.n == 0:
            return {}
        low, high = wilson(self.original * self.n, self.n, quantile(0.975))
        return {"low": low, "high": high}


def no_information(score: Score, labels: Array, limits: Limits) -> NoInformation:
    """Compare a score with the best constant answer on the same cases.

    Args:
        score: the original's score on the guard split.
        labels: labels of the guard split: classes (N,), or masks in either form of `optimize.data.masks`.
        limits: the guard-rails; they say whether the network is used by rank.
    """
    compared: NoInformation = kinds()[score.task].no_information(score, labels, limits)
    return compared


def of_classes(answers: ClassificationScore, limits: Limits) -> NoInformation:
    """Compare a classification with the class that is the most frequent, given every time."""
    counts = np.bincount(answers.labels, minlength=len(answers.classes))
    usual = int(counts.argmax())
    constant = answers.labels == usual
    rate, accuracy = float(constant.mean()), answers.accuracy
    # The "drop" from the original to the constant answer is how much better the original is, and its lower bound allows for chance.
    gain = drop_of_share(answers.correct, constant, CONFIDENCE, answers.patients)
    # Both are needed: with 100,000 cases a gain of 1 pp is beyond chance, and may still be of no use.
    better = gain.low > 0 and accuracy - rate >= SKILL * (1 - rate)
    # One of the three ways is enough. A network for a rare disease may be useful although it never beats "healthy" in accuracy.
    by_rank = limits.metric == "auc" or limits.threshold is not None
    better = better or _balanced(answers, counts) or (by_rank and _ranks(answers))
    # The probabilities must be equal, too: a network used by rank may order the cases well and still predict one class for all.
    same = bool((answers.predicted == answers.predicted[0]).all()) and float(np.ptp(answers.probabilities, axis=0).max()) < 1e-4
    answer = f"answering {answers.classes[usual]!r} every time"
    return NoInformation("accuracy", accuracy, rate, answer, better and not same, same, len(answers), "cases")


def _balanced(answers: ClassificationScore, counts: Array) -> bool:
    """Whether the mean recall is above 1 / K, the recall of every constant answer, by more than chance and by `BALANCED_SKILL`."""
    occurring = np.flatnonzero(counts)
    if len(occurring) < 2:
        return False
    hits = np.array([answers.correct[answers.labels == k].sum() for k in occurring])
    recalls = (hits + 1) / (counts[occurring] + 2)  # 5 of 5 would have no spread; 6 of 7 has one
    spread = sqrt(float((recalls * (1 - recalls) / counts[occurring]).sum())) / len(occurring)
    # The measured recalls give the figure, and the adjusted ones only its spread: adjusting the figure would favour a constant answer.
    low = float((hits / counts[occurring]).mean()) - quantile(CONFIDENCE) * spread
    return low > 1 / len(occurring) + BALANCED_SKILL * (1 - 1 / len(occurring))


def _ranks(answers: ClassificationScore) -> bool:
    """Whether the probabilities rank the cases of any class above all other cases, by more than chance."""
    from scipy.stats import mannwhitneyu

    ranked = [k for k, cases in enumerate(np.bincount(answers.labels, minlength=len(answers.classes))) if 0 < cases < len(answers)]
    for k in ranked:
        own = answers.labels == k
        # As a task of two classes, so that the area is that of class k alone: both columns have the same area.
        area = macro_auc(np.stack([1 - answers.probabilities[:, k], answers.probabilities[:, k]], axis=1), own.astype(np.int64))
        chance = mannwhitneyu(answers.probabilities[own, k], answers.probabilities[~own, k], alternative="greater").pvalue
        # Ten classes are ten chances of a lucky result, so each one must be convincing at a tenth of the error (Bonferroni).
        if area is not None and area > MIN_AREA and chance < (1 - CONFIDENCE) / len(ranked):
            return True
    return False


def of_masks(dice: SegmentationScore, masks: Array) -> NoInformation:
    """Compare masks with the best constant mask."""
    # The strongest constant answer is the one to beat. Marking nothing has Dice 0 where every image shows something.
    answers = {words: _constant(mask, masks, dice) for words, mask in _constant_masks(masks, len(dice.classes))}
    words, best = max(answers.items(), key=lambda item: item[1].overall)
    # A patient for whom one of the answers has no Dice cannot be compared.
    known = ~(np.isnan(dice.per_patient).all(1) | np.isnan(best.per_patient).all(1))
    gains = (_of_patients(dice) - _of_patients(best))[known]
    better = dice.overall > best.overall
    if len(gains) >= MIN_PATIENTS:
        better = better and mean_of(gains, CONFIDENCE, -1.0).for_search.low > 0
    same = len(dice.masks) > 1 and bool((dice.masks == dice.masks[:1]).all())
    return NoInformation("Dice", dice.overall, best.overall, words, better and not same, same, len(gains), "patients")


def _of_patients(dice: SegmentationScore) -> Array:
    """Mean over the classes of each patient's Dice, (patients,); a class without a Dice counts as 0."""
    return np.asarray(np.nan_to_num(dice.per_patient).mean(1))


def _constant_masks(masks: Array, classes: int) -> list[tuple[str, Array]]:
    """The constant masks as (words, mask), each (F, *spatial)."""
    # How many images have foreground at each pixel; centred organs give a blob in the middle, which is hard to beat by chance.
    counts = np.asarray(sum(truth.astype(np.int64) for truth in image_masks(masks, classes)))
    usual = "marking in every image the pixels that are foreground in"
    some = [(f"{usual} {100 * share:g} % of them", counts >= share * len(masks)) for share in COVERAGES]
    return [("marking nothing", np.zeros_like(counts, bool)), ("marking everything", np.ones_like(counts, bool)), *some]


def _constant(mask: Array, masks: Array, dice: SegmentationScore) -> SegmentationScore:
    outputs = perfect(mask[None], len(dice.classes))
    return score_masks(((outputs, truth[None]) for truth in image_masks(masks, len(dice.classes))), dice.classes, dice.patients)


def image_masks(masks: Array, classes: int) -> Iterator[Array]:
    """The masks image by image, (F, *spatial) of booleans: all classes of all images together might not fit into memory."""
    return (foreground(masks[item : item + 1], classes)[0] for item in range(len(masks)))


def unexpected(score: Score, expected: float, n: int) -> bool:
    """Whether the original misses the figure that its user expects, by more than chance and by more than splits differ.

    The bound is Wilson's at `CONFIDENCE`. For a mean of figures between 0 and 1 it is wider than needed, since a share varies most.
    `SPLIT_TOLERANCE` is added to it.

    Args:
        score: the original's score on the guard split.
        expected: the overall figure, in 0..1.
        n: number of independent cases or patients.
    """
    # Example: 90 % of 500 cases has the upper bound 92.7 %, and 94.7 % with the tolerance. An expected 95 % is missed, 94 % is not.
    high = wilson(score.overall * n, n, quantile(CONFIDENCE))[1]
    return high + SPLIT_TOLERANCE < expected


def exceeds(score: Score, expected: float, n: int) -> bool:
    """Whether the original is above the figure that its user expects, by more than chance and by more than splits differ.

    Args:
        score: the original's score on the guard split.
        expected: the overall figure, in 0..1.
        n: number of independent cases or patients.
    """
    low = wilson(score.overall * n, n, quantile(CONFIDENCE))[0]
    return low - SPLIT_TOLERANCE > expected
