"""`python -m bundle serve`: the model over HTTP, by the Open Inference Protocol (KServe v2)."""

from __future__ import annotations

import argparse
import importlib.util
import re

from ..errors import Refused, WrongInput
from ..installing import pip_command

HELP = "answer over HTTP by the Open Inference Protocol (KServe v2), until SIGTERM"
PACKAGES = {"uvicorn": "uvicorn", "starlette": "starlette", "prometheus_client": "prometheus-client"}
"""What serving needs besides numpy and the runtime: name of the module -> name of the package."""
_UNITS = {"": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the address and the limits."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default: 127.0.0.1, which other machines cannot reach")
    parser.add_argument("--port", type=int, default=8080, help="port; 0 for any that is free; default: 8080")
    parser.add_argument("--max-body", type=size, default="64MB", metavar="SIZE", help="largest body of a request; default: 64MB")
    parser.add_argument("--max-batch", type=int, default=64, metavar="N", help="most images of a request; default: 64")
    parser.add_argument("--max-waiting", type=int, default=16, metavar="N", help="requests that may wait; more are told 503; default: 16")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="requests that run at once, each in a thread; default: 1")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS", help="longest time for a request; default: 60")
    parser.add_argument("--drain-time", type=float, default=5.0, metavar="SECONDS", help="longest time to accept after SIGTERM; default: 5")


def size(text: str) -> int:
    """Return a number of bytes.

    >>> size("64MB"), size("1 KiB"), size("10")
    (64000000, 1024, 10)

    Raises:
        argparse.ArgumentTypeError: when the text is no size.
    """
    found = re.fullmatch(r"([0-9]{1,12}) ?([a-zA-Z]*)", text)
    if found is None or found[2].lower() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write a number with kB, MB, GB, KiB, MiB, GiB or nothing behind it")
    return int(found[1]) * _UNITS[found[2].lower()]


def run(arguments: argparse.Namespace) -> int:
    """Serve until the process is told to stop, and return 0.

    Raises:
        Refused: when a check of the bundle fails, a package is missing, or the address cannot be had.
        WrongInput: when a limit is none.
    """
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            remedy = pip_command(arguments.bundle, "serve", *PACKAGES.values())
            raise Refused(f"`serve` needs the package {package}, which is not installed: {remedy}.")
    _require(arguments)
    from ..model import Model
    from ..server.application import Limits
    from ..server.process import bound, serve

    limits = Limits(arguments.max_body, arguments.max_batch, arguments.max_waiting, arguments.workers, arguments.time_limit)
    # the address first: the checks of a large bundle take seconds
    with bound(arguments.host, arguments.port) as sock, Model(arguments.bundle, arguments.key, arguments.threads) as model:
        return serve(model, sock, limits, arguments.drain_time)


def _require(arguments: argparse.Namespace) -> None:
    least = {"max_body": 1024, "max_batch": 1, "max_waiting": 0, "workers": 1, "port": 0}
    for name, lowest in least.items():
        if getattr(arguments, name) < lowest:
            raise WrongInput(f"`--{name.replace('_', '-')}` (={getattr(arguments, name)}) must be at least {lowest}.")
    if arguments.port > 65535:
        raise WrongInput(f"`--port` (={arguments.port}) must be at most 65535.")
    for name in ("time_limit", "drain_time"):
        # `not` also catches what is no number at all
        if not 0 <= getattr(arguments, name) <= 3600 or (name == "time_limit" and not getattr(arguments, name)):
            raise WrongInput(f"`--{name.replace('_', '-')}` (={getattr(arguments, name):g}) must be a number of seconds, at most 3600.")
