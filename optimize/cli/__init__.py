"""The command `optimize`: parse, call the library, print.

Each module of this folder that defines a `click.Command` of its own name is a command of `optimize`. So a new command is one new file:
`cli/weigh.py` with a command `weigh` in it becomes `optimize weigh`.

Exit codes: 0 accepted, 1 rejected, 2 wrong input, 3 inconclusive, 4 the target cannot run here; 130 interrupted, 70 a mistake of ours.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import click

from optimize.cli.one_line_errors import OneLineErrors

__all__ = ["main"]


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="optimize")
def main() -> None:
    """Take a trained model to a smaller, faster, verified artifact for the machine that will run it."""


def _commands() -> Iterator[click.Command]:
    """Yield the commands that the modules of this folder define."""
    for module in pkgutil.iter_modules(__path__):
        command = getattr(importlib.import_module(f"{__name__}.{module.name}"), module.name, None)
        if isinstance(command, click.Command):
            yield command


for _command in _commands():
    main.add_command(_command)
