"""The command `python -m bundle`: one subcommand for each module in `commands/`.

A module has `HELP`, `add_arguments(parser)` and `run(arguments) -> int`; its file name is the subcommand.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from . import commands
from .errors import Refused, WrongInput
from .signature import VARIABLE


def main(arguments: Sequence[str]) -> int:
    """Run a subcommand and return the exit code: 0 done, 2 wrong call or image, 4 refused.

    Args:
        arguments: what stands behind `python -m bundle`.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        return int(asked.module.run(asked))
    except (Refused, WrongInput) as problem:
        word = "refused: " if isinstance(problem, Refused) else ""
        print(f"bundle: {word}{' '.join(str(problem).split())}", file=sys.stderr)
        return problem.exit_code
    except BrokenPipeError:
        # whoever read the output has gone, as in `| head`; stdout is closed here so that Python does not complain at its end
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundle", description="Check this bundle, and run its model on images.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in _modules().items():
        sub = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        sub.add_argument("--key", help=f"public key that must have signed the bundle: a file in PEM, or base64; default: ${VARIABLE}")
        sub.add_argument("--threads", type=int, help="threads of one call; default: as many as in the run")
        own = Path(__file__).parents[1]
        sub.add_argument("--bundle", type=Path, default=own, help="folder of the bundle; default: that of this runner")
        module.add_arguments(sub)
        sub.set_defaults(module=module)
    return parser


def _modules() -> dict[str, ModuleType]:
    """Return the subcommands, by name; the modules import their larger parts only when they run."""
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    return {name: importlib.import_module(f".{name}", commands.__name__) for name in names}
