"""Objects of other libraries become NumPy arrays."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from optimize.data.arrays import Array
from optimize.data.lazy_images import LazyImages
from optimize.errors import InputError


def as_array(value: object, name: str) -> Array:
    """Return a numpy array of an array, a tensor, an image or a list; without a copy where that is possible.

    Raises:
        InputError: when it cannot become an array of numbers or text.
    """
    if isinstance(value, LazyImages):
        return cast(Array, value)  # it is indexed as an array, and is decoded only where images are used
    try:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except Exception as problem:  # whatever an object raises that only looks like an array
        raise InputError(f"`data`: {name} cannot become an array ({' '.join(str(problem).split())[:200]}): pass numpy arrays.") from problem
    if array.dtype.kind == "O" and array.size and len({type(item) for item in array.flat}) == 1 and isinstance(array.flat[0], str | int):
        array = np.array(array.tolist())  # a column of a table, such as pandas gives it
    if array.dtype.kind == "O":
        raise InputError(f"`data`: {name} holds Python objects, or rows of different lengths: pass one array of numbers or text.")
    return array
