"""The guard-rails of a run: fixed before it starts, written into its report, never loosened by it."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

from optimize.errors import InputError

_POINTS = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(pp|%|)\s*")


@dataclass(frozen=True)
class Limits:
    """How much the shipped artifact may lose against the original, as fractions (0.02 is 2 percentage points).

    Args:
        max_drop: largest allowed drop of overall accuracy; for masks, of overall Dice.
        max_class_drop: largest allowed drop of any single class's recall; for masks, of its mean Dice.
        min_class_f1: every class must reach at least this F1, or mean Dice; 0 asks for nothing.
        min_agreement: for masks only: least Dice of the artifact's masks with the original's; 0 asks for nothing.
    """

    max_drop: float = 0.02
    max_class_drop: float = 0.06
    min_class_f1: float = 0.0
    min_agreement: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InputError(f"`{name}` (={value}) must lie between 0 and 1: write 0.02 or '2pp' for two percentage points.")


def parse_points(text: str | float, name: str = "limit") -> float:
    """Read a share: '2pp' and '2%' and 0.02 all give 0.02.

    Raises:
        InputError: when the text is no number, or a bare number of 1 or more, whose unit would be a guess.
    """
    match = _POINTS.fullmatch(str(text))
    if match is None:
        raise InputError(f"`{name}` (={text!r}) must be a share such as '2pp' or 0.02.")
    number, unit = float(match[1]), match[2]
    if not unit and (number > 1 or (number == 1 and isinstance(text, str))):
        raise InputError(f"`{name}` (={text!r}) has no unit and is 1 or more: write '{text}pp' if percentage points are meant.")
    return number / 100 if unit else number


def points(share: float) -> str:
    """A share as percentage points."""
    return f"{100 * share:.4g} pp"
