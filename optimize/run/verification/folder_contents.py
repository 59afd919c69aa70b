"""List the files of a folder without following any link, hash them, and compare them with a list.

A path is written with slashes, "model/artifact.json". A path from a list is never opened before it has been compared with the paths that
the folder holds. So a list that names "../x" or "/etc/x" names a missing file, and no file outside the folder is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from optimize.backends.artifact import ArtifactFile
from optimize.errors import InputError
from optimize.files import sha256_of

AGAIN = "copy the folder of the run again"
"""The remedy for a file that is missing or was altered."""
DEEPEST = 4
"""Largest depth of folders within folders: one more than any run has, so that a prepared folder cannot make the listing endless."""


@dataclass(frozen=True)
class Contents:
    """The paths in a folder.

    Args:
        files: paths of regular files, sorted.
        folders: paths of folders, sorted.
        strange: path of anything that is neither a file nor a folder -> what it is, such as "a symbolic link".
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    strange: Mapping[str, str]

    def beside(self, expected: Mapping[str, object]) -> tuple[str, ...]:
        """Return all paths that a list of files does not contain, sorted; a folder is contained where one of its files is."""
        # of "model/a.onnx" the folder "model" is accounted for; an empty folder is not
        parents = {path[:at] for path in expected for at, letter in enumerate(path) if letter == "/"}
        return tuple(sorted(({*self.files, *self.strange} - set(expected)) | (set(self.folders) - parents - set(expected))))


def contents(folder: Path) -> Contents:
    """Return the paths in a folder; no link in it is followed."""
    files: list[str] = []
    folders: list[str] = []
    strange: dict[str, str] = {}

    def look(place: Path, prefix: str, depth: int) -> None:
        with os.scandir(place) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_symlink():
                    strange[path] = "a symbolic link"
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    if depth < DEEPEST:
                        look(Path(entry.path), f"{path}/", depth + 1)
                    else:
                        strange[f"{path}/…"] = "nested too deeply"
                elif entry.is_file(follow_symlinks=False):
                    files.append(path)
                else:
                    strange[path] = "neither a file nor a folder"

    look(folder, "", 1)
    return Contents(tuple(sorted(files)), tuple(sorted(folders)), strange)


def listed(files: Mapping[str, Path]) -> list[ArtifactFile]:
    """Return the hashes of files.

    Args:
        files: path within the folder where the file will lie -> path where it lies now.

    Returns:
        One entry for each file, named by its path within the folder, sorted by that path.
    """
    return [replace(ArtifactFile.of(place), name=path) for path, place in sorted(files.items())]


def require(folder: Path, expected: Mapping[str, ArtifactFile], inventory: Contents) -> None:
    """Check that every file of a list is there, is a regular file, and has the listed hash.

    Args:
        folder: the folder that was listed.
        expected: files by their paths within the folder.
        inventory: paths in the folder, from `contents`.

    Raises:
        InputError: naming the first file that is missing, is no file, or has other bytes.
    """
    for path, file in expected.items():
        if wrong := _wrong(folder, path, file, inventory):
            raise InputError(f"`{folder}`: its file {plain(path)} {wrong}: {AGAIN}.")


def _wrong(folder: Path, path: str, file: ArtifactFile, inventory: Contents) -> str:
    """Return what is wrong with a file of a list; empty text where nothing is."""
    if path in inventory.strange or path in inventory.folders:
        return f"is {inventory.strange.get(path, 'a folder')}"
    if path not in inventory.files:
        return "is missing"
    # the size first: it costs nothing, and a model of gigabytes need not be hashed to be refused
    if (size := (folder / path).lstat().st_size) != file.size_bytes:
        return (
            f"is not the one that the report lists (it has {size} bytes, not {file.size_bytes}); it or report.json was altered or swapped"
        )
    if digest(folder / path) != file.sha256:
        return "is not the one that the report lists (its sha256 differs); it or report.json was altered or swapped"
    return ""


def digest(path: Path) -> str:
    """Return the SHA-256 of a regular file, 64 hexadecimal digits; a link is not followed, where the system can tell.

    Raises:
        InputError: when it is no regular file any more.
    """
    # Listed as a file a moment ago, it may be a link by now. So the flags forbid links, a pipe may not block, and the type of what was
    # opened is checked, not that of what was listed.
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as problem:
        if isinstance(problem, PermissionError):
            raise
        raise InputError(f"`{path}` cannot be opened ({(problem.strerror or '').lower()}): {AGAIN}.") from None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise InputError(f"`{path}` is no regular file: {AGAIN}.")
        return sha256_of(stream)


def plain(path: str) -> str:
    """Return a path for a message of one line, escaped where it has characters that cannot be printed."""
    return path if path.isprintable() else ascii(path)
