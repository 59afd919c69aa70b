"""From stored images to the network's input, bit for bit as the run did it, and the way back for masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import Refused, WrongInput
from .self_test import Floats

Array: TypeAlias = npt.NDArray[Any]

_STORED = {"uint8, channels last, 0 to 255": True, "float, channels first": False}


@dataclass(frozen=True)
class Preprocessing:
    """The steps that artifact.json states, in their order.

    Args:
        input_shape: (C, *spatial) of the network's input.
        whole: whether images are stored as uint8 with channels last; otherwise as floats with channels first.
        scaled: whether values are divided by 255.
        added_to_std: with standardization of each image, what is added to its standard deviation; None: there is none.
        mean: means to subtract, one for each channel or one for all; empty: none.
        std: standard deviations to divide by, as many as `mean`.
        pad: zeros on each side of each spatial axis.

    Example:
        >>> stored = {"stored": "uint8, channels last, 0 to 255", "scale": 1 / 255, "standardize": None}
        >>> inputs = read({**stored, "mean": [0.5], "std": [0.25], "pad": 1}, (3, 6, 6))(np.full((2, 4, 4, 3), 255, np.uint8))
        >>> inputs.shape, float(inputs[0, 0, 1, 1]), float(inputs[0, 0, 0, 0])
        ((2, 3, 6, 6), 2.0, 0.0)
    """

    input_shape: tuple[int, ...]
    whole: bool
    scaled: bool
    added_to_std: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of one stored image: (*spatial, C) for uint8, (C, *spatial) for floats."""
        spatial = tuple(size - 2 * self.pad for size in self.input_shape[1:])
        return (*spatial, self.input_shape[0]) if self.whole else (self.input_shape[0], *spatial)

    def require(self, images: Array) -> None:
        """Check that images are as the run stored them.

        Args:
            images: uint8 (N, *spatial, C) or (N, H, W), or floats (N, C, *spatial).

        Raises:
            WrongInput: naming what is there and what is required.
        """
        kind = "uint8" if self.whole else "float"
        if (images.dtype != np.uint8) if self.whole else (images.dtype.kind != "f"):
            raise WrongInput(f"images are of type {images.dtype}, the run's were {kind}: give them as they were stored for the run.")
        shape = images.shape
        if self.whole and len(shape) == 3:
            shape = (*shape, 1)
        if shape[1:] != self.stored_shape or not len(images):
            required = ", ".join(("N", *map(str, self.stored_shape)))
            raise WrongInput(f"images have shape {images.shape}, required is ({required}), N >= 1: bring them to that size as for the run.")
        if not self.whole and not np.isfinite(images).all():
            raise WrongInput("images hold numbers that are not finite: replace them as for the run.")

    def __call__(self, images: Array) -> Floats:
        """Uint8 (N, *spatial, C) or (N, H, W), or float (N, C, *spatial) -> (N, C, *spatial), contiguous."""
        if self.whole:
            images = np.moveaxis(images[..., None] if images.ndim == 3 else images, -1, 1)
        inputs = np.zeros((*images.shape[:2], *(size + 2 * self.pad for size in images.shape[2:])), dtype=np.float32)
        # the same operations in the same order and precision as in the run: another order rounds in another way
        inside = self.inner(inputs)
        inside[...] = images
        if self.added_to_std is not None:
            _standardize(inside, self.added_to_std)
        elif self.scaled:
            inside /= np.float32(255)
        if self.mean:
            shape = (-1, *[1] * (inputs.ndim - 2))
            inside -= np.asarray(self.mean, dtype=np.float32).reshape(shape)
            inside /= np.asarray(self.std, dtype=np.float32).reshape(shape)
        return inputs

    def inner(self, padded: Floats) -> Floats:
        """Return a view without the `pad`, of inputs or of outputs as large as they are; class outputs (N, K) stay."""
        return padded[(slice(None), slice(None), *[slice(self.pad, size - self.pad) for size in padded.shape[2:]])]


def read(stated: Mapping[str, Any], input_shape: tuple[int, ...]) -> Preprocessing:
    """Return the preprocessing of artifact.json.

    Args:
        stated: its section use.input.preprocessing.
        input_shape: (C, *spatial) of the network's input.

    Raises:
        Refused: when it states something that this runner does not know.
    """
    try:
        whole, standardize = _STORED[stated["stored"]], stated["standardize"]
        mean, std = (tuple(map(float, stated[name])) for name in ("mean", "std"))
        scale, pad = stated["scale"], stated["pad"]
        fits = type(pad) is int and 0 <= pad < min(input_shape[1:]) / 2 and len(mean) == len(std) and len(mean) in (0, 1, input_shape[0])
        if not fits:
            raise ValueError(f"pad {pad!r}, {len(mean)} means, {len(std)} standard deviations")
        if standardize is not None and standardize["of"] != "image":
            raise ValueError(f"standardize {standardize!r}")
        # 1/255 is done by dividing, as the run did it: multiplying rounds otherwise
        if scale not in ((1 / 255,) if whole and standardize is None else (1,)):
            raise ValueError(f"scale {scale!r}")
        added = None if standardize is None else float(standardize["added_to_std"])
        return Preprocessing(input_shape, whole, scale != 1, added, mean, std, pad)
    except (KeyError, TypeError, ValueError) as problem:
        why = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise Refused(f"artifact.json states preprocessing that this runner does not know ({why}): get the bundle again.") from None


def _standardize(images: Floats, added: float) -> None:
    """Take mean and std off each channel of each image, in place."""
    axes = tuple(range(1, images.ndim - 1))
    for image in images:
        image -= image.mean(axes, keepdims=True, dtype=np.float64)
        image /= image.std(axes, keepdims=True, dtype=np.float64) + added
