"""`optimize protocol`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE, arch_option, data_option, json_option, trust_pickle_option
from optimize.cli.printing import say


@cloup.command()
@click.argument("file", type=FILE)
@cloup.option("--draft", type=FILE, metavar="MODEL", help="Write FILE as a draft for a change of this model.")
@cloup.option("--target", metavar="NAME", help="With --draft: the runtime to compile for.")
@cloup.option("--recipe", "recipe_file", type=FILE, metavar="FILE", help="With --draft: settings of the run, such as its limits.")
@arch_option("With --draft: the function that builds the network.")
@data_option("With --draft: the data of the run.")
@trust_pickle_option()
@cloup.option("--sign-key", type=FILE, metavar="FILE", help="Private Ed25519 key (PEM) that signs the protocol.")
@json_option("the protocol's hash and signature")
def protocol(file: Path, draft: Path | None, recipe_file: Path | None, sign_key: Path | None, as_json: bool, **settings: Any) -> None:
    """Draft, check or sign the protocol of a change, before the run.

    FILE is the protocol. With --draft it is written: what a person must decide is left empty. Without, it must be complete. The signature
    is written to FILE.dsse.json. `optimize compress --protocol FILE` checks both before any work.

    Exit code: 0 done, 2 the protocol is not complete, or other wrong input.
    """
    with one_line_errors(as_json):
        from optimize.run.fixed_protocol import fix_protocol

        done = fix_protocol(file, draft=draft, sign_key=sign_key, recipe_file=recipe_file, settings=settings)
    say(json.dumps(done.as_dict(), sort_keys=True) if as_json else done.sentence)
