"""Which limits a split can decide, against closed formulas and against the verdict itself on splits of one case more and one less."""

from __future__ import annotations

from math import ceil, log

import numpy as np
import pytest

from optimize.data.dataset import Preprocessing, Split
from optimize.guard.limits import Limits
from optimize.guard.score import score
from optimize.guard.verdict import judge
from optimize.run.decisive import best_possible_rails
from optimize.run.planning.decisions import Decision, decisions, smallest_limit

BERGER_BOOS = 1 - 1 / 50
"""Share of alpha that is left for an exact bound (`guard/exact.py`)."""


def split(*counts: int, **tags: np.ndarray) -> Split:
    """So many cases of each class; the images are never read."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return Split("test", np.zeros((len(labels), 2, 2), np.uint8), labels, Preprocessing(), **tags)


def by_title(found: tuple[Decision, ...]) -> dict[str, Decision]:
    return {one.title: one for one in found}


def closed(limit: float, confidence: float) -> int:
    """Smallest n with 1 - alpha^(1/n) <= limit: n cases without a loss show that the share of losses is within the limit."""
    return ceil(log((1 - confidence) * BERGER_BOOS) / log(1 - limit))


@pytest.mark.parametrize("limit", [0.02, 0.06, 0.15])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_number_that_is_needed_is_the_closed_one(limit: float, confidence: float) -> None:
    found = by_title(decisions(split(400, 30), ("a", "b"), Limits(max_drop=limit, max_class_drop=limit, confidence=confidence)))
    assert found["overall accuracy"].required_n == found["recall of b"].required_n == closed(limit, confidence)


def test_one_case_less_is_undecided_by_the_verdict_and_the_number_is_decided() -> None:
    limits = Limits(max_drop=0.5, max_class_drop=0.06)
    needed = by_title(decisions(split(300, 10), ("a", "b"), limits))["recall of b"].required_n
    assert needed is not None
    for count, outcome in ((needed - 1, "inconclusive"), (needed, "pass")):
        rails = {rail.title: rail.outcome for rail in best_possible_rails(split(300, count), ("a", "b"), limits)}
        assert rails["recall of b"] == outcome
        assert by_title(decisions(split(300, count), ("a", "b"), limits))["recall of b"].decidable == (outcome == "pass")


def test_so_many_cases_may_be_lost_and_not_one_more() -> None:
    limits, counts = Limits(max_drop=0.9, max_class_drop=0.06), (200, 80)
    found = by_title(decisions(split(*counts), ("a", "b"), limits))
    labels = np.repeat([0, 1], counts)
    right = np.eye(2, dtype=np.float32)[labels]
    original = score("classification", [(right, labels)], ("a", "b"))
    for lost, outcome in ((found["recall of a"].may_lose, "pass"), ((found["recall of a"].may_lose or 0) + 1, "inconclusive")):
        wrong = np.arange(len(labels)) < (lost or 0)
        candidate = score("classification", [(np.where(wrong[:, None], 1 - right, right), labels)], ("a", "b"))
        rails = {rail.title: rail.outcome for rail in judge(limits, original, candidate).rails}
        assert rails["recall of a"] == outcome


def test_what_has_to_be_added_is_said() -> None:
    found = by_title(decisions(split(200, 20), ("a", "b"), Limits(max_drop=0.02, max_class_drop=0.06)))
    small = found["recall of b"]
    assert (small.n, small.required_n, small.missing, small.decidable, small.may_lose) == (20, 49, 29, False, None)
    assert small.remedy == "add 29 test cases of b"
    assert found["recall of a"].missing == 0
    assert found["recall of a"].remedy is None
    assert small.as_dict()["needed"] == 49


def test_a_class_without_a_case_needs_what_its_neighbours_need() -> None:
    found = by_title(decisions(split(200, 0, 60), ("a", "b", "c"), Limits(max_class_drop=0.06)))
    assert (found["recall of b"].n, found["recall of b"].required_n, found["recall of b"].decidable) == (0, 49, False)


def test_subgroups_are_named_with_their_column() -> None:
    groups = {"site": np.array(["A"] * 190 + ["B"] * 30)}
    found = by_title(decisions(split(200, 20, groups=groups), ("a", "b"), Limits(max_class_drop=0.06)))
    few = next(one for one in found.values() if one.name == "B")
    assert (few.scope, few.column, few.n, few.remedy) == ("group", "site", 30, "add 19 test cases where site is B")


def test_masks_need_the_patients_that_their_comparison_states() -> None:
    masks = np.zeros((9, 1, 8, 8), bool)
    masks[:, :, 2:4] = True
    images, patients = np.zeros((9, 8, 8), np.uint8), np.arange(9).astype(str)
    found = decisions(Split("test", images, masks, Preprocessing(), patients), ("tumour",), Limits(max_drop=0.02, max_class_drop=0.06))
    # "a limit of 2 pp then takes at least 74 patients, and a limit of 6 pp at least 24": guard/mask_comparison.py
    assert [(one.n, one.unit, one.required_n, one.decidable) for one in found] == [(9, "patients", 74, False), (9, "patients", 24, False)]


def test_measured_values_are_decided_by_a_single_case() -> None:
    found = decisions(split(3, 1), ("a", "b"), Limits(verdict="point"))
    assert all(one.decidable for one in found)
    assert {one.required_n for one in found} == {1}


def test_the_bounds_of_the_search_need_fewer_cases() -> None:
    limits = Limits(max_drop=0.02, max_class_drop=0.06)
    verdict, search = (by_title(decisions(split(200, 45), ("a", "b"), limits, in_search=flag)) for flag in (False, True))
    assert not verdict["recall of b"].decidable
    assert search["recall of b"].decidable


def test_the_smallest_limit_is_the_one_that_the_cases_decide() -> None:
    few = by_title(decisions(split(200, 20), ("a", "b"), Limits(max_class_drop=0.06)))["recall of b"]
    least = smallest_limit(few, 0.95)
    assert least == pytest.approx(1 - (0.05 * BERGER_BOOS) ** (1 / 20), abs=0.001)
    assert by_title(decisions(split(200, 20), ("a", "b"), Limits(max_class_drop=least)))["recall of b"].decidable


def test_no_image_is_read() -> None:
    class Closed(np.ndarray):
        """Images whose pixels nobody may take."""

        def __getitem__(self, index: object) -> object:
            raise AssertionError("an image was read")

    test = split(200, 60)
    closed_images = np.zeros((260, 2, 2), np.uint8).view(Closed)
    size = Split("test", test.images, test.labels, Preprocessing()).batch_size
    unread = Split("test", closed_images, test.labels, Preprocessing())
    object.__setattr__(unread, "images", closed_images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Split, "batch_size", size)
        assert len(decisions(unread, ("a", "b"), Limits())) == 3
