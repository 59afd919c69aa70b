"""Put a finished bundle in its place: other processes see the whole of it or none."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optimize.deploy.bundle.archive import is_archive_name
from optimize.errors import InputError


def require_free(out: Path, *, mark: str, overwrite: bool) -> None:
    """Check that a bundle may be put to a path, without losing what is the user's.

    Args:
        out: folder, or file of an archive.
        mark: path in a folder that shows that it is an earlier bundle of this format.
        overwrite: whether an earlier bundle may be replaced.

    Raises:
        InputError: when something is there that may not be replaced.
    """
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    earlier = _is_archive_with(out, mark) if is_archive_name(out) else out.is_dir() and (out / mark).is_file()
    # a folder of the user's own is never removed, whatever was asked for
    if out.is_symlink() or not earlier:
        raise InputError(f"`--out` (={out}) exists and is no earlier bundle of this format: name another path.")
    if not overwrite:
        raise InputError(f"`--out` (={out}) exists already: add --overwrite, or name another path.")


def _is_archive_with(path: Path, mark: str) -> bool:
    """Return whether a file is a .tar.gz that holds the mark at its top, or in the folder that its first entry lies in."""
    if not path.is_file() or path.is_symlink():
        return False
    try:
        # as a stream, so that reading ends at the mark
        with tarfile.open(path, "r|gz") as archive:
            top = ""
            for place, entry in enumerate(archive):
                name = entry.name.removeprefix("./")
                top = name.partition("/")[0] if not place else top
                if entry.isfile() and name in (mark, f"{top}/{mark}"):
                    return True
    except (OSError, EOFError, tarfile.TarError, zlib.error):
        return False
    return False


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """Make an empty working folder beside a path, where a rename to the path is one step; it is removed at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as problem:
        raise InputError(f"`--out` (={out}) cannot be written ({(problem.strerror or '').lower()}): name another path.") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(made: Path, out: Path, work: Path) -> None:
    """Move a file or a folder to `out`; an earlier one goes to the working folder, and back where the move fails."""
    if made.is_file():
        os.replace(made, out)
        return
    earlier = work / "earlier"
    # a folder cannot be replaced in one step, only an empty one
    if out.exists():
        os.rename(out, earlier)
    try:
        os.rename(made, out)
    except OSError:
        if earlier.exists():
            os.rename(earlier, out)
        raise
