"""Options of the guard-rails: what may be lost, and how it is judged. Each row of the table of guard-rails is one option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from optimize.guard.limits import CLASS_METRICS, METRICS, MODES, PRESETS
from optimize.guard.rails import rows

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def limit_options(command: CommandT) -> CommandT:
    """The command with an option for every setting of `Limits`."""
    for option in reversed(_options()):  # decorators apply from the bottom up, and help shows them from the top down
        command = option(command)
    return command


def _options() -> list[Callable[[CommandT], CommandT]]:
    names = ", ".join(PRESETS)
    mode = f"{MODES[0]}: the bound of a loss must stay within its limit; {MODES[1]}: the measured loss must."
    threshold = "Probability from which a case counts as positive for a class."
    return [
        click.option("--preset", metavar="NAME", help=f"Limits by name: {names}. A single limit overrides its preset."),
        click.option("--verdict", metavar="MODE", help=mode),
        click.option("--confidence", metavar="0.95", help="Confidence of each bound of the statistical verdict."),
        *(click.option(row.option, row.name, metavar=row.example, help=row.help) for row in rows()),
        click.option("--metric", metavar="NAME", help=f"Figure of --max-drop and --max-group-drop: {_either(METRICS)}."),
        click.option("--class-metric", metavar="NAME", help=f"Figure of --max-class-drop: {_either(CLASS_METRICS)}."),
        click.option("--threshold", metavar="0.5", help=threshold),
        click.option("--positive", metavar="NAME,…", help="Classes that count as positive; by default every class."),
    ]


def _either(names: tuple[str, ...]) -> str:
    """'a, b or c'."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
