"""One file for each signal that says what a channel is worth.

A signal is a frozen dataclass with the call of `optimize.importance.signal.Signal`; its name is its file's. Signals are found by looking at
the files, so a new one is one new file: nothing else names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.errors import InputError, require_choice
from optimize.files import called_dataclasses

if TYPE_CHECKING:
    from optimize.importance.signal import Signal


def signals() -> dict[str, type[Signal]]:
    """Return every signal by its name, in alphabetical order.

    >>> {"batchnorm", "ilr", "magnitude"} <= set(signals())
    True
    """
    classes_by_file = called_dataclasses(__name__, "candidate", "reference", "groups")
    return {name: classes[0] for name, classes in classes_by_file.items()}


def signal_named(name: str) -> Signal:
    """Return the signal of a name, with the settings it has by default.

    Args:
        name: one of `signals()`, such as "magnitude".

    Raises:
        InputError: when there is no such signal, or it has no default settings.

    >>> signal_named("magnitude")
    Magnitude(norm=2)
    """
    known = signals()
    require_choice("importance", name, sorted(known))
    try:
        return known[name]()
    except TypeError as problem:
        raise InputError(f"`importance` (={name!r}) needs settings ({problem}): give each of its fields a default.") from problem


def name_of(signal: Signal) -> str:
    """Return the name that a signal is selected by.

    >>> from optimize.importance.taylor import Taylor
    >>> name_of(Taylor())
    'taylor'
    """
    return type(signal).__module__.rpartition(".")[2]
