"""Numbers: figures by hand and by closed formulas, bounds by Student's formula, and limits that fire."""

from __future__ import annotations

import pickle
from typing import cast

import numpy as np
import pytest
import torch
from scipy.stats import t

from optimize.candidate import Meaning
from optimize.data.dataset import Preprocessing, Split
from optimize.data.label_kinds import checked_numbers, kind_of_labels
from optimize.data.output_meaning import Values, logits, plain, scaled
from optimize.deploy.runner.decisions import read as decisions_of
from optimize.errors import InputError
from optimize.guard.evaluate import evaluate
from optimize.guard.flips import flips
from optimize.guard.intervals import Estimate
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits, Relative
from optimize.guard.no_information import no_information
from optimize.guard.regression_comparison import RegressionComparison
from optimize.guard.regression_score import RegressionScore, score_numbers
from optimize.run.recipe import resolve
from optimize.run.setting_checks import require_figures
from optimize.steps.fit_output import FitOutput
from optimize.training.distillation import objective

AGE = ("age",)


def sampled(n: int, error: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ages (n, 1), and predictions with errors of this standard deviation."""
    made = np.random.default_rng(seed)
    ages = made.normal(50, 10, (n, 1)).astype(np.float32)
    return ages, (ages + made.normal(0, error, (n, 1))).astype(np.float32)


def scored(outputs: np.ndarray, ages: np.ndarray, patients: np.ndarray | None = None) -> RegressionScore:
    return score_numbers([(outputs, ages)], AGE, patients)


def test_figures_are_those_by_hand() -> None:
    ages, given = np.array([[40.0], [50.0], [60.0], [70.0]]), np.array([[42.0], [49.0], [65.0], [70.0]])
    score = score_numbers([(given[:1], ages[:1]), (given[1:], ages[1:])], AGE).per_class["age"]
    assert (score.mae, score.bias, score.relative_error) == (2.0, 1.5, 0.2)
    assert score.rmse == pytest.approx((30 / 4) ** 0.5)
    assert score.r2 == pytest.approx(1 - 30 / 500)


def test_floats_are_a_regression_and_floats_of_zero_and_one_are_asked_about() -> None:
    assert kind_of_labels({"val_labels": np.array([1.5, 2.0]), "test_labels": np.array([0.0, 1.0])}) == "regression"
    with pytest.raises(InputError, match=r"0 and 1 as floats: pass --task regression .* --task classification if they are classes"):
        kind_of_labels({"test_labels": np.array([0.0, 1.0])})
    images = np.zeros((2, 4, 4), np.uint8)
    assert checked_numbers({"val_images": images, "val_labels": np.array([1, 7])}, "val").tolist() == [[1.0], [7.0]]
    with pytest.raises(InputError, match=r"`val_labels`\[1\] is nan: every number must be finite"):
        checked_numbers({"val_images": images, "val_labels": np.array([1.0, np.nan])}, "val")


def test_the_rise_of_the_error_has_student_s_bound_and_a_worst_case() -> None:
    ages, before = sampled(400, 2.0)
    after = before + np.random.default_rng(3).normal(0, 0.5, before.shape).astype(np.float32)
    compared = RegressionComparison(Limits(), scored(before, ages), scored(after, ages))
    estimate, old, new = compared.rise_of_error(0, 0.02)
    spread = np.abs(ages - np.median(ages)).mean()
    rises = ((np.abs(after - ages) - np.abs(before - ages)) / spread)[:, 0]
    assert (estimate.value, new - old) == (pytest.approx(rises.mean(), abs=1e-6), pytest.approx(rises.mean(), abs=1e-6))
    student = rises.mean() + t.ppf(0.95, 399) * rises.std(ddof=1) / 20
    assert estimate.for_search.high == pytest.approx(student, abs=2e-4)
    assert student < estimate.high < student + 3 / 400 * 1.5  # one more case that loses a whole spread
    assert (estimate.unit, estimate.n) == ("cases", 400)
    # twins of one patient are one observation, and widen the bound
    twice = np.repeat(np.arange(400), 2)
    pair = [scored(np.repeat(outputs, 2, 0), np.repeat(ages, 2, 0), twice) for outputs in (before, after)]
    grouped = RegressionComparison(Limits(), *pair).rise_of_error(0, 0.02)[0]
    assert (grouped.unit, grouped.n) == ("patients", 400)
    assert grouped.high == pytest.approx(estimate.high, abs=1e-4)


def test_limits_fire_relative_and_absolute() -> None:
    ages, before = sampled(2000, 2.0)
    worse = np.where(np.arange(2000)[:, None] % 2, before + 1, before - 1)

    def outcomes(candidate: np.ndarray, **limits: float) -> dict[str, str]:
        found = judged_rails(Limits(**limits), scored(before, ages), scored(candidate, ages))
        return {rail.title: rail.outcome for rail in found}

    assert outcomes(before) == {"relative absolute error": "pass"}
    assert outcomes(worse, max_mae_rise=Relative(0.05)) == {"relative absolute error": "fail"}
    assert outcomes(worse, max_mae_rise=Relative(0.3)) == {"relative absolute error": "pass"}
    assert outcomes(before + 2, max_mae_rise=0.5, max_bias=0.1) == {"relative absolute error": "pass", "relative bias": "fail"}
    assert outcomes(before - 2, max_mae_rise=0.5, max_bias=0.5)["relative bias"] == "pass"


def test_the_sign_of_a_bias_does_not_matter_to_its_bounds() -> None:
    ages, before = sampled(500, 2.0)

    def bias(shift: float) -> Estimate:
        return RegressionComparison(Limits(), scored(before, ages), scored(before + shift, ages)).bias(0)[0]

    mean = float((before - ages).mean())
    up, down = bias(3.0 - mean), bias(-3.0 - mean)
    assert up.value == pytest.approx(down.value, rel=1e-4)
    assert 0 < down.low < down.value < down.high
    assert bias(-mean).low == 0.0


def test_several_targets_are_judged_each_in_its_own_unit() -> None:
    made = np.random.default_rng(0)
    truth = made.normal(0, (1, 1000), (800, 2))
    worse = truth + made.normal(0, (0.3, 100), truth.shape)
    names = ("ejection", "volume")
    baseline, candidate = (score_numbers([(outputs, truth)], names) for outputs in (truth, worse))
    rails = judged_rails(Limits(max_mae_rise=0.2), baseline, candidate)
    assert [(rail.title, rail.outcome) for rail in rails] == [
        ("relative absolute error of ejection", "fail"),
        ("relative absolute error of volume", "pass"),
    ]


def test_a_network_that_answers_the_median_knows_nothing() -> None:
    ages, given = sampled(300, 2.0)
    assert no_information(scored(given, ages), ages, Limits())
    compared = no_information(scored(np.full_like(ages, 50.0), ages), ages, Limits())
    assert not compared
    assert compared.same


def test_outputs_that_are_not_finite_are_off_by_the_whole_range() -> None:
    ages, given = sampled(50, 0.0)
    given[7] = np.inf
    assert scored(given, ages).per_class["age"].mae == pytest.approx(np.ptp(ages) / 50, rel=1e-5)


def test_numbers_that_moved_far_are_listed() -> None:
    ages = np.array([[40.0], [50.0], [60.0], [70.0]])
    before, after = ages + 1, np.array([[41.0], [51.0], [67.0], [70.0]])
    changed = flips(scored(before, ages), scored(after, ages), names=("a", "b", "c", "d"))
    assert [(flip.case, flip.kind, flip.truth, flip.baseline, flip.candidate) for flip in changed] == [("c", "regressed", "60", "61", "67")]


def test_a_split_of_numbers_is_counted_cut_and_hashed() -> None:
    ages = np.array([[1.0], [2.0], [3.0], [4.25]], dtype=np.float32)
    split = Split("val", np.zeros((4, 1, 1, 1), np.float32), ages, Preprocessing(), kind="regression")
    assert (split.class_counts(AGE), split.strata(1).tolist()) == ({"age": 4}, [0, 1, 2, 3])
    other = Split("val", split.images, ages + 0.25, Preprocessing(), kind="regression")
    assert split.sha256 != other.sha256
    assert evaluate(lambda inputs: ages[: len(inputs)], split, AGE).overall == 1.0


def test_values_are_compared_by_the_spread_of_the_labels_and_travel() -> None:
    meaning = scaled(np.array([40.0, 60.0]))
    assert isinstance(meaning, Values)
    assert (meaning.middle, meaning.spread, plain(meaning)) == ((50.0,), (10.0,), "values")
    again = pickle.loads(pickle.dumps(meaning))
    assert (again, again.middle) == ("values", (50.0,))
    assert logits(torch.tensor([[65.0]]), meaning, exclusive=False).tolist() == [[1.5]]
    loss = objective((2, 1), np.float32([[40.0], [60.0]]), 1.0, 0.25, meaning)
    labels, outputs, targets = torch.tensor([[40.0], [60.0]]), torch.tensor([[50.0], [60.0]]), torch.tensor([[40.0], [70.0]])
    # a quarter of the distance to the original, (1 + 1) / 2, and three quarters of that to the labels, (1 + 0) / 2
    assert float(loss(outputs, targets, labels)) == pytest.approx(0.25 * 1 + 0.75 * 0.5)


def test_the_last_layer_is_fitted_to_numbers() -> None:
    from torch import nn

    from optimize.candidate import Candidate, Reference

    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(0, 1, (256, 6)).astype(np.float32)
    net = nn.Sequential(nn.Linear(6, 1))
    original = Candidate(net.eval(), torch.from_numpy(images[:1]), outputs=cast(Meaning, Values((0.0,), (1.0,))))
    changed = nn.Sequential(nn.Linear(6, 1)).eval()
    candidate = Candidate(changed, original.example, outputs=original.outputs)
    fitted = FitOutput(l2=0.0)(candidate, Reference(original, images))
    assert np.allclose(fitted.predict(images), original.predict(images), atol=0.02)


def test_limits_of_classes_are_refused_and_read_from_text() -> None:
    with pytest.raises(InputError, match=r"`max_drop` \(=0.1\) is for .*, and this model gives numbers"):
        require_figures(Limits(max_drop=0.1), "regression")
    with pytest.raises(InputError, match=r"`max_bias` \(=0.1\) is for numbers, and this model gives classes"):
        require_figures(Limits(max_bias=0.1), "classification")
    limits = resolve("net.pt", target="onnxruntime", overrides={"max_mae_rise": "5%", "task": "regression"}).limits
    assert limits.max_mae_rise == 0.05
    assert isinstance(limits.max_mae_rise, Relative)


def test_the_runner_gives_the_numbers() -> None:
    stated = {"task": "regression", "decision": "the output is the number", "classes": ["age"], "threshold": None, "meaning": "values"}
    decisions = decisions_of({**stated, "shape": ["N", 1]})
    assert np.asarray(decisions(np.array([[52.5]], np.float32))).tolist() == [[52.5]]
    assert decisions.probabilities(np.array([[52.5]], np.float32)).tolist() == [[52.5]]
