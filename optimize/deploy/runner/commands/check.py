"""`python -m bundle check`: all checks, and no image."""

from __future__ import annotations

import argparse

HELP = "check manifest, signature, files, machine and self-test; exit code 4 when one fails"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: all arguments of this subcommand are those of every one."""


def run(arguments: argparse.Namespace) -> int:
    """Check the bundle, print what was found, and return 0.

    Raises:
        Refused: when a check fails.
    """
    from ..model import Model

    with Model(arguments.bundle, arguments.key, arguments.threads) as model:
        found = model.checked
        signed = "no key pinned, so nobody vouches for it" if found.fingerprint is None else f"signed by key {found.fingerprint}"
        what = f"{model.manifest['name']} for {found.manifest.target}, {found.manifest.precision}"
        print(f"{what}: {len(found.manifest.files)} files as listed; {signed}")
        print(f"self-test: {found.finding}")
    return 0
