"""Options that several commands share, so that one flag is spelled and explained in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click
import cloup

Function: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Function], Function]

FILE = click.Path(path_type=Path)


def json_option(what: str) -> Option:
    """`--json`, which prints `what` for other programs."""
    return cloup.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON on standard output.")


def verbose_option() -> Option:
    """`--verbose`."""
    return cloup.option("-v", "--verbose", is_flag=True, help="Print every reason in full while the work goes on.")


def arch_option(help: str = "The function that builds the network.") -> Option:
    """`--arch`."""
    return cloup.option("--arch", metavar="FILE.py:FACTORY|LIBRARY:NAME", help=help)


def input_option(help: str = "Shape of one input, such as 3,32,32.") -> Option:
    """`--input`."""
    return cloup.option("--input", "input_shape", metavar="C,H,W", help=help)


def data_option(help: str) -> Option:
    """`--data`."""
    return cloup.option("--data", metavar="DATA", help=help)


def trust_pickle_option() -> Option:
    """`--trust-pickle`, which must be given by hand: a file that comes with a model cannot ask for it."""
    help = "Load a model file that runs code; only if you trust its author."
    return cloup.option("--trust-pickle", is_flag=True, default=None, help=help)


def history_option(help: str) -> Option:
    """`--history`."""
    return cloup.option("--history", metavar="FILE", help=help)


def sign_key_option() -> Option:
    """`--sign-key`."""
    return cloup.option("--sign-key", metavar="FILE", help="Private Ed25519 key (PEM) that signs the report.")


def seed_option() -> Option:
    """`--seed`."""
    return cloup.option("--seed", metavar="N", help="Seed of everything that is sampled at random.")


def most_used(*names: str) -> Option:
    """Move options into a group of their own that opens the help; they are named as the command's function names them."""

    def decorate(function: Function) -> Function:
        # Click collects the options of a function bottom up: the last of this list is the first in the help.
        options: list[Any] = function.__click_params__  # type: ignore[attr-defined]
        by_name = {option.name: option for option in options}
        group = cloup.OptionGroup("Most used")
        for name in reversed(names):
            option = by_name[name]
            option.group = group
            options.remove(option)
            options.append(option)
        return function

    return decorate
