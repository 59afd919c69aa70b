"""See that what is to be verified is a bundle, and say what it is where it is not: what other formats write, or any other archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optimize.deploy.bundle.manifest import MANIFEST
from optimize.errors import InputError
from optimize.run.verification.claims import REPORT
from optimize.run.verification.folder_contents import plain

LAYOUT = "oci-layout"
"""File at the top of an image of the format "oci"."""


@contextmanager
def named_as(archive: Path, folder: Path) -> Iterator[None]:
    """Let errors name the archive, where they name the temporary folder that it was extracted into."""
    try:
        yield
    except InputError as problem:
        raise InputError(str(problem).replace(str(folder), str(archive))) from None


def require_bundle(path: Path, folder: Path) -> None:
    """Check that what was extracted from an archive is a bundle; else say what it is."""
    if os.path.lexists(folder / MANIFEST):
        return
    require_not_around_a_bundle(path, folder)
    if (folder / LAYOUT).is_file():
        raise InputError(f"`run` (={path}) is an image (--format oci), which holds the bundle in a layer: give the bundle itself.")
    found = ", ".join(sorted(place.name for place in folder.iterdir())[:4]) or "nothing"
    raise InputError(
        f"`run` (={path}) holds no bundle: its one folder must hold {MANIFEST}, and it holds {plain(found)}; "
        "give the archive that `optimize bundle` made."
    )


def require_not_around_a_bundle(path: Path, folder: Path) -> None:
    """Refuse what the formats "docker" and "triton" write, naming the bundle in it.

    Args:
        path: the folder, or the archive of it, as the user named it.
        folder: the folder itself, or where the archive was extracted.

    Raises:
        InputError: when the folder holds no run, and a bundle in its `bundle/`.
    """
    if (folder / "bundle" / MANIFEST).is_file() and not os.path.lexists(folder / REPORT):
        remedy = "give that folder" if path.is_dir() else "extract it, and give that folder"
        raise InputError(f"`run` (={path}) is no bundle (--format docker or triton); the bundle lies in its folder bundle/: {remedy}.")


def require_archive(path: Path) -> None:
    """Check that a file begins as a gzip file does, so that any other file is called what it is."""
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            raise InputError(f"`run` (={path}) is neither a folder nor a .tar.gz: give the folder of a run, or a bundle.")
