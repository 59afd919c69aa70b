"""Drawn figures against the same figures of cases drawn by hand, and against formulas for the spread."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, precision_score, roc_auc_score

from optimize.guard import bootstrap
from optimize.guard.bootstrap import BOOTSTRAP_OF_PATIENTS, Sample, bootstrap_estimate, on_all_cases, sample
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.confidence_calibration import expected_calibration_error
from optimize.guard.judged_rails import judged_rails as rails
from optimize.guard.limits import Limits, Relative
from optimize.guard.rail import Rail
from tests.guard.made import moved


def pair_of(cases: int, seed: int, classes: int = 3) -> tuple[ClassificationScore, ClassificationScore]:
    """Two models of middling quality that mostly agree."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=cases)
    logits = np.eye(classes)[labels] * 1.5 + rng.standard_normal((cases, classes))
    other = logits + 0.4 * rng.standard_normal((cases, classes))
    names = "abcdef"[:classes]
    return answers(logits.astype(np.float32), labels, names), answers(other.astype(np.float32), labels, names)


def find(found: list[Rail], title: str) -> Rail:
    return next(rail for rail in found if rail.title == title)


def test_a_drawn_share_has_the_spread_of_a_share() -> None:
    hits = (np.arange(200) < 30).astype(float)
    drawn = sample({"share": lambda block: ((block.weights @ hits) / 200,) * 2}, 200)["share"].replicates
    assert drawn.shape == (2, 2000)
    assert drawn[0].mean() == pytest.approx(0.15, abs=0.002)
    assert drawn[0].std() == pytest.approx((0.15 * 0.85 / 200) ** 0.5, rel=0.06)


def test_whole_patients_are_drawn() -> None:
    hits, patients = np.repeat([1.0, 0.0], [40, 60]), np.repeat(np.arange(10), 10)
    share = {"share": lambda block: ((block.weights @ hits) / block.weights.sum(1),) * 2}
    drawn = sample(share, 100, patients=patients)["share"].replicates[0]
    assert drawn.std() == pytest.approx((0.4 * 0.6 / 10) ** 0.5, rel=0.06)
    assert set(np.round(drawn * 10, 6) % 1) == {0.0}


def test_the_same_seed_draws_the_same_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def share(block):
        return ((block.weights @ np.arange(50.0)) + block.unseen[:, 0, 1],) * 2

    first, second, other = (sample({"x": share}, 50, 2, seed=seed)["x"].replicates for seed in (0, 0, 1))
    monkeypatch.setattr(bootstrap, "VALUES_AT_ONCE", 5000)
    blocks = sample({"x": share}, 50, 2)["x"].replicates
    assert np.array_equal(first, second)
    assert np.array_equal(first, blocks)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(3))
def test_drawn_figures_are_those_of_the_drawn_cases(seed: int) -> None:
    """Every figure on the cases as they are, against scikit-learn's."""
    before, after = pair_of(120, seed)
    limits = Limits(metric="auc", class_metric="precision", min_class_f1=0.1, max_ece_rise=0.5, verdict="point")
    found = rails(limits, before, after)
    for k, name in enumerate("abc"):
        rail, floor = find(found, f"precision of {name}"), find(found, f"F1 of {name}")
        assert rail.baseline == pytest.approx(precision_score(before.labels == k, before.predicted == k))
        assert rail.candidate == pytest.approx(precision_score(after.labels == k, after.predicted == k))
        assert floor.candidate == pytest.approx(f1_score(after.labels == k, after.predicted == k))
    assert found[0].baseline == pytest.approx(np.mean([roc_auc_score(before.labels == k, before.probabilities[:, k]) for k in range(3)]))
    assert found[0].baseline == pytest.approx(before.auc)
    error = find(found, "expected calibration error")
    assert error.value == pytest.approx(
        expected_calibration_error(after.probabilities.max(1), after.correct)
        - expected_calibration_error(before.probabilities.max(1), before.correct),
        abs=1e-9,
    )


@pytest.mark.parametrize("metric", ["macro_f1", "auc", "accuracy"])
def test_a_drawn_drop_has_bounds_like_those_of_many_samples(metric: str) -> None:
    """The spread of a drop over fresh samples of the same two models, against the width of one interval."""
    values, widths = [], []
    for seed in range(60):
        rail = rails(Limits(metric=metric), *pair_of(150, seed))[0]
        values.append(rail.value)
        ends = rail.estimate.for_search
        widths.append((ends.high - ends.low) / (2 * 1.645))
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.3)


@pytest.mark.parametrize("metric", ["f1", "precision"])
def test_a_class_of_a_dozen_that_was_all_right_is_not_beyond_doubt(metric: str) -> None:
    rail = rails(Limits(class_metric=metric), *moved(0, 0, 12))[1]
    assert (rail.value, rail.outcome) == (0.0, "inconclusive")
    assert rail.estimate.low < -0.06
    assert rail.estimate.high > 0.06


@pytest.mark.parametrize("cases", [6, 12, 30])
def test_a_floor_of_f1_is_bounded_like_the_share_it_comes_from(cases: int) -> None:
    """All right: the overlap is a share of `cases` hits of as many, and F1 = 2 J / (1 + J)."""
    floor = find(rails(Limits(min_class_f1=0.9), *moved(0, 0, cases)), "F1 of a")
    share = stats.binomtest(cases, cases).proportion_ci(0.9, method="exact").low
    assert (floor.value, floor.estimate.low) == (1.0, pytest.approx(2 * share / (1 + share)))
    assert (floor.rule, floor.estimate.n) == ("floor", cases)


@pytest.mark.parametrize("cases", [12, 40])
def test_a_class_without_a_loss_may_hold_a_case_that_is_lost(cases: int) -> None:
    """One of the class's cases in so many as Clopper and Pearson leave open, and F1 falls by about as much."""
    rail = rails(Limits(class_metric="precision"), *moved(0, 0, cases))[1]
    assert rail.estimate.high >= 0.9 * stats.binomtest(0, cases).proportion_ci(0.9, method="exact").high


def test_a_figure_that_draws_cannot_tell_has_the_widest_bounds() -> None:
    values = np.where(np.arange(2000) % 10 == 0, np.nan, 0.01)
    found = bootstrap_estimate(Sample(values[None], np.zeros((1, 9))), 0.01, 0.95, 9, None)
    assert (found.low, found.high) == (-1.0, 1.0)
    even = Sample(np.linspace(0, 1, 2001)[None], np.zeros((1, 9)))
    known = bootstrap_estimate(even, 0.5, 0.95, 9, np.array([0, 0, 1]))
    assert (known.n, known.unit, known.method) == (2, "patients", BOOTSTRAP_OF_PATIENTS)
    spread, ends = stats.uniform.std() / 3, (0.5 - (0.5 - known.low) / 3, 0.5 + (known.high - 0.5) / 3)
    expected = stats.norm.cdf((0.6 - ends[1]) / spread), stats.norm.cdf((ends[0] - 0.6) / spread)
    assert known.odds(9.0, 0.6) == (pytest.approx(expected[0], rel=0.02), pytest.approx(expected[1], rel=0.02))
    many = bootstrap_estimate(even, 0.5, 0.95, 100_000, None)
    assert (many.low, many.high) == (pytest.approx(0.05, abs=1e-3), pytest.approx(0.95, abs=1e-3))


def test_the_bounds_are_like_scipys_bca() -> None:
    """A mean of skewed values, as a share of its own weights."""
    values = np.random.default_rng(4).exponential(0.1, 300)

    def mean(block):
        figure = (block.weights @ values) / block.weights.sum(1)
        return figure, np.zeros_like(figure)

    found = bootstrap_estimate(sample({"x": mean}, 300)["x"].drops(), float(values.mean()), 0.95, 300, None)
    expected = stats.bootstrap((values,), np.mean, confidence_level=0.9, method="BCa", n_resamples=9999, rng=0).confidence_interval
    assert found.high >= found.usual[1]
    assert found.usual == (pytest.approx(expected.low, abs=1e-3), pytest.approx(expected.high, abs=1e-3))


def test_a_relative_limit_is_of_the_originals_figure() -> None:
    before, after = moved(8, 0, 72, 20)
    for metric, original in (("recall", 0.8), ("f1", None)):
        rail = rails(Limits(max_class_drop=Relative(0.2), class_metric=metric), before, after)[1]
        assert rail.baseline == pytest.approx(original or 2 * 80 / 180)
        assert rail.limit == pytest.approx(0.2 * rail.baseline)
        assert rail.outcome == "pass"
        assert rails(Limits(max_class_drop=Relative(0.02), class_metric=metric), before, after)[1].outcome == "fail"


def test_once_is_the_figure_itself() -> None:
    assert on_all_cases(lambda block: (block.weights.sum(1), block.unseen.sum((1, 2))), 7) == (7.0, 0.0)
