"""The file that remembers looks at test splits: one line of JSON for each event, only ever appended.

    {"format": 1, "split": …, "items": …}           a split, once: its hash, and 64 bits of the hash of each of its images
    {"look": …, "split": …, "share": …, …}          a look begins, before anything of the split is read
    {"of": …, "verdict": …}                         how it ended

What is counted, and what follows from it, is `optimize.run.history`'s.
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
"""Put behind a line that a crash has cut off, by whoever appends the next one."""


@dataclass(frozen=True)
class Entries:
    """What the lines of a record say."""

    lines: tuple[Mapping[str, Any], ...]

    @cached_property
    def items(self) -> dict[str, Integers]:
        """Split -> its images, hashed."""
        return {line["split"]: _unpacked(line["items"]) for line in self.lines if "items" in line}

    @cached_property
    def looks(self) -> dict[str, Mapping[str, Any]]:
        """Key -> look, the oldest first, with its verdict."""
        ended = {line["of"]: line["verdict"] for line in self.lines if "of" in line}
        return {line["look"]: {**line, "verdict": ended.get(line["look"])} for line in self.lines if "look" in line}


def entries(paths: Sequence[Path]) -> Entries:
    """What several records say together.

    Raises:
        InputError: when a line of one is damaged, or it cannot be read.
    """
    return Entries(tuple(entry for path in paths for entry in _read(path)))


def split_line(sha256: str, items: Integers) -> dict[str, Any]:
    """The line of a split with the hashes of its images, (N,)."""
    return {"format": FORMAT, "split": sha256, "items": base64.b64encode(items.astype("<i8").tobytes()).decode()}


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, open to append to, while every other process that asks for it waits; where the system has no such lock, nobody waits."""
    with path.open("ab") as stream:
        with suppress(ImportError):  # Windows: two runs at the same moment may then be given the same number
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def append(stream: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    """Write lines at the end in one go, and see them on disk."""
    last = Path(stream.name).read_bytes().rpartition(b"\n")[2]
    end = b"" if not last else b"\n" if _parsed(last) else _CUT + b"\n"
    stream.write(end + b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines))
    stream.flush()
    os.fsync(stream.fileno())


def writable(path: Path) -> bool:
    """Whether a file can be written, or made; nothing is left behind."""
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
    """The lines of a record, each of which is checked; what a crash left of the last one is passed over.

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
    """A line of a record; None of anything else."""
    with suppress(ValueError, KeyError, TypeError):
        entry = json.loads(line)
        if "items" in entry:
            _unpacked(entry["items"])
            return dict(entry) if entry["format"] == FORMAT and isinstance(entry["split"], str) else None
        if "look" in entry:
            kinds = {"look": str, "split": str, "date": str, "number": int, "share": float | int, "fresh": bool, "statistical": bool}
            return dict(entry) if all(isinstance(entry[name], kind) for name, kind in kinds.items()) else None
        return dict(entry) if isinstance(entry["of"], str) and isinstance(entry["verdict"], str) else None
    return None
