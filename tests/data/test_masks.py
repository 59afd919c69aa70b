"""The two forms of a mask, by hand."""

from __future__ import annotations

import numpy as np

from optimize.data.masks import foreground, perfect, predicted, shown

INDICES = np.array([[[0, 1, 2]], [[0, 0, 2]]], dtype=np.uint8)  # (2, 1, 3)
OVERLAPPING = np.array([[[True, True, False]], [[False, True, False]]])[:, None].repeat(2, 1)  # (2, 2, 1, 3)
OVERLAPPING[1, 0] = False


def test_the_background_is_no_class() -> None:
    assert foreground(INDICES, 2).astype(int).tolist() == [[[[0, 1, 0]], [[0, 0, 1]]], [[[0, 0, 0]], [[0, 0, 1]]]]
    assert np.array_equal(foreground(OVERLAPPING, 2), OVERLAPPING)
    assert shown(INDICES, 2).tolist() == [[True, True], [False, True]]
    assert shown(OVERLAPPING, 2).tolist() == [[True, True], [False, True]]


def test_indices_take_the_largest_logit_and_masks_those_above_0() -> None:
    outputs = np.array([[[[0.1, -1.0, -3.0]], [[0.2, -2.0, 5.0]], [[-1.0, -0.5, 4.0]]]], dtype=np.float32)  # (1, 3, 1, 3)
    assert predicted(outputs, INDICES).astype(int).tolist() == [[[[1, 0, 1]], [[0, 1, 0]]]]
    assert predicted(outputs[:, :2], OVERLAPPING).astype(int).tolist() == [[[[1, 0, 0]], [[1, 0, 1]]]]
    assert not predicted(np.zeros((1, 1, 2)), OVERLAPPING).any()


def test_perfect_outputs_decide_as_the_labels_say() -> None:
    for masks in (INDICES, OVERLAPPING):
        outputs = perfect(masks, 2)
        assert np.array_equal(predicted(outputs, masks), foreground(masks, 2))
        assert outputs.dtype == np.float32
    assert perfect(INDICES, 2).shape == (2, 3, 1, 3)
    labels = np.array([2, 0, 1])
    assert perfect(labels, 4).shape == (3, 4)
    assert np.array_equal(perfect(labels, 4).argmax(1), labels)
