"""The bundle as it is: a folder to be copied, or its archive."""

from __future__ import annotations

import shutil
from pathlib import Path

NAME = "plain"


def write(bundle: Path, out: Path) -> None:
    """Copy the bundle.

    Args:
        bundle: folder of the complete bundle.
        out: folder to make.
    """
    shutil.copytree(bundle, out)
