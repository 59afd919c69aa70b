"""A folder as .tar.gz, with the same bytes each time: nothing of this machine, this user or this moment is in it.

    entries    sorted by their paths, folders included
    times      0 (1970)
    owner      0, without names
    rights     644 for files, 755 for folders, whatever the umask was
    gzip       without the name of the file and without a time

The compression itself is that of the zlib here; another zlib may give other bytes for the same content.
"""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

SUFFIXES = (".tar.gz", ".tgz")
LEVEL = 6
"""Compression of gzip; weights hardly become smaller at a higher one."""


def is_archive_name(path: Path) -> bool:
    """Return whether a path asks for an archive.

    >>> is_archive_name(Path("cells.tar.gz")), is_archive_name(Path("cells"))
    (True, False)
    """
    return path.name.lower().endswith(SUFFIXES)


def write_archive(folder: Path, out: Path, top: str = "") -> None:
    """Write the archive of a folder.

    Args:
        folder: folder of regular files and folders.
        out: file to write.
        top: name of the one folder in the archive that holds everything; empty where everything is to lie at its top.
    """
    prefix = f"{top}/" if top else ""
    with (
        out.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0) as packed,
        # pax: names longer than 100 characters and files larger than 8 GiB, with nothing added for others
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        if top:
            archive.addfile(_entry(top, None))
        # by their POSIX text: a Path sorts by its parts, and differently on Windows
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
            name = prefix + path.relative_to(folder).as_posix()
            if path.is_dir():
                archive.addfile(_entry(name, None))
            else:
                with path.open("rb") as content:
                    archive.addfile(_entry(name, path.stat().st_size), content)


def _entry(name: str, size: int | None) -> tarfile.TarInfo:
    """Return the entry of a file of this size, or of a folder where it is None."""
    # a new TarInfo has time 0, owner 0 and no names of owners already
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = (tarfile.DIRTYPE, 0o755, 0) if size is None else (tarfile.REGTYPE, 0o644, size)
    return entry
