"""The guard-rails of a run: fixed before it starts, written into its report, never loosened by it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from optimize.errors import InputError, did_you_mean

Mode = Literal["statistical", "point"]
MODES: tuple[Mode, ...] = ("statistical", "point")
METRICS = ("accuracy", "macro_f1", "auc")
CLASS_METRICS = ("recall", "precision", "f1")
FALLS = ("max_drop", "max_class_drop", "max_group_drop", "max_sensitivity_drop", "max_specificity_drop")
"""Limits of how far a figure may fall; these may be shares of the original's figure."""
RISES = ("max_ece_rise", "max_regressed")
LEASTS = ("min_class_f1", "min_class_recall", "min_agreement")
_POINTS = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(pp|%|)\s*")


class Relative(float):
    """A limit that is a share of the original's figure, "1%", where a plain float is a difference, "1pp"."""

    def __str__(self) -> str:
        return f"{Decimal(float.__repr__(self)) * 100:f}%"


@dataclass(frozen=True)
class Limits:
    """How much the shipped artifact may lose against the original, as fractions (0.02 is 2 percentage points).

    A limit of a drop may be `Relative`. None asks for nothing, and so does 0 of what must be reached.

    Args:
        max_drop: largest allowed drop of the overall figure, see `metric`; for masks, of overall Dice.
        max_class_drop: largest allowed drop of any single class's figure, see `class_metric`; for masks, of its mean Dice.
        min_class_f1: every class must reach at least this F1, or mean Dice.
        min_agreement: for masks only: least Dice of the artifact's masks with the original's.
        verdict: "statistical": a limit is held when the bound of the loss stays below it; "point": when the measured loss does.
        confidence: of each one-sided bound, in 0.5..1.
        metric: what `max_drop` and `max_group_drop` are about: "accuracy", "macro_f1", or "auc" (mean over the classes, each against the
            rest).
        class_metric: what `max_class_drop` is about: "recall", "precision" or "f1".
        max_group_drop: largest allowed drop of the overall figure within any value of any `*_group` column; by default `max_class_drop`.
        min_class_recall: every class must reach at least this recall.
        threshold: a case is positive for a class when the class's share of the answer is at least this; in 0..1.
        positive: names of the classes that count as positive; empty: every class.
        max_sensitivity_drop: largest allowed drop of the share of positive cases found at `threshold`.
        max_specificity_drop: largest allowed drop of the share of other cases not taken for positive at `threshold`.
        max_ece_rise: largest allowed rise of the expected calibration error.
        max_regressed: largest allowed share of cases that the original got right and the artifact gets wrong.
        preset: name of the preset that the rest started from, for the report; "" for none.

    Raises:
        InputError: when a limit is no fraction in 0..1, or can be shown by no number of cases.

    Example:
        >>> Limits(max_drop=0.01, min_class_f1=0.8).max_class_drop
        0.06
    """

    max_drop: float = 0.02
    max_class_drop: float = 0.06
    min_class_f1: float = 0.0
    min_agreement: float = 0.0
    verdict: Mode = "statistical"
    confidence: float = 0.95
    metric: str = "accuracy"
    class_metric: str = "recall"
    max_group_drop: float | None = None
    min_class_recall: float = 0.0
    threshold: float | None = None
    positive: tuple[str, ...] = ()
    max_sensitivity_drop: float | None = None
    max_specificity_drop: float | None = None
    max_ece_rise: float | None = None
    max_regressed: float | None = None
    preset: str = ""

    def __post_init__(self) -> None:
        for name in (*FALLS, *RISES, *LEASTS, "threshold"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InputError(f"`{name}` (={value}) must lie between 0 and 1: write 0.02 or '2pp' for two percentage points.")
        if not 0.5 < self.confidence < 1:
            raise InputError(f"`confidence` (={self.confidence}) must lie between 0.5 and 1: 0.95 is usual.")
        for name, known in (("verdict", MODES), ("metric", METRICS), ("class_metric", CLASS_METRICS)):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"`{name}` (={value!r}) must be one of {', '.join(known)}{did_you_mean(value, known)}.")
        for name in (*FALLS, *RISES):
            if self.verdict == "statistical" and getattr(self, name) == 0:
                raise InputError(f"`{name}` (=0) can be shown by no number of cases: allow a little, or ask for --verdict point.")
        for name in LEASTS:
            if self.verdict == "statistical" and getattr(self, name) == 1:
                raise InputError(f"`{name}` (=1) can be shown by no number of cases: ask for a little less, or for --verdict point.")
        if self.threshold is None:
            for name in ("max_sensitivity_drop", "max_specificity_drop"):
                if getattr(self, name) is not None:
                    raise InputError(f"`{name}` (={getattr(self, name)}) needs the threshold that the model is used at: add --threshold.")

    @property
    def group_drop(self) -> float:
        """Largest allowed drop within a subgroup."""
        return self.max_class_drop if self.max_group_drop is None else self.max_group_drop

    @property
    def sure(self) -> float | None:
        """The confidence of the verdict's bounds; None where it compares measured values."""
        return self.confidence if self.verdict == "statistical" else None

    def as_dict(self) -> dict[str, Any]:
        """The form that the report uses."""
        whole = asdict(self) | {"max_group_drop": self.group_drop, "positive": list(self.positive), "preset": self.preset or None}
        relative = [name for name in FALLS if isinstance(whole[name], Relative)]
        return {name: float(value) if isinstance(value, Relative) else value for name, value in whole.items()} | {"relative": relative}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "celeba": {"verdict": "point", "max_drop": 0.02, "max_class_drop": 0.06},
    "cifar": {"verdict": "point", "max_drop": 0.03, "max_class_drop": 0.09},
    "bloodmnist": {"verdict": "point", "min_class_f1": 0.85},
    "clinical": {
        "verdict": "statistical",
        "confidence": 0.95,
        "max_drop": 0.02,
        "max_class_drop": 0.05,
        "max_group_drop": 0.05,
        "max_ece_rise": 0.02,
        "max_regressed": 0.05,
    },
}
"""Limits by name: those of three studies, compared as the studies did, and one with statistics for what is to be used on patients."""


def parse_points(text: str | float, name: str = "limit") -> float:
    """Read a share: '2pp' and '2%' and 0.02 all give 0.02.

    Raises:
        InputError: when the text is no number, or a bare number of 1 or more, whose unit would be a guess.
    """
    plain = f"{Decimal(str(text)):f}" if isinstance(text, float) and math.isfinite(text) else str(text)
    match = _POINTS.fullmatch(plain)
    if match is None:
        raise InputError(f"`{name}` (={text!r}) must be a share such as '2pp' or 0.02.")
    number, unit = float(match[1]), match[2]
    if not unit and (number > 1 or (number == 1 and isinstance(text, str))):
        raise InputError(f"`{name}` (={text!r}) has no unit and is 1 or more: write '{text}pp' if percentage points are meant.")
    return float(Decimal(match[1]) / 100) if unit else number


def parse_limit(text: str | float, name: str = "limit") -> float:
    """Read a limit of a drop: '2pp' and 0.02 are a difference, '2%' is a share of the original's figure.

    Raises:
        InputError: as `parse_points`.
    """
    share = parse_points(text, name)
    return Relative(share) if "%" in str(text) else share


def points(share: float) -> str:
    """A share as percentage points."""
    return f"{100 * share:.4g} pp"


def stated(limit: float) -> str:
    """A limit of a drop as it was set."""
    return f"{100 * limit:.6g} % of the original’s" if isinstance(limit, Relative) else f"{100 * limit:.6g} pp"
