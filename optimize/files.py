"""Write files whole or not at all, and hash them.

A reader never meets half a file. What is written goes to a draft beside the file first, which then takes the file's place in one rename:

    report.json               the old file, which readers open meanwhile
    .report.json.4711.tmp     the draft of process 4711; removed when writing fails
    report.json               the new file, after the rename
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from io import BufferedReader
from pathlib import Path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits; of a folder, that of a list of its files with their hashes.

    The list is what `sha256sum *` prints in the folder: files that lie directly in it, by name, without hidden ones.

    Raises:
        OSError: when the file cannot be read.
    """
    if path.is_dir():
        listed = "".join(f"{sha256(file)}  {file.name}\n" for file in files_in(path))
        return hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as stream:
        return sha256_of(stream)


def sha256_of(stream: BufferedReader) -> str:
    """Return the SHA-256 of the bytes that are left in an opened file, 64 hexadecimal digits."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def files_in(folder: Path) -> list[Path]:
    """Return the files that lie directly in a folder, by name, without hidden ones."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def size_bytes(path: Path) -> int:
    """Return the size of a file; of a folder, that of the files that lie directly in it.

    Raises:
        OSError: when it cannot be looked at.
    """
    return sum(file.stat().st_size for file in files_in(path)) if path.is_dir() else path.stat().st_size


def write_atomically(path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Write a file that other processes see whole or not at all; its folder must exist.

    Args:
        path: file to write; one that is there already is replaced, and stays as it is when writing fails.
        content: bytes; or text, which is written as UTF-8 with the line ends it has; or a function that writes to the path it is given.

    Raises:
        OSError: when the folder or the disk does not take the file.
    """
    write_all_atomically({path: content})


def write_all_atomically(contents: Mapping[Path, bytes | str | Callable[[Path], object]]) -> None:
    """Write several files; none is replaced before all drafts are written, so that a failure to write leaves every old file.

    Args:
        contents: path -> what to write there, as for `write_atomically`; the folders must exist.

    Raises:
        OSError: when a folder or the disk does not take a file.
    """
    # A draft beside its target is on the same file system, so the replacement is one atomic rename.
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    try:
        for path, draft in drafts.items():
            # all drafts first: an error on a full disk comes here, when no old file has been replaced yet
            _write(draft, contents[path])
        for path, draft in drafts.items():
            os.replace(draft, path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def cache_folder(kind: str) -> Path:
    """Return the folder for measurements of this machine that runs share: `optimize/KIND` under XDG_CACHE_HOME, or under ~/.cache."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "optimize" / kind


def module_names(package: str) -> list[str]:
    """Return the names of a package's modules, sorted; only the package itself is imported.

    Args:
        package: full name of the package, such as "optimize.importance".
    """
    return sorted(entry.name for entry in pkgutil.iter_modules(importlib.import_module(package).__path__) if not entry.ispkg)


def called_dataclasses(package: str, *parameters: str) -> dict[str, list[type]]:
    """Return the dataclasses of a package's modules that are called with these parameters, by module; all modules are imported.

    This is how a signal or a step is found without a list: one new file is enough.

    Args:
        package: full name of the package, such as "optimize.importance".
        parameters: names of the parameters of `__call__`, without `self`.
    """
    classes: dict[str, list[type]] = {}
    for name in module_names(package):
        module = importlib.import_module(f"{package}.{name}")
        for value in vars(module).values():
            if not (inspect.isclass(value) and is_dataclass(value) and value.__module__ == module.__name__):
                continue
            # by the names of the parameters, so that a class needs no base class and no registration
            if list(inspect.signature(value.__call__).parameters) == ["self", *parameters]:
                classes.setdefault(name, []).append(value)
    return classes


def _write(path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8", newline="\n")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
