"""What a command prints at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from optimize.cli.one_line_errors import one_line_errors
from optimize.errors import printable
from optimize.progress import folded


def say(lines: str | Iterable[str]) -> None:
    """Print lines on standard output, without what a terminal would obey: they may hold names from files."""
    for line in lines.split("\n") if isinstance(lines, str) else lines:
        click.echo(printable(line))


def print_summary(report: Mapping[str, Any], folder: Path) -> None:
    """Print the summary of a report, and where its page is."""
    from optimize.report.summary import summary

    for line in summary(dict(report)):
        click.echo("\n".join(folded(line)))
    say(f"report: {folder / 'report.html'}")


def print_plan(
    model: Path | None,
    target: str | None,
    recipe_file: Path | None,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    verbose: bool,
    files: Sequence[str] = (),
    pipeline: str | None = None,
) -> NoReturn:
    """Plan a run, print the plan and end the process with its exit code."""
    with one_line_errors(as_json, verbose=verbose):
        from optimize.run.plan import plan
        from optimize.run.recipe import resolve

        recipe = resolve(model, target=target, overrides=settings, recipe_file=recipe_file)
        made = plan(recipe, resume=resume, overwrite=overwrite, files=files, pipeline=pipeline)
    say(json.dumps(made.as_dict(), sort_keys=True) if as_json else made.text)
    sys.exit(made.exit_code)
