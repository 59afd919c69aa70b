"""`optimize report`."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE
from optimize.cli.printing import say
from optimize.errors import InputError


@cloup.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=FILE)
@cloup.option("--out", type=FILE, help="Folder for the comparison of several runs; by default comparison.")
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Render report.html again from the report.json in folder RUN.

    Several are also compared: comparison.html, comparison.json and comparison.csv, one row for each run.
    """
    with one_line_errors():
        from optimize.report.compare import compare
        from optimize.report.render import rerender

        if out is not None and len(runs) == 1:
            raise InputError(f"`--out` (={out}) is for a comparison of several runs: name another run, or leave it out.")
        say(str(compare(runs, out or Path("comparison")) if len(runs) > 1 else rerender(runs[0])))
