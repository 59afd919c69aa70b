"""`optimize audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import cloup

from optimize.cli.compress import DATA_OPTIONS, MODEL_OPTIONS
from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE, json_option, seed_option, verbose_option
from optimize.cli.printing import say


@cloup.command()
@click.argument("model", required=False, type=FILE)
@MODEL_OPTIONS
@DATA_OPTIONS
@cloup.option_group(
    "Output",
    seed_option(),
    cloup.option("--recipe", "recipe_file", type=FILE, help="A toml file of settings; it overrides the optimize.toml beside the model."),
    cloup.option("--out", metavar="DIR", type=FILE, help="Folder for audit.html and audit.json; by default nothing is written."),
    json_option("the audit"),
    verbose_option(),
)
def audit(
    model: Path | None, target: str | None, recipe_file: Path | None, out: Path | None, as_json: bool, verbose: bool, **settings: Any
) -> None:
    """Say what is redundant in MODEL, layer by layer, and which method suits each layer. Nothing is changed, and no test image is read.

    Exit code: 0, 2 wrong input, 4 the target cannot run here.
    """
    with one_line_errors(as_json, verbose=verbose):
        from optimize.run.audit import audit as run
        from optimize.run.recipe import resolve

        made = run(resolve(model, target=target or "cpu", overrides=settings, recipe_file=recipe_file), out=out)
    say(json.dumps(made.as_dict(), sort_keys=True) if as_json else made.lines)
    if out is not None and not as_json:
        say(f"audit: {out / 'audit.html'}")
