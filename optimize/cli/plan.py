"""`optimize plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cloup

from optimize.cli.compress import run_options
from optimize.cli.printing import print_plan


@cloup.command()
@run_options
@cloup.option("--files", metavar="PATH", multiple=True, help="Image, or folder of images, to time from the file to the answer; repeatable.")
@cloup.option("--pipeline", metavar="FILE.py:FUNCTION", help="For --files: your function from a path to the network's input; it is run.")
def plan(
    model: Path | None,
    target: str | None,
    recipe_file: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    verbose: bool,
    files: tuple[str, ...],
    pipeline: str | None,
    **settings: Any,
) -> None:
    """Say what `optimize compress` with the same settings would do, how long it takes, and which limits the data can decide.

    Nothing is written, no test image is read by a network, and no look at the test split is recorded.

    Exit code: 0, 2 wrong input, 3 the test split can decide none of the limits, 4 the target cannot run here.
    """
    switches = {"resume": resume, "overwrite": overwrite, "as_json": as_json, "verbose": verbose}
    print_plan(model, target, recipe_file, settings, **switches, files=files, pipeline=pipeline)
