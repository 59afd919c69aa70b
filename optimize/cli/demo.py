"""`optimize demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import cloup

from optimize.cli.one_line_errors import EXIT, one_line_errors
from optimize.cli.options import FILE, verbose_option
from optimize.cli.printing import print_summary


@cloup.command()
@cloup.option("--out", type=FILE, default=Path("demo"), show_default=True, help="Folder for all it makes.")
@verbose_option()
def demo(out: Path, verbose: bool) -> None:
    """Train a small net on handwritten digits and compress it for every runtime that runs here."""
    with one_line_errors(verbose=verbose):
        from optimize.run.demo import demo as run

        results = run(out)
    for folder, report in results.items():
        print_summary(report, folder)
    sys.exit(max(EXIT[report["verdict"]] for report in results.values()))
