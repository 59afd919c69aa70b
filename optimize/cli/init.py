"""`optimize init`."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE, arch_option
from optimize.cli.printing import say


@cloup.command()
@click.argument("model", type=FILE)
@click.argument("data", required=False)
@arch_option("The function that builds the network; it is named in the recipe and not run.")
@cloup.option("--out", metavar="FILE", default="optimize.toml", show_default=True, help="File to write.")
@cloup.option("--overwrite", is_flag=True, help="Replace the file in --out.")
def init(model: Path, data: str | None, arch: str | None, out: str, overwrite: bool) -> None:
    """Inspect MODEL and DATA, and write a commented optimize.toml.

    What the files say becomes a setting; what only the training code knows becomes a comment to fill in.

    Exit code: 0 written, 2 wrong input.
    """
    with one_line_errors():
        from optimize.run.init import init as write

        written = write(model, data, arch=arch, out=out, overwrite=overwrite)
    say(f"written: {written.path}")
    if written.open_questions:
        say(f"to fill in: {'; '.join(written.open_questions)}")
    say(f"then: optimize plan {model} --recipe {out}")
