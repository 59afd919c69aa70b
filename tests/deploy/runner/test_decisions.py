"""Decisions and probabilities are compared with torch, and with the run's own masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from optimize.data.masks import predicted
from optimize.deploy.runner.decisions import Decisions, read
from optimize.deploy.runner.errors import Refused
from tests.deploy.runner.handmade import CLASSES, CLASSIFICATION, OVERLAPPING, WITH_BACKGROUND

SAID: dict[str, Any] = {"threshold": None, "classes": list(CLASSES)}
OUTPUTS = arrays.arrays(np.float32, (2, 4, 3, 3), elements=st.floats(-80, 80, width=32))


@given(OUTPUTS)
def test_probabilities_are_those_of_torch(outputs: np.ndarray) -> None:
    exclusive = read({**SAID, **WITH_BACKGROUND, "shape": ["N", 4, 3, 3]})
    single = Decisions("segmentation", False, "logits", CLASSES, 0.0)
    as_doubles = torch.from_numpy(outputs.astype(np.float64))
    np.testing.assert_allclose(exclusive.probabilities(outputs), as_doubles.softmax(1).numpy(), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(single.probabilities(outputs), as_doubles.sigmoid().numpy(), rtol=1e-12)


@given(OUTPUTS)
def test_masks_are_those_that_a_run_judges(outputs: np.ndarray) -> None:
    numbers = read({**SAID, **WITH_BACKGROUND, "shape": ["N", 4, 3, 3]})(outputs)
    assert isinstance(numbers, np.ndarray)
    as_masks = numbers[:, None] == np.arange(1, 4).reshape(-1, 1, 1)
    np.testing.assert_array_equal(as_masks, predicted(outputs, np.zeros((2, 3, 3), np.int64)))
    overlapping = read({**SAID, **OVERLAPPING, "threshold": 0.5, "meaning": "probabilities", "shape": ["N", 3, 3, 3]})(outputs[:, :3])
    np.testing.assert_array_equal(overlapping, predicted(outputs[:, :3], np.zeros((2, 3, 3, 3), bool), "probabilities"))


def test_classes_are_named() -> None:
    said = read({**SAID, **CLASSIFICATION, "shape": ["N", 3], "meaning": "probabilities"})
    outputs = np.array([[0.2, 0.5, 0.3], [0.8, 0.1, 0.1]], np.float32)
    assert said(outputs) == ["basophil", "platelet"]
    np.testing.assert_array_equal(said.probabilities(outputs), outputs.astype(np.float64))


def test_more_classes_than_a_byte_holds_get_two() -> None:
    outputs = np.zeros((1, 301, 1, 1), np.float32)
    outputs[0, 300] = 1
    masks = Decisions("segmentation", True, "logits", tuple(map(str, range(300))), None)(outputs)
    assert isinstance(masks, np.ndarray)
    assert masks.item() == 300


@pytest.mark.parametrize(
    "changes",
    [{"decision": "vote"}, {"task": "segmentation"}, {"shape": ["N", 4]}, {"meaning": "energy"}, {"threshold": 0.5}, {"classes": None}],
)
def test_outputs_that_are_not_known_refuse_the_bundle(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="outputs that this runner does not know"):
        read({**SAID, **CLASSIFICATION, "shape": ["N", 3], **changes})
