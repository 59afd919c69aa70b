"""The guard-rails of a run: fixed before it starts, written into its report, never loosened by it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, cast

from optimize.errors import InputError, did_you_mean
from optimize.guard.rails import GuardRail, Rule, rows
from optimize.guard.relative import Relative as Relative

Mode = Literal["statistical", "point"]
MODES: tuple[Mode, ...] = ("statistical", "point")
METRICS = ("accuracy", "macro_f1", "auc")
CLASS_METRICS = ("recall", "precision", "f1")
CLASS_SETTINGS = ("metric", "class_metric", "threshold", "positive")
"""Settings of limits that masks have no use for."""
POWER = 0.9
"""Chance that the final verdict is "pass" for what the search keeps, where a run does not ask for another."""
_POINTS = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(pp|%|)\s*")


@dataclass(frozen=True, init=False)
class Limits:
    """How much the shipped artifact may lose against the original, as fractions (0.02 is 2 percentage points).

    Every guard-rail of the table (`optimize.guard.rails`) has one limit here, under its name: `Limits(max_ece_rise=0.02).max_ece_rise`.
    The limit of a drop may be `Relative`, a share of the original's figure. None asks for nothing, and so does 0 of a floor. Where a
    rail has a default, None stands for the default.

    >>> limits = Limits(max_drop=0.01, verdict="point")
    >>> limits.max_drop, limits.max_class_drop, limits.max_ece_rise
    (0.01, 0.06, None)

    Args:
        max_drop: largest allowed drop of the overall figure, see `metric`; with masks, of overall Dice.
        max_class_drop: largest allowed drop of any single class's figure, see `class_metric`; with masks, of its mean Dice.
        min_class_f1: F1 that every class must reach; with masks, mean Dice.
        verdict: "statistical": a limit is held when the bound of the loss stays within it; "point": when the measured loss does.
        confidence: confidence of each one-sided bound, in 0.5..1.
        metric: figure that `max_drop` and `max_group_drop` are about: "accuracy", "macro_f1", or "auc" (mean over the classes, each against
            the rest).
        class_metric: figure that `max_class_drop` is about: "recall", "precision" or "f1".
        threshold: a case is positive for a class when the class's probability is at least this; in 0..1.
        positive: names of the classes that count as positive; empty: every class.
        preset: name of the preset that the rest started from, for the report; "" for none.
        rails: limits by the name of their guard-rail, as another `Limits` has them.
        limits: limits of all other guard-rails, by name.

    Raises:
        InputError: when a limit is unknown, lies outside its range, or can be shown by no number of cases.
    """

    rails: Mapping[str, float | None] = field(hash=False)
    verdict: Mode
    confidence: float
    metric: str
    class_metric: str
    threshold: float | None
    positive: tuple[str, ...]
    preset: str

    def __init__(
        self,
        max_drop: float | None = None,
        max_class_drop: float | None = None,
        min_class_f1: float | None = None,
        *,
        verdict: Mode = "statistical",
        confidence: float = 0.95,
        metric: str = "accuracy",
        class_metric: str = "recall",
        threshold: float | None = None,
        positive: tuple[str, ...] = (),
        preset: str = "",
        rails: Mapping[str, float | None] | None = None,
        **limits: float | None,
    ) -> None:
        named = {"max_drop": max_drop, "max_class_drop": max_class_drop, "min_class_f1": min_class_f1}
        # Later entries win: the copied limits, then the three that have arguments of their own, then all others by name.
        limits = {**(rails or {}), **{name: limit for name, limit in named.items() if limit is not None}, **limits}
        defaults = {row.name: row.default for row in rows()}
        if unknown := sorted(limits.keys() - defaults.keys()):
            raise InputError(f"`{unknown[0]}` (={limits[unknown[0]]}) is no limit{did_you_mean(unknown[0], defaults)}.")
        # Every rail of the table has an entry, so that a report can say "no limit" where it is None.
        whole = {name: default if limits.get(name) is None else limits[name] for name, default in defaults.items()}
        settings = (verdict, confidence, metric, class_metric, threshold, positive, preset)
        for name, value in zip((setting.name for setting in fields(self)), (whole, *settings), strict=True):
            # The class is frozen, which also stops its own constructor from setting fields in the usual way.
            object.__setattr__(self, name, value)
        self._check_settings()
        self._check_rails()

    def __getattr__(self, name: str) -> Any:
        """The limit of a guard-rail by its name."""
        # Through `__dict__`, since `self.rails` would call this method again while the object is copied and has no fields yet.
        rails: Mapping[str, float | None] = self.__dict__.get("rails", {})
        if name not in rails:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return rails[name]

    def _check_settings(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise InputError(f"`confidence` (={self.confidence}) must lie between 0.5 and 1: 0.95 is usual.")
        for name, choices in (("verdict", MODES), ("metric", METRICS), ("class_metric", CLASS_METRICS)):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"`{name}` (={value!r}) must be one of {', '.join(choices)}{did_you_mean(value, choices)}.")

    def _check_rails(self) -> None:
        for name, value in {**self.rails, "threshold": self.threshold}.items():
            if isinstance(value, str):
                raise InputError(f"`{name}` (={value!r}) must be a number in 0..1: write 0.02 for two percentage points.")
            if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InputError(f"`{name}` (={value}) must lie between 0 and 1: write 0.02 or '2pp' for two percentage points.")
        for row in rows():
            value = self.rails[row.name]
            # No sample shows a drop of at most 0, or a recall of 1, since a bound always leaves some room: the run could not be decided.
            if self.verdict == "statistical" and value == (1 if row.rule == "floor" else 0):
                remedy = "ask for a little less, or for" if row.rule == "floor" else "allow a little, or ask for"
                raise InputError(f"`{row.name}` (={value:g}) can be shown by no number of cases: {remedy} --verdict point.")
            if row.needs_threshold and self.threshold is None and value is not None:
                raise InputError(f"`{row.name}` (={value}) needs the threshold that the model is used at: add --threshold.")

    @property
    def max_drop(self) -> float:
        """Largest allowed drop of the overall figure."""
        return cast(float, self.rails["max_drop"])

    @property
    def max_class_drop(self) -> float:
        """Largest allowed drop of any single class's figure."""
        return cast(float, self.rails["max_class_drop"])

    @property
    def bound_confidence(self) -> float | None:
        """The confidence of the verdict's bounds; None where it compares measured values."""
        return self.confidence if self.verdict == "statistical" else None

    def of(self, row: GuardRail) -> float | None:
        """The limit that a guard-rail is judged by: its own, or its fallback's; None where it is not asked for."""
        limit = self._in_force(row)
        return limit if row.asks(limit) else None

    def as_dict(self) -> dict[str, Any]:
        """The form that the report uses; the limits of rails that format 2 does not name stand in `further`."""
        limits = {row.name: self._in_force(row) for row in rows()}
        relative = [row.name for row in rows() if row.in_format_2 and isinstance(limits[row.name], Relative)]
        plain = {name: float(limit) if isinstance(limit, Relative) else limit for name, limit in limits.items()}
        further = [
            {
                "name": row.name,
                "limit": plain[row.name],
                "relative": isinstance(limits[row.name], Relative),
                "rule": row.rule,
                "criterion": row.criterion,
                "unlimited": row.unlimited,
                "tasks": list(row.tasks),
            }
            for row in rows()
            if not row.in_format_2
        ]
        return {
            **{row.name: plain[row.name] for row in rows() if row.in_format_2},
            "verdict": self.verdict,
            "confidence": self.confidence,
            "metric": self.metric,
            "class_metric": self.class_metric,
            "threshold": self.threshold,
            "positive": list(self.positive),
            "preset": self.preset or None,
            "relative": relative,
            **({"further": further} if further else {}),
        }

    def _in_force(self, row: GuardRail) -> float | None:
        # Read now and not stored: `replace(limits, max_class_drop=0.1)` then moves the limit of subgroups, too.
        own = self.rails[row.name]
        return self.rails[row.fallback] if own is None and row.fallback else own


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
    # A float such as 1e-05 prints with an exponent, which the pattern does not read.
    plain = f"{Decimal(str(text)):f}" if isinstance(text, float) and math.isfinite(text) else str(text)
    match = _POINTS.fullmatch(plain)
    if match is None:
        raise InputError(f"`{name}` (={text!r}) must be a share such as '2pp' or 0.02.")
    number, unit = float(match[1]), match[2]
    # "2" may mean 2 pp or 200 %. A plain 1.0 from code is a fraction, but the text "1" is ambiguous.
    if not unit and (number > 1 or (number == 1 and isinstance(text, str))):
        raise InputError(f"`{name}` (={text!r}) has no unit and is 1 or more: write '{text}pp' if percentage points are meant.")
    # By decimals: 0.7 / 100 in floats is 0.006999999999999999, and '0.7pp' must be the same limit as 0.007.
    return float(Decimal(match[1]) / 100) if unit else number


def parse_limit(text: str | float, name: str = "limit") -> float:
    """Read a limit of a drop: '2pp' and 0.02 are a difference, '2%' is a share of the original's figure.

    Raises:
        InputError: as `parse_points`.
    """
    share = parse_points(text, name)
    return Relative(share) if "%" in str(text) else share


def absolute(limit: float, figure: float) -> float:
    """Return a limit of a drop as a difference: of a `Relative` limit, its share of the figure that the drop starts from.

    >>> absolute(0.02, 0.5), absolute(Relative(0.02), 0.5)
    (0.02, 0.01)
    """
    return float(limit) * figure if isinstance(limit, Relative) else limit


def points(share: float) -> str:
    """A share as percentage points."""
    return f"{100 * share:.4g} pp"


def stated(limit: float, rule: Rule = "drop") -> str:
    """A limit as it was set, with the unit of its rule.

    >>> stated(0.02), stated(Relative(0.02)), stated(0.05, "ceiling"), stated(0.85, "floor")
    ('2 pp', '2 % of the original’s', '5 %', '85.00 %')
    """
    if rule == "floor":
        return f"{100 * limit:.2f} %"
    unit = "%" if rule == "ceiling" else "% of the original’s" if isinstance(limit, Relative) else "pp"
    return f"{100 * limit:.6g} {unit}"
