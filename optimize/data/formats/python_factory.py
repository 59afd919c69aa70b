"""A function in the user's own file, named `file.py:factory`, that returns the data: for every source that has no format here.

It returns what `load_data` takes as objects: arrays by name, or for each split (images, labels), a torch Dataset or a DataLoader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.data.layout import SPLITS
from optimize.errors import InputError
from optimize.loading.factory import load_factory, parse, user_code

NAMED = "file.py:factory"


def recognises(source: str) -> bool:
    """Return whether the source names a function in a Python file.

    Raises:
        InputError: when it does, and there is no such file.
    """
    if ".py:" not in source:
        return False
    parse(source, "--data")
    return True


def read(source: str) -> Mapping[str, Any]:
    """Run the file and its function, and return the arrays that the function returns, or those of the datasets that it returns.

    Raises:
        InputError: when the file, the function or a dataset raises, or the function returns something else.
    """
    returned = load_factory(source, "--data")()
    if not isinstance(returned, Mapping):
        rule = "it must return a mapping of names to arrays, or of splits to datasets"
        raise InputError(f"`data` (={source}) returned a {type(returned).__name__}: {rule}.")
    named = {str(name): value for name, value in returned.items()}
    if not named.keys() & set(SPLITS):
        return named
    from optimize.data.in_memory import arrays_of  # late: it imports torch, and a table or an archive needs none

    # a dataset is the user's code too, and imports what lies beside it when its items are read
    with user_code(parse(source, "--data")[0].parent, f"`data` (={source})"):
        return arrays_of(named)
