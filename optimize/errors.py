"""The exceptions a caller may meet, and how text from files is shown in them and elsewhere.

A refusal by a guard-rail is a `Verdict`, never an exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class OptimizeError(Exception):
    """Base of all errors that the user can act on; `exit_code` is what the command returns.

    >>> [error.exit_code for error in (InputError, Inconclusive, TargetUnavailable)]
    [2, 3, 4]
    """

    exit_code = 2


class InputError(OptimizeError):
    """The model, the data, a setting or the call itself is wrong. The text is one line: argument, value, rule, remedy.

    >>> raise InputError("`pad` (=-1) must be 0 or more: leave it out.")
    Traceback (most recent call last):
    optimize.errors.InputError: `pad` (=-1) must be 0 or more: leave it out.
    """

    exit_code = 2


class TargetUnavailable(OptimizeError):
    """The target cannot run on this machine; raised before any work.

    >>> isinstance(TargetUnavailable("target 'tensorrt' cannot run here: no GPU"), OptimizeError)
    True
    """

    exit_code = 4


class OutOfTime(BaseException):
    """The time for a block of work is up; whoever set the deadline catches it (`progress/deadline.py`).

    It is no `Exception`, as `KeyboardInterrupt` is none: code that expects a runtime to fail in any way must not take this for a failure.
    """


class Inconclusive(OptimizeError):
    """The run could only end with the verdict "inconclusive"; raised before any work, and not with `force`.

    >>> Inconclusive("the test split is too small to accept anything").exit_code
    3
    """

    exit_code = 3


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Check that a setting is one of its choices.

    Args:
        name: name of the setting, for the error.
        value: value of the setting.
        choices: all allowed values.

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
    """Return a question with the choice that is most similar to a wrong value; empty text where none is similar.

    >>> did_you_mean("alocate", ["allocate", "budget"])
    " (did you mean 'allocate'?)"
    """
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    near = difflib.get_close_matches(str(value).strip().lower(), list(by_lower), n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def printable(text: str) -> str:
    r"""Return a text in which every character is one to be read: line ends, escape sequences and the like are written out.

    Names from files stand in what is printed. Such a name could move the cursor, colour the screen or forge a second line.

    >>> printable("net\x1b[2J.pt\nerror: none"), printable("größer")
    ('net\\x1b[2J.pt\\nerror: none', 'größer')
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def spreadsheet_cell(value: Any) -> Any:
    """Return a value for a table of text, with an apostrophe before what a spreadsheet would run as a formula.

    >>> spreadsheet_cell("=HYPERLINK(0)"), spreadsheet_cell(-0.5)
    ("'=HYPERLINK(0)", -0.5)
    """
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
