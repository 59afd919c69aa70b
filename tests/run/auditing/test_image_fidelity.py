"""Images of low rank: against sums of outer products, and a network that needs a known rank."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.run.auditing.image_fidelity import image_fidelity, low_rank_images, ranks


def image(*weights: float, size: int = 8) -> np.ndarray:
    """Outer products of orthonormal vectors: singular values are the weights."""
    left, right = (np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0] for seed in (0, 1))
    return np.asarray(sum(w * np.outer(left[:, k], right[:, k]) for k, w in enumerate(weights)), dtype=np.float32)


def test_the_largest_components_stay() -> None:
    images = np.stack([np.stack([image(3, 1), image(1, 3)])])
    kept, energy = low_rank_images(images, 1)
    np.testing.assert_allclose(kept[0, 0], image(3), atol=1e-5)
    np.testing.assert_allclose(kept[0, 1], image(0, 3), atol=1e-5)
    assert energy == pytest.approx(0.9)
    np.testing.assert_allclose(low_rank_images(images, 2)[0], images, atol=1e-5)
    assert low_rank_images(np.zeros((1, 1, 4, 4), np.float32), 1)[1] == 1


def test_the_class_that_lives_in_detail_falls_first() -> None:
    images = np.stack([image(3, 1)[None], image(3, -1)[None]] * 3)
    labels = np.array([0, 1] * 3)
    detail = image(0, 1)

    def predict(inputs: np.ndarray) -> np.ndarray:
        amount = (inputs[:, 0] * detail).sum((1, 2))
        # without detail the answer is 0
        return np.stack([amount + 0.5, -amount], 1)

    found = image_fidelity(predict, images, labels, ["plain", "fine"])
    assert [each.rank for each in found] == [1, 2, 4, 8] == list(ranks(8))
    assert (found[0].accuracy, found[0].recall) == (0.5, (1.0, 0.0))
    assert all(each.accuracy == 1 for each in found[1:])
    assert found[0].energy == pytest.approx(0.9)
    assert image_fidelity(predict, images[:1], labels[:1], ["plain", "fine"])[0].recall == (1.0, None)
