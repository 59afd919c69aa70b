"""What is the same in every container of a bundle: where it lies, as whom it runs, what it installs, and what it does."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER, PACKAGES = "/opt/bundle", "/opt/site-packages"
USER = "65532:65532"
"""User and group without a name, a home or a right: the usual "nonroot" of minimal images."""
PORT = 8080
SERVER = "uvicorn"
"""The package that tells whether `python -m bundle serve` can run."""


def requirements(bundle: Path) -> list[str]:
    """Return the names of the requirement files that a container installs: all, or with `wheels/` those whose packages all lie there.

    Args:
        bundle: folder of the bundle.
    """
    wheels = {_normalised(wheel.name.partition("-")[0]) for wheel in (bundle / "wheels").glob("*.whl")}
    files = sorted(bundle.glob("requirements*.txt"))
    return [file.name for file in files if not wheels or _packages(file) <= wheels]


def serves(bundle: Path) -> bool:
    """Return whether a server is among the packages that a container installs.

    Args:
        bundle: folder of the bundle.
    """
    return any(SERVER in _packages(bundle / name) for name in requirements(bundle))


def command(bundle: Path) -> list[str]:
    """Return what a container does where it is told nothing: it serves, or checks the bundle where no server is among the packages.

    Args:
        bundle: folder of the bundle.
    """
    # 0.0.0.0 is the container's own network: what of it others reach, whoever starts the container decides
    return ["serve", "--host", "0.0.0.0", "--port", str(PORT)] if serves(bundle) else ["check"]  # noqa: S104


def _packages(file: Path) -> set[str]:
    """Return the packages of a requirements file, whose lines begin with NAME==VERSION."""
    return {_normalised(name) for name in re.findall(r"^([A-Za-z0-9._-]+)\s*==", file.read_text(encoding="utf-8"), re.MULTILINE)}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
