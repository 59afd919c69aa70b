"""A function in the user's own file, named `file.py:factory`, that returns the arrays: for every source that has no format here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optimize.errors import InputError
from optimize.loading.factory import load_factory, parse

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
    """Run the file and its function, and return the mapping of names to arrays that the function returns.

    Raises:
        InputError: when the file or the function raises, or the function returns something else.
    """
    arrays = load_factory(source, "--data")()
    if not isinstance(arrays, Mapping):
        raise InputError(f"`data` (={source}) returned a {type(arrays).__name__}: it must return a mapping of names to arrays.")
    return {str(name): array for name, array in arrays.items()}
