"""The exceptions a caller may meet. A refusal by a guard-rail is a `Verdict`, never an exception."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


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


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """See that a setting is one of its choices.

    Raises:
        InputError: when it is none of them.
    """
    if value not in choices:
        raise InputError(f"`{name}` (={value!r}) is not known{did_you_mean(value, choices)}: write one of {', '.join(map(repr, choices))}.")


def require_candidate(value: object) -> None:
    """See that a network was loaded, and is not passed as the plain `nn.Module`.

    Raises:
        InputError: when it has no example input, as a `Candidate` has.
    """
    if not hasattr(value, "example"):
        raise InputError(f"`candidate` is of class {type(value).__name__}: pass `load_model(network, input_shape=(C, H, W))`.")


def did_you_mean(value: object, choices: Iterable[object]) -> str:
    """A question that names the choice most like a wrong value, to be put in the middle of a sentence; empty where none is like it."""
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    near = difflib.get_close_matches(str(value).strip().lower(), list(by_lower), n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
