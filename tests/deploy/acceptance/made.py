"""Cases of a site and models, made in the test: a model is a table of outputs, one row for each case."""

from __future__ import annotations

from typing import Any

import numpy as np

from optimize.candidate import Floats, Predict
from optimize.data.preprocessing import Preprocessing
from optimize.deploy.acceptance.local_cases import LocalCases, local_cases
from optimize.deploy.acceptance.model_use import ModelUse
from optimize.run.verification.site import replayed

CLASSES = ("a", "b", "c")


def use(**changes: Any) -> ModelUse:
    """A classifier of 2 x 2 grey images."""
    usual: dict[str, Any] = {
        **{"task": "classification", "classes": CLASSES, "meaning": "logits", "overlapping": False, "preprocessing": Preprocessing()},
        **{"bytes_stored": True, "input_shape": (1, 2, 2), "output_shape": (3,), "input_range": (0.0, 1.0)},
    }
    return ModelUse(**(usual | changes))


def mask_use(**changes: Any) -> ModelUse:
    """A segmentation of 4 x 4 grey images: one class, and the background."""
    return use(**({"task": "segmentation", "classes": ("organ",), "input_shape": (1, 4, 4), "output_shape": (2, 4, 4)} | changes))


def images(count: int, size: int = 2) -> np.ndarray:
    """Grey images over the whole range."""
    return np.random.default_rng(3).integers(0, 256, (count, size, size), np.uint8)


def unlabelled(count: int, of: ModelUse | None = None, **arrays: Any) -> LocalCases:
    """Cases without labels."""
    chosen = use() if of is None else of
    return local_cases({"images": images(count, chosen.input_shape[-1]), **arrays}, chosen)


def answering(classes: np.ndarray) -> Predict:
    """A model that gives these classes, case by case."""
    return replayed(np.eye(len(CLASSES), dtype=np.float32)[classes])


def marking(masks: np.ndarray) -> Predict:
    """A model that marks these pixels, (N, 4, 4), as class 1."""
    outputs: Floats = np.stack([1.0 - masks, masks], axis=1).astype(np.float32)
    return replayed(outputs)
