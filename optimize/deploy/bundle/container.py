"""What is the same in every container of a bundle: where it lies, as whom it runs, and what it does."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER, PACKAGES = "/opt/bundle", "/opt/site-packages"
USER = "65532:65532"
"""User and group without a name, a home or a right: the usual "nonroot" of minimal images."""
PORT = 8080
SERVER = "uvicorn"
"""The package that tells whether `python -m bundle serve` can run."""


def serves(bundle: Path) -> bool:
    """Return whether the packages of a bundle include a server: in `wheels/` where there are any, else in requirements.txt.

    Args:
        bundle: folder of the bundle.
    """
    wheels = [wheel.name for wheel in (bundle / "wheels").glob("*.whl")]
    if wheels:
        return any(name.startswith(f"{SERVER}-") for name in wheels)
    required = bundle / "requirements.txt"
    return required.exists() and re.search(rf"^{SERVER}\b", required.read_text(encoding="utf-8"), re.MULTILINE) is not None


def command(bundle: Path) -> list[str]:
    """Return what a container does where it is told nothing: it serves, or checks the bundle where no server is among the packages.

    Args:
        bundle: folder of the bundle.
    """
    # 0.0.0.0 is the container's own network: what of it others reach, whoever starts the container decides
    return ["serve", "--host", "0.0.0.0", "--port", str(PORT)] if serves(bundle) else ["check"]  # noqa: S104
