"""Single cases whose decision changed, by hand; the unevenness against scipy's permutation test."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from scipy import stats

from optimize.data.masks import perfect
from optimize.guard.classification_score import answers
from optimize.guard.flips import MAX_LISTED, flips, summary, to_csv, unevenness
from optimize.guard.intervals import mcnemar
from optimize.guard.segmentation_score import score_masks
from tests.guard.made import moved

LABELS = np.array([0, 0, 1, 1, 2])
BEFORE = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.1, 0.6, 0.3]], dtype=np.float32)
AFTER = np.array([[0.1, 0.7, 0.2], [0.1, 0.9, 0.0], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.5, 0.2, 0.3]], dtype=np.float32)


def sides():
    groups = {"site": np.array(["x", "y", "x", "y", "x"])}
    return (answers(each, LABELS, ("a", "b", "c"), np.array(["p", "q", "r", "s", "t"]), groups) for each in (BEFORE, AFTER))


def test_who_flipped_and_how_sure() -> None:
    before, after = sides()
    found = flips(before, after, ["i0", "i1", "i2", "i3", "i4"], np.array(["p", "q", "r", "s", "t"]))
    assert [(flip.case, flip.kind) for flip in found] == [("i1", "regressed"), ("i0", "regressed"), ("i2", "fixed"), ("i4", "changed")]
    first = found[0].as_dict()
    assert first == {
        "id": "i1",
        "patient": "q",
        "groups": {"site": "y"},
        "kind": "regressed",
        "truth": "a",
        "before": "a",
        "after": "b",
        "confidence_before": pytest.approx(0.6),
        "confidence_after": pytest.approx(0.9),
    }
    whole = summary(found, 5)
    assert (whole["cases"], whole["regressed"], whole["fixed"], whole["changed"]) == (5, 2, 1, 1)
    assert whole["p_value"] == mcnemar(2, 1)


def test_the_table_holds_them_all_and_a_spreadsheet_runs_none_of_it() -> None:
    before, after = moved(MAX_LISTED + 30, 0, 10)
    names = [f"=cmd{k}" for k in range(len(before))]
    found = flips(before, after, names)
    assert len(summary(found, len(before))["listed"]) == MAX_LISTED
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert len(rows) == MAX_LISTED + 30
    assert rows[0]["id"] == "'=cmd0"
    assert {row["kind"] for row in rows} == {"regressed"}
    assert next(csv.reader(io.StringIO(to_csv([])))) == list(rows[0])


def test_subgroups_are_columns_of_the_table() -> None:
    before, after = sides()
    rows = list(csv.DictReader(io.StringIO(to_csv(flips(before, after, list("vwxyz"))))))
    assert [row["site"] for row in rows] == ["y", "x", "x", "x"]
    assert rows[0]["patient"] == ""


def test_not_even_the_name_of_a_column_is_a_formula() -> None:
    scores = [answers(each, LABELS, ("a", "b", "c"), None, {"=cmd|calc": np.array(list("xyxyx"))}) for each in (BEFORE, AFTER)]
    head = next(csv.reader(io.StringIO(to_csv(flips(scores[0], scores[1], list("vwxyz"))))))
    assert head[-1] == "'=cmd|calc"


def test_of_masks_what_flips_is_whether_a_class_is_shown() -> None:
    masks = np.zeros((3, 2, 6), dtype=bool)
    masks[0, 0, :3] = masks[1, 0, :2] = True
    new = masks.copy()
    new[0, 0], new[2, 1, 0] = False, True
    before, after = (score_masks([(perfect(each, 2), masks)], ("core", "rim")) for each in (masks, new))
    found = flips(before, after, ["s0", "s1", "s2"])
    assert [(flip.case, flip.about, flip.kind, flip.truth, flip.candidate) for flip in found] == [
        ("s0", "core", "regressed", "shown", "not shown"),
        ("s2", "rim", "regressed", "not shown", "shown"),
    ]
    assert found[0].as_dict()["class"] == "core"


def test_scores_of_two_tasks_are_not_compared() -> None:
    masks = np.zeros((5, 1, 6), dtype=bool)
    before, _ = sides()
    with pytest.raises(TypeError, match="one task"):
        flips(before, score_masks([(perfect(masks, 1), masks)], ("core",)), list("vwxyz"))


def pair_of(lost: list[int], cases: list[int]):
    labels = np.repeat(np.arange(len(cases)), cases)
    within = np.concatenate([np.arange(each) for each in cases])
    fallen = within < np.repeat(lost, cases)
    eye = np.eye(len(cases), dtype=np.float32)
    names = [f"c{k}" for k in range(len(cases))]
    return answers(eye[labels], labels, names), answers(eye[np.where(fallen, (labels + 1) % len(cases), labels)], labels, names)


@pytest.mark.parametrize(("lost", "cases"), [([5, 0, 0], [12, 100, 100]), ([4, 4, 4], [100, 100, 100]), ([6, 2, 3], [60, 50, 90])])
def test_unevenness_like_scipys_permutation_test(lost: list[int], cases: list[int]) -> None:
    found = unevenness(*pair_of(lost, cases))
    labels = np.repeat(np.arange(len(cases)), cases)
    marks = np.concatenate([np.arange(each) < some for each, some in zip(cases, lost, strict=True)]).astype(float)

    def statistic(dealt, axis):
        sums = np.stack([dealt[..., labels == k].sum(axis) for k in range(len(cases))], axis=-1)
        expected = np.array(cases) * sum(lost) / sum(cases)
        return ((sums - expected) ** 2 / expected).sum(-1)

    expected = stats.permutation_test((marks,), statistic, permutation_type="pairings", alternative="greater", n_resamples=4000, rng=0)
    assert found["p_value"] == pytest.approx(expected.pvalue, abs=0.03)
    assert [row["regressed"] for row in found["rows"]] == lost


def test_without_a_regression_there_is_nothing_to_ask() -> None:
    assert unevenness(*pair_of([0, 0], [5, 5]))["p_value"] is None
    assert unevenness(*pair_of([2, 0], [5, 0]))["p_value"] is None
