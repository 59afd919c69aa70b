"""requirements.txt: the exact versions that the runner needs, with the hashes of their wheels where the wheels are known.

    requirements.txt         numpy, the runtime, and all that these need
    requirements-sign.txt    what a check of the signature needs
    requirements-serve.txt   what `python -m bundle serve` needs
    wheels/                  the wheels themselves, with --wheels

A hash can be known from a wheel only. What is installed lists hashes of its single files, which are no hash of the wheel they came from. So
without wheels the versions are exact and there are no hashes, and the file says so.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from optimize.deploy.bundle.bundled_run import BundledRun
from optimize.deploy.bundle.needed_packages import PURPOSES, NeededPackage, needed
from optimize.deploy.bundle.wheels import chosen_wheels, download
from optimize.errors import InputError
from optimize.files import sha256

NAME = "requirements.txt"
_WHAT = {
    "run": "What the runner in bundle/ needs to run this model.",
    "sign": "What the runner needs to check the signature: python -m bundle check --key KEY.",
    "serve": "What the runner needs to answer over the network: python -m bundle serve.",
}


def render(run: BundledRun) -> Mapping[str, str | Path]:
    """Return the requirement files, and the wheels where they were asked for.

    Raises:
        InputError: when a wheel that the runner needs is not in the folder, or cannot be downloaded.
    """
    packages = {purpose: found for purpose in PURPOSES if (found := needed(run, purpose))}
    wheels = _wheels(run, packages)
    texts: dict[str, str | Path] = {file_name(purpose): text(purpose, found, wheels) for purpose, found in packages.items()}
    return texts | {f"wheels/{file.name}": file for file in wheels.values()}


def file_name(purpose: str) -> str:
    """Return the path of the requirements of a purpose."""
    return NAME if purpose == "run" else f"requirements-{purpose}.txt"


def text(purpose: str, packages: tuple[NeededPackage, ...], wheels: Mapping[str, Path]) -> str:
    """Return the content of a requirements file.

    Args:
        purpose: one of `PURPOSES`.
        packages: packages to list, sorted by name.
        wheels: normalised name of a package -> its wheel. Hashes are written where every package has one: pip takes all or none.
    """
    known = all(package.name in wheels for package in packages)
    lines = [f"# {_WHAT[purpose]}", *(f"# {line}" for line in _remarks(purpose, packages, known=known)), ""]
    for package in packages:
        lines.append(f"{package.pin} \\\n    --hash=sha256:{sha256(wheels[package.name])}" if known else package.pin)
    return "\n".join(lines) + "\n"


def _remarks(purpose: str, packages: tuple[NeededPackage, ...], *, known: bool) -> Iterator[str]:
    if known:
        python = ".".join(platform.python_version_tuple()[:2])
        yield f"The hashes are those of the files in wheels/, for Python {python} on {platform.system()} {platform.machine()}."
        yield f"Without a network: pip install --no-index --find-links wheels --require-hashes -r {file_name(purpose)}"
    else:
        yield "The versions are exact. There are no hashes: a hash is known of a wheel only, and not every wheel was given."
    for package in packages:
        if package.installed is None:
            yield f"{package.name} was not installed where the bundle was made, so what it needs itself is not listed."
        elif package.installed != package.version:
            yield f"{package.name} {package.version} is what the run used; what it needs was read from {package.installed}."


def _wheels(run: BundledRun, packages: Mapping[str, tuple[NeededPackage, ...]]) -> dict[str, Path]:
    """Return normalised name of a package -> its wheel; empty where no wheels were asked for."""
    if run.wheels is False:
        return {}
    wanted = {package.name: package for found in packages.values() for package in found}
    listed = [wanted[name] for name in sorted(wanted)]
    folder = run.scratch / "wheels"
    if run.wheels is True:
        folder.mkdir()
        download(listed, folder)
    else:
        folder = Path(run.wheels)
    wheels = chosen_wheels(listed, folder)
    if missing := [package.pin for package in packages["run"] if package.name not in wheels]:
        where = "what was downloaded" if run.wheels is True else f"`--wheels` (={folder})"
        raise InputError(f"{where} has no wheel of {missing[0]} for this Python and this platform: add it, such as with pip download.")
    return wheels
