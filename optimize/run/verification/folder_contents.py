"""The files of a folder by their paths within it: listed without following any link, hashed, and compared with a list.

A path is written with slashes, "model/artifact.json". Paths that a list names are never opened as such: they are only compared with those
that the folder was found to hold, so "../x" or "/etc/x" is a file that is missing, and nothing else.
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
"""What mends a file that is missing or was altered."""
DEEPEST = 4
"""Folders within folders, which is one more than any run has."""


@dataclass(frozen=True)
class Contents:
    """What a folder holds.

    Args:
        files: paths of regular files, sorted.
        folders: paths of folders, sorted.
        strange: path -> what else lies there, such as "a symbolic link".
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    strange: Mapping[str, str]

    def beside(self, expected: Mapping[str, object]) -> tuple[str, ...]:
        """Everything that a list of files does not account for, sorted; a folder is accounted for by a file in it."""
        parents = {path[:at] for path in expected for at, letter in enumerate(path) if letter == "/"}
        return tuple(sorted(({*self.files, *self.strange} - set(expected)) | (set(self.folders) - parents - set(expected))))


def contents(folder: Path) -> Contents:
    """List a folder; no link in it is followed."""
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
    """Hash files.

    Args:
        files: path within the folder, where each will lie -> where it lies now.

    Returns:
        One entry for each, named by its path within the folder, sorted.
    """
    return [replace(ArtifactFile.of(place), name=path) for path, place in sorted(files.items())]


def require(folder: Path, expected: Mapping[str, ArtifactFile], inventory: Contents) -> None:
    """See that every file of a list is there, is a regular file, and is the one that was listed.

    Args:
        folder: that was listed.
        expected: files by their paths within the folder.
        inventory: what `contents` says of the folder.

    Raises:
        InputError: naming the first file that is missing, is no file, or has other bytes.
    """
    for path, file in expected.items():
        if wrong := _wrong(folder, path, file, inventory):
            raise InputError(f"`{folder}`: its file {plain(path)} {wrong}: {AGAIN}.")


def _wrong(folder: Path, path: str, file: ArtifactFile, inventory: Contents) -> str:
    """What is wrong with a file of a list; empty where nothing is."""
    if path in inventory.strange or path in inventory.folders:
        return f"is {inventory.strange.get(path, 'a folder')}"
    if path not in inventory.files:
        return "is missing"
    if (size := (folder / path).lstat().st_size) != file.size_bytes:
        return (
            f"is not the one that the report lists (it has {size} bytes, not {file.size_bytes}); it or report.json was altered or swapped"
        )
    if digest(folder / path) != file.sha256:
        return "is not the one that the report lists (its sha256 differs); it or report.json was altered or swapped"
    return ""


def digest(path: Path) -> str:
    """SHA-256 of a regular file, in hex; a link is not followed, where the system can tell.

    Raises:
        InputError: when it is no regular file any more.
    """
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
    """A path for a message of one line: a name with letters that cannot be printed is escaped."""
    return path if path.isprintable() else ascii(path)
