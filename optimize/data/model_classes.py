"""Labels are numbered as the network numbers its classes, where it names them, as the `id2label` of a Hugging Face folder does.

A folder of images numbers its classes by the order of their names, and a network need not:

    data       cat = 0, dog = 1           labels 0 0 1
    network    dog = 0, cat = 1           labels become 1 1 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from optimize.data.arrays import Array
from optimize.data.layout import CLASS_KEYS
from optimize.data.text_labels import MAX_SHOWN, numbered_text
from optimize.errors import printable


def numbered_as_in_model(
    arrays: Mapping[str, Array], model_classes: Sequence[str], classes: Sequence[str] = ()
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the arrays with the network's names of the classes, and labels in its order; and a sentence where labels became others.

    Nothing is changed where the user named the classes, or where the data name classes that the network does not know.

    Args:
        arrays: the arrays of the user's data.
        model_classes: names of the network's classes, in the order of its outputs; empty where it names none.
        classes: names that the user passed.

    Example:
        >>> arrays = {"classes": np.array(["cat", "dog"]), "test_labels": np.array([0, 0, 1])}
        >>> changed, notes = numbered_as_in_model(arrays, ("dog", "cat"))
        >>> changed["test_labels"].tolist(), notes
        ([1, 1, 0], ('Labels are numbered as in the network: dog = 0, cat = 1.',))
    """
    if not model_classes or classes:
        return dict(arrays), ()
    # they came with a file, and are shown in the terminal and in reports
    model_classes = tuple(map(printable, model_classes))
    labels = {key: values for key, values in arrays.items() if key.endswith("_labels")}
    if labels and all(values.dtype.kind in "US" for values in labels.values()):
        text = {str(name).strip() for values in labels.values() for name in values.reshape(-1).tolist()}
        return numbered_text(arrays, model_classes) if text <= set(model_classes) else (dict(arrays), ())
    named = next((key for key in CLASS_KEYS if key in arrays and arrays[key].ndim == 1 and arrays[key].dtype.kind == "U"), None)
    if named is None:
        return {**arrays, CLASS_KEYS[0]: np.array(model_classes)}, ()
    stored = arrays[named].tolist()
    # names are compared without regard to case: folders are often in lower case
    places = {name.lower(): place for place, name in enumerate(model_classes)}
    if len(places) < len(model_classes) or not {name.lower() for name in stored} <= places.keys():
        return dict(arrays), ()
    numbers = np.array([places[name.lower()] for name in stored])
    changed = {key: values for key, values in labels.items() if values.dtype.kind in "iub" and values.size == len(values)}
    if np.array_equal(numbers, np.arange(len(numbers))) or len(changed) < len(labels):
        return dict(arrays), ()
    if any(values.size and not 0 <= int(values.min()) <= int(values.max()) < len(numbers) for values in changed.values()):
        return dict(arrays), ()
    listed = ", ".join(f"{name} = {number}" for number, name in list(enumerate(model_classes))[:MAX_SHOWN])
    more = ", …" if len(model_classes) > MAX_SHOWN else ""
    renumbered = {key: numbers[values.reshape(-1)] for key, values in changed.items()}
    return {**arrays, **renumbered, named: np.array(model_classes)}, (f"Labels are numbered as in the network: {listed}{more}.",)
