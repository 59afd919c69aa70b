"""A network with one output for two classes, against the same network with two outputs, and against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optimize.candidate import Candidate
from optimize.data.dataset import Preprocessing, Split
from optimize.data.output_meaning import classes_of, meaning, of_two_classes, output_threshold, stated_threshold
from optimize.deploy.runner.decisions import Decisions
from optimize.deploy.runner.decisions import read as decisions_of
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.evaluate import evaluate
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits
from optimize.run.setting_checks import supported_outputs

CLASSES = ("healthy", "ill")
LOGITS = np.array([[-2.0], [0.4], [3.0], [-0.1], [0.2], [-4.0]], dtype=np.float32)
LABELS = np.array([0, 0, 1, 1, 1, 0])


def test_one_logit_decides_as_two_logits_of_which_the_first_is_zero() -> None:
    both = np.concatenate([np.zeros_like(LOGITS), LOGITS], axis=1)
    single, pair = answers(LOGITS, LABELS, CLASSES), answers(both, LABELS, CLASSES)
    assert single.predicted.tolist() == pair.predicted.tolist() == [0, 1, 1, 0, 1, 0]
    assert np.allclose(single.probabilities, pair.probabilities)
    # sensitivity 2 of 3, specificity 2 of 3; of the 9 pairs (ill, healthy) 7 are in order: 3.0 and 0.2 and -0.1 against -2, 0.4, -4
    assert single.per_class["ill"].recall == pytest.approx(2 / 3)
    assert single.per_class["healthy"].recall == pytest.approx(2 / 3)
    assert single.auc == pytest.approx(7 / 9)


def test_probabilities_are_found_by_their_values_and_cut_at_a_half() -> None:
    shares = 1 / (1 + np.exp(-LOGITS))
    assert meaning(LOGITS) == "logits"
    assert meaning(shares) == "probabilities"
    read = answers(shares, LABELS, CLASSES, meaning="probabilities")
    assert read.predicted.tolist() == answers(LOGITS, LABELS, CLASSES).predicted.tolist()
    # read as logits, all of them would be above 0
    assert answers(shares, LABELS, CLASSES).predicted.tolist() == [1] * 6


def test_the_threshold_moves_the_decision() -> None:
    # the logit of 0.3 is -0.847: only -2 and -4 are below it
    assert answers(LOGITS, LABELS, CLASSES, threshold=0.3).predicted.tolist() == [0, 1, 1, 1, 1, 0]
    split = Split("test", np.zeros((6, 1, 1, 1), np.float32), LABELS, Preprocessing())
    scored = evaluate(lambda inputs: LOGITS[: len(inputs)], replace(split, threshold=0.3))
    assert isinstance(scored, ClassificationScore)
    assert scored.classes == ("0", "1")
    assert scored.per_class["1"].recall == 1.0


def test_outputs_that_are_not_finite_count_as_wrong() -> None:
    outputs = LOGITS.copy()
    outputs[0], outputs[2] = np.nan, np.inf
    assert answers(outputs, LABELS, CLASSES).predicted.tolist() == [1, 1, 0, 0, 1, 0]


def test_recall_of_both_classes_is_judged() -> None:
    limits = Limits(threshold=0.5, max_sensitivity_drop=0.05, max_specificity_drop=0.05)
    labels, logits = np.repeat([0, 1], 200), np.repeat([-3.0, 3.0], 200).astype(np.float32)[:, None]
    worse = logits.copy()
    worse[200:240] = -1.0  # 40 of 200 ill cases are missed
    rails = judged_rails(limits, answers(logits, labels, CLASSES), answers(worse, labels, CLASSES))
    outcomes = {rail.title: rail.outcome for rail in rails}
    assert outcomes["recall of healthy"] == outcomes["specificity at 0.5 of ill"] == "pass"
    assert outcomes["recall of ill"] == outcomes["sensitivity at 0.5 of ill"] == "fail"


def test_a_threshold_is_a_logit_or_a_probability_and_comes_back() -> None:
    assert output_threshold(0.3, "logits") == pytest.approx(np.log(0.3 / 0.7))
    assert stated_threshold(output_threshold(0.3, "logits"), "logits") == pytest.approx(0.3)
    assert stated_threshold(1e308, "logits") == 1.0  # a manifest comes from outside
    assert (classes_of((1, 1)), classes_of((1, 5)), classes_of((1, 1, 8, 8))) == (2, 5, 1)
    assert supported_outputs((1, 1), 4)
    assert of_two_classes(LOGITS.repeat(3, 1), "logits").shape == (6, 3)


def test_the_runner_decides_as_the_guard_does() -> None:
    stated = {
        "task": "classification",
        "decision": "output above threshold: the second class, else the first",
        "classes": list(CLASSES),
        "threshold": output_threshold(0.3, "logits"),
        "meaning": "logits",
        "shape": ["N", 1],
    }
    decisions = decisions_of(stated)
    guard = answers(LOGITS, LABELS, CLASSES, threshold=0.3)
    assert decisions.numbers(LOGITS).tolist() == guard.predicted.tolist()
    assert decisions(LOGITS)[0] == "healthy"
    assert np.allclose(decisions.probabilities(LOGITS), guard.probabilities, atol=1e-6)
    assert Decisions("classification", True, "logits", CLASSES, None).outputs == 2


def test_a_candidate_with_one_output_is_evaluated() -> None:
    import torch
    from torch import nn

    net = Candidate(nn.Sequential(nn.Flatten(), nn.Linear(1, 1)).eval(), torch.ones(1, 1, 1, 1))
    images = np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    outputs = net.predict(images)[:, 0]
    found = evaluate(net.predict, Split("test", images, (outputs > 0).astype(np.int64), Preprocessing()))
    assert found.overall == 1.0
