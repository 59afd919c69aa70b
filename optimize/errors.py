"""The exceptions a caller may meet. A refusal by a guard-rail is a `Verdict`, never an exception."""

from __future__ import annotations

from collections.abc import Sequence


class OptimizeError(Exception):
    """Something went wrong that the user can act on; `exit_code` is what the command returns."""

    exit_code = 2


class InputError(OptimizeError):
    """The model, the data, a setting or the call itself is wrong. One line: argument, value, rule, remedy."""

    exit_code = 2


class TargetUnavailable(OptimizeError):
    """The target cannot run on this machine; found out before any work."""

    exit_code = 4


class Inconclusive(OptimizeError):
    """No verdict but "inconclusive" can come of this run; found out before any work, and the run is made all the same with `force`."""

    exit_code = 3


def known(name: str, value: object, choices: Sequence[object]) -> None:
    """See that a setting is one of its choices.

    Raises:
        InputError: when it is none of them.
    """
    if value not in choices:
        raise InputError(f"`{name}` (={value!r}) is not known: write one of {', '.join(map(repr, choices))}.")
