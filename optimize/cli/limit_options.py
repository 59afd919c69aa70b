"""The options of the limits, as one decorator: each row of the table of guard-rails is one option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloup

from optimize.guard.limits import CLASS_METRICS, METRICS, MODES, PRESETS
from optimize.guard.rails import rows

Function = Callable[..., Any]


def limit_options(command: Function) -> Function:
    """Add an option for every setting of `Limits` to a command, as a group of their own in its help."""
    return cloup.option_group("Limits: what the compressed model must hold", *_options())(command)


def _options() -> list[Callable[[Function], Function]]:
    mode = f"{MODES[0]}: the bound of a loss must hold its limit; {MODES[1]}: the measured loss must."
    return [
        *(cloup.option(row.option, row.name, metavar=row.example, help=row.help) for row in rows()),
        cloup.option("--metric", metavar="NAME", help=f"What --max-drop limits: {either(METRICS)}."),
        cloup.option("--class-metric", metavar="NAME", help=f"What --max-class-drop limits: {either(CLASS_METRICS)}."),
        cloup.option("--threshold", metavar="0.5", help="Probability from which a case counts as positive for a class."),
        cloup.option("--positive", metavar="NAME,…", help="Classes that count as positive; by default every class."),
        cloup.option("--preset", metavar="NAME", help=f"Limits by name: {either(tuple(PRESETS))}; single limits override it."),
        cloup.option("--verdict", metavar="MODE", help=mode),
        cloup.option("--confidence", metavar="0.95", help="Confidence of each bound of the statistical verdict."),
    ]


def either(names: tuple[str, ...]) -> str:
    """'a, b or c'."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
