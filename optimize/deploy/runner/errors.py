"""The two ways in which a bundle says no. The text of both is one line: what, which rule, what to do."""

from __future__ import annotations


class Refused(RuntimeError):
    """The bundle does not run here, or not at all: it was altered, or this machine computes something else; exit code 4.

    >>> Refused("`model/model.onnx` was altered: copy the bundle again.").exit_code
    4
    """

    exit_code = 4

    def __init__(self, text: str) -> None:
        super().__init__(_plain(text))


class WrongInput(ValueError):
    """The call, or an image, is wrong; exit code 2.

    >>> WrongInput("`a.png` is 7 x 7, the network takes 8 x 8: bring it to that size as for the run.").exit_code
    2
    """

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(_plain(text))


def _plain(text: str) -> str:
    """Return a text as one line without control characters: names from a hostile file must not steer the terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
