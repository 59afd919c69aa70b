"""`optimize verify`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import cloup

from optimize.cli.one_line_errors import EXIT, one_line_errors
from optimize.cli.options import (
    FILE,
    arch_option,
    data_option,
    history_option,
    json_option,
    sign_key_option,
    trust_pickle_option,
    verbose_option,
)
from optimize.cli.printing import print_summary, say

_FIRST_LINE = {"pass": "VERIFIED on this machine", "fail": "REFUSED on this machine", "inconclusive": "INCONCLUSIVE on this machine"}


@cloup.command()
@click.argument("run", type=FILE)
@cloup.option("--public-key", "--key", metavar="FILE|BASE64", help="Ed25519 key (PEM or base64) that must have signed report or bundle.")
@cloup.option("--model", type=FILE, metavar="FILE", help="The original, where it lies elsewhere on this machine.")
@arch_option("The function that builds the original, where it lies elsewhere on this machine.")
@sign_key_option()
@data_option("Of a run: its data, where they lie elsewhere, to judge it again. Of a bundle: the cases of this site.")
@cloup.option("--record", type=FILE, metavar="FOLDER", help="Of a bundle: folder for an acceptance record, which --sign-key signs.")
@history_option("Record of looks at the test split, where it lies elsewhere; by default the run's.")
@trust_pickle_option()
@json_option("the findings")
@verbose_option()
def verify(run: Path, as_json: bool, verbose: bool, **settings: Any) -> None:
    """Check a compiled model on this machine, or finish the verdict of a run that could not be judged where it was compiled.

    RUN is the folder of a run, or the `model` in it; or a bundle, as a folder or a .tar.gz. With --data a bundle is judged on the cases of
    this site: with labels by the guard-rails of its run, without by its agreement with the original.

    Exit code: 0 it holds, 1 it does not, 2 wrong input, 3 inconclusive, 4 the target cannot run here.
    """
    with one_line_errors(as_json, verbose=verbose):
        from optimize.run.verification.site import verify_path as check

        verification = check(run, **settings)
    if as_json:
        say(json.dumps(verification.as_dict(), sort_keys=True))
    elif verification.report is not None:
        print_summary(verification.report, run)
    else:
        for line in (_FIRST_LINE[verification.outcome], *verification.findings):
            say(line)
    sys.exit(EXIT[verification.outcome])
