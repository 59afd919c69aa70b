"""`optimize bundle`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import FILE, json_option, verbose_option
from optimize.cli.printing import say


class _Wheels(click.ParamType[bool | Path]):
    """A folder; or nothing, which the command passes on as True."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool | Path:
        """Return True, False or the folder."""
        return value if isinstance(value, bool) else Path(value)


@cloup.command()
@click.argument("run", type=FILE)
@cloup.option("--out", type=FILE, required=True, metavar="DIR|FILE.tar.gz", help="Folder to make, or archive where it ends in .tar.gz.")
@cloup.option("--format", metavar="NAME", default="plain", show_default=True, help="What it is packed as: plain, oci, docker or triton.")
@cloup.option("--base-image", type=FILE, metavar="DIR", help="OCI layout that an image of format oci builds on, so that it can run.")
@cloup.option("--sign-key", type=FILE, metavar="FILE", help="Private Ed25519 key (PEM) that signs the bundle.")
@cloup.option("--public-key", metavar="FILE|BASE64", help="The Ed25519 key (PEM or base64) that must have signed the run's report.")
@cloup.option(
    "--wheels",
    is_flag=False,
    flag_value=True,
    default=False,
    type=_Wheels(),
    metavar="[FOLDER]",
    help="Add the packages that the runner needs, from this folder; without a name they are downloaded.",
)
@cloup.option("--model-licence", metavar="TEXT", default="", help="Licence of the model, for the licence notes, such as CC-BY-4.0.")
@cloup.option("--data-licence", metavar="TEXT", default="", help="Licence of the data, for the licence notes.")
@cloup.option("--not-accepted", is_flag=True, help="Bundle a run that was not accepted as well; its bundle says so at every start.")
@cloup.option("--overwrite", is_flag=True, help="Replace an earlier bundle.")
@json_option("what was bundled")
@verbose_option()
def bundle(run: Path, as_json: bool, verbose: bool, **settings: Any) -> None:
    """Pack a finished run, its model and a runner for a machine without a network.

    RUN is the folder of an accepted run.

    Exit code: 0 it was bundled, 2 wrong input, or a run that was not accepted.
    """
    with one_line_errors(as_json, verbose=verbose):
        from optimize.run.bundle import bundle as write

        bundled = write(run, **settings)
    said = bundled.as_dict()
    if as_json:
        say(json.dumps(said, sort_keys=True))
        return
    if said["warning"]:
        say(f"WARNING: {said['warning']}")
    say(f"{said['path']}: {said['files']} files, {said['bytes'] / 2**20:.1f} MiB, {'signed' if said['signed_by'] else 'not signed'}")
    say(f"manifest {said['manifest_sha256']}")
