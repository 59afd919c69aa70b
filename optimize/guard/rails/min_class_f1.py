"""F1 that every class must reach; with masks, mean Dice.

F1 is no share of cases, but it rises with one. Take the cases that are of the class or predicted as it: with J the share of them that are
both, F1 = 2 J / (1 + J). So the exact bounds of J give exact bounds of F1. Example: 90 cases are of the class, 92 are predicted as it, 80
are both. Then J = 80 / 102 = 0.784, and F1 = 2 * 80 / (90 + 92) = 0.879 = 2 J / (1 + J).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.intervals import Estimate
    from optimize.guard.mask_comparison import MaskComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.intervals import share_of

    baseline, candidate = compared.baseline, compared.candidate
    for k, name in enumerate(baseline.classes):
        true, predicted = baseline.labels == k, candidate.predicted == k
        if not true.any():
            continue  # max_class_drop has said that the class has no case
        # Cases that are neither of the class nor predicted as it do not enter F1, so they are no cases of J.
        either = true | predicted
        overlap = share_of((true & predicted)[either], compared.limits.confidence, compared.patients_of(either))
        f1 = baseline.per_class[name].f1, candidate.per_class[name].f1
        yield compared.rail("floor", limit, "F1", f1_of_overlap(overlap, int(true.sum())), *f1, scope="class", name=name)


def _masks(compared: MaskComparison, limit: float) -> Iterator[Rail]:
    baseline = compared.baseline.figures
    for name, dice in compared.candidate.figures.items():
        yield compared.rail("floor", limit, "Dice", compared.class_dice(name), baseline.get(name), dice, scope="class", name=name)


def f1_of_overlap(overlap: Estimate, cases: int) -> Estimate:
    """F1 with its bounds, from the overlap J, see above.

    Args:
        overlap: J with its bounds.
        cases: number of cases of the class.
    """
    from optimize.guard.intervals import Estimate

    def f1(share: float) -> float:
        return 2 * share / (1 + share)

    def odds(times: float, limit: float) -> tuple[float, float]:
        assert overlap.odds is not None
        # The inverse of F1 = 2 J / (1 + J): a limit of 0.85 on F1 is a limit of 0.739 on J.
        return overlap.odds(times, limit / (2 - limit))

    method = f"{overlap.method}, of the cases that are of the class or taken for it"
    usual = None if overlap.usual is None else (f1(overlap.usual[0]), f1(overlap.usual[1]))
    ends = f1(overlap.low), f1(overlap.high)
    return Estimate(f1(overlap.value), *ends, cases, overlap.unit, method, odds if overlap.odds else None, usual=usual)


RAIL = GuardRail(
    name="min_class_f1",
    rule="floor",
    help="F1, or Dice, that every class must reach.",
    example="0.85",
    criterion="{f1} of every class",
    classification=_classes,
    segmentation=_masks,
    default=0.0,
    on_training_images=False,
    in_format_2=True,
    order=40,
)
