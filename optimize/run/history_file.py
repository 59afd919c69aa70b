"""The file of the record of looks: one line of JSON for each event; lines are appended and never changed.

    {"format": 1, "split": …, "items": …}           a split, once: its hash, and 64 bits of the hash of each of its images
    {"look": …, "split": …, "share": …, …}          a look begins, before anything of the split is read
    {"of": …, "verdict": …}                         the look has ended

A crash may cut off the last line. The next process leaves the rest of that line where it is and writes " CUT" behind it:

    {"look": "3f…", "spl CUT                        ignored when the file is read
    {"of": "3f…", "verdict": "pass"}                a whole line again

Any other line that cannot be read is an error: a forgotten look would make the next verdict too lenient. What the lines mean for a verdict
is decided in `optimize.run.history`.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from optimize.data.arrays import Integers
from optimize.errors import InputError

FORMAT = 1
_CUT = b" CUT"
"""Written behind a line that a crash has cut off, by the process that appends the next line."""


@dataclass(frozen=True)
class Entries:
    """The lines of one record or several.

    Args:
        lines: the parsed lines, in the order of the files.
    """

    lines: tuple[Mapping[str, Any], ...]

    @cached_property
    def items(self) -> dict[str, Integers]:
        """SHA-256 of a split -> hashes of its images, (N,)."""
        return {line["split"]: _unpacked(line["items"]) for line in self.lines if "items" in line}

    @cached_property
    def looks(self) -> dict[str, Mapping[str, Any]]:
        """Key of a look -> its line, oldest first, with its verdict; None where it did not end."""
        ended = {line["of"]: line["verdict"] for line in self.lines if "of" in line}
        return {line["look"]: {**line, "verdict": ended.get(line["look"])} for line in self.lines if "look" in line}


def entries(paths: Sequence[Path]) -> Entries:
    """Return the lines of several records together.

    Raises:
        InputError: when a line of one is damaged, or it cannot be read.
    """
    return Entries(tuple(entry for path in paths for entry in _read(path)))


def split_line(sha256: str, items: Integers) -> dict[str, Any]:
    """Return the line of a split.

    Args:
        sha256: hash of the whole split.
        items: hash of each image, (N,).
    """
    return {"format": FORMAT, "split": sha256, "items": base64.b64encode(items.astype("<i8").tobytes()).decode()}


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Open the file to append to it, while every other process that calls this waits; without waiting where the system has no such lock."""
    path.parent.mkdir(parents=True, exist_ok=True)  # the folder of the user's own record may not be there yet
    with path.open("ab") as stream:
        with suppress(ImportError):  # Windows: two runs at the same moment may then be given the same number
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def append(stream: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines in one write, and flush them to the disk."""
    last = Path(stream.name).read_bytes().rpartition(b"\n")[2]
    # the last line lacks its line break: it is whole, and only that is missing, or a crash has cut it off
    end = b"" if not last else b"\n" if _parsed(last) else _CUT + b"\n"
    stream.write(end + b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines))
    stream.flush()
    os.fsync(stream.fileno())


def writable(path: Path) -> bool:
    """Return whether a file can be written or made; nothing is left behind."""
    if path.exists():
        return path.is_file() and os.access(path, os.W_OK)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return True
    except OSError:
        return False


def _unpacked(text: str) -> Integers:
    return np.frombuffer(base64.b64decode(text), dtype="<i8").astype(np.int64)


def _read(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a record, each of them checked; a line that a crash has cut off is left out.

    Raises:
        InputError: when a line is not one of a record, or the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as problem:
        raise InputError(f"the record of looks {path} cannot be read ({problem.strerror}): see to its permissions.") from problem
    for number, line in enumerate(lines, start=1):
        # What follows the last line break was not written to its end; where more was appended, it stands on a line of its own.
        whole, cut = _parsed(line), line.endswith(_CUT) or number == len(lines)
        if whole is not None:
            yield whole
        elif line and not cut:
            raise InputError(
                f"the record of looks {path} is damaged in line {number}: put back a copy of it; "
                "without it looks at the test split are forgotten, and a model that breaks its limits passes more often than is said."
            )


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    """Return a line of a record; None where it is not one."""
    with suppress(ValueError, KeyError, TypeError):
        entry = json.loads(line)
        if "items" in entry:
            _unpacked(entry["items"])
            return dict(entry) if entry["format"] == FORMAT and isinstance(entry["split"], str) else None
        if "look" in entry:
            types = {"look": str, "split": str, "date": str, "number": int, "share": float | int, "fresh": bool, "statistical": bool}
            return dict(entry) if all(isinstance(entry[name], kind) for name, kind in types.items()) else None
        return dict(entry) if isinstance(entry["of"], str) and isinstance(entry["verdict"], str) else None
    return None
