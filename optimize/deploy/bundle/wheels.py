"""The wheels of the packages that a bundle needs: chosen from a folder, or downloaded on the user's word.

A wheel is chosen by its name alone, which says the package, its version, and the interpreters and platforms that it is for. Of several that
fit, the one whose tag this interpreter prefers is taken, as pip does. Its hash is that of the file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from optimize.deploy.bundle.needed_packages import NeededPackage
from optimize.errors import InputError

SECONDS = 1800
"""Longest time that a download may take."""


def wheel_of(package: NeededPackage, files: Iterable[Path]) -> Path | None:
    """Return the wheel of a package for this interpreter; None where there is none.

    Args:
        package: name and exact version.
        files: files to choose from; what is no wheel is left out.
    """
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    fitting: list[tuple[int, tuple[int, str] | tuple[()], str, Path]] = []
    for file in files:
        try:
            name, version, build, tags = parse_wheel_filename(file.name)
            wanted = Version(package.version)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if name == canonicalize_name(package.name) and version == wanted and rank is not None:
            # of equal tags the later build, as pip does; by name last, so that the choice is the same each time
            fitting.append((-rank, build, file.name, file))
    return max(fitting)[3] if fitting else None


def chosen_wheels(packages: Sequence[NeededPackage], folder: Path) -> dict[str, Path]:
    """Return normalised name of a package -> its wheel in a folder, for the packages that have one there.

    Raises:
        InputError: when there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"`--wheels` (={folder}) is no folder: name one that holds the wheels, or leave the name out to download them.")
    # only plain files: a link could lead anywhere
    files = sorted(file for file in folder.glob("*.whl") if file.is_file() and not file.is_symlink())
    found = {package.name: wheel_of(package, files) for package in packages}
    return {name: file for name, file in found.items() if file is not None}


def download(packages: Sequence[NeededPackage], folder: Path) -> None:
    """Download the wheels of packages into an existing folder, with pip and the package index that pip is set to.

    Raises:
        InputError: when pip is missing, the index cannot be reached, or it has no wheel of a package for this interpreter.
    """
    # exactly these versions, without their own requirements, which are in the list already; no source that would have to be built and run
    options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet", "--retries=1", "--timeout=30")
    call = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *(package.pin for package in packages)]
    remedy = "check the network, or name a folder that holds them: --wheels FOLDER"
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise InputError(f"`--wheels`: the wheels could not be downloaded ({type(problem).__name__}): {remedy}.") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["no reason was given"]
        reason = " ".join(lines[-1].split())[:200]
        raise InputError(f"`--wheels`: the wheels could not be downloaded ({reason}): {remedy}.")
