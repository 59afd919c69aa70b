"""Labels that are text become numbers: those of the names that the user passed, else those of the sorted names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from optimize.data.arrays import Array
from optimize.errors import InputError

MAX_SHOWN = 20
"""Most names that a note lists."""


def numbered_text(arrays: Mapping[str, Array], classes: Sequence[str] = ()) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the arrays with a number for each text label, and a sentence that says which number each name has.

    Args:
        arrays: the arrays of the user's data; labels of numbers are left as they are.
        classes: names of the classes in the order of the network's outputs; empty for the sorted names.

    Raises:
        InputError: when a label is none of the names that were passed.

    Example:
        >>> arrays, notes = numbered_text({"test_labels": np.array(["dog", "cat", "dog"])})
        >>> arrays["test_labels"].tolist(), arrays["classes"].tolist(), notes
        ([1, 0, 1], ['cat', 'dog'], ('Labels are text: cat = 0, dog = 1.',))
    """
    labelled = {key: labels for key, labels in arrays.items() if key.endswith("_labels")}
    # text in some splits alone is a mistake, which the check of labels names
    if not labelled or any(labels.dtype.kind not in "US" or not labels.ndim or labels.size != len(labels) for labels in labelled.values()):
        return dict(arrays), ()
    text = {key: np.char.strip(labels.astype(str)) for key, labels in labelled.items()}
    found = sorted({name for labels in text.values() for name in labels.reshape(-1).tolist()})
    names = list(classes) or found
    if unknown := [name for name in found if name not in names]:
        raise InputError(f"`classes` (={','.join(names)}) has no {unknown[0]!r}, which is a label in the data: pass all names.")
    numbers = {name: number for number, name in enumerate(names)}
    labels = {key: np.vectorize(numbers.__getitem__, otypes=[np.int64])(values) for key, values in text.items()}
    listed = ", ".join(f"{name} = {number}" for name, number in list(numbers.items())[:MAX_SHOWN])
    more = ", …" if len(names) > MAX_SHOWN else ""
    return {**arrays, "classes": np.array(names), **labels}, (f"Labels are text: {listed}{more}.",)
