"""The ledger: every trial as one line of JSON, in order, on disk before the next one is made, so that nothing is lost.

The first line says which run this is. An interrupted run continues from its ledger: the trials in it are not made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.files import write_atomically

WORK_FOLDER = ".work"
"""Folder for working files, beside the ledger; it is deleted when the run has ended."""


@dataclass(frozen=True)
class Ledger:
    """An append-only file of trials.

    Args:
        path: path of the file.
        identity: values by which two runs are the same run: hashes of model and data, settings, versions.
    """

    path: Path
    identity: Mapping[str, Any]

    @property
    def has_run(self) -> bool:
        """Whether the file exists and says which run it belongs to."""
        return self.path.is_file() and bool(self._complete_lines())

    def begin(self) -> None:
        """Write an empty ledger for this run, in place of any other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(_line({"run": dict(self.identity)}), encoding="utf-8")

    def resume(self) -> list[dict[str, Any]]:
        """Return the trials already in the file; drop a last line that the interruption cut off.

        Raises:
            InputError: when the file belongs to another run; the message names what differs.
        """
        lines = self._complete_lines()
        if not lines:
            self.begin()
            return []
        # through JSON and back, so that a tuple here equals the list in the file
        recorded, current = lines[0]["run"], json.loads(json.dumps(self.identity))
        if differ := [name for name in sorted({*recorded, *current}) if recorded.get(name) != current.get(name)]:
            text = ", ".join(differ)
            raise InputError(f"`--resume` found another run in {self.path} ({text} changed): use --overwrite, or another --out.")
        # without the half line that an interruption left: the next entry would be appended to it, and both would be lost
        write_atomically(self.path, "".join(map(_line, lines)))
        return lines[1:]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one line, and return when it is on disk."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(entry))
            stream.flush()
            # a flush hands the line to the operating system, which may hold it for seconds; a power cut in between would lose the trial
            os.fsync(stream.fileno())

    def _complete_lines(self) -> list[dict[str, Any]]:
        """Return the file's complete lines, the run's identity first; nothing where the file is not a ledger."""
        lines = [_parsed(line) for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()]
        whole = [line for line in lines if line is not None]
        return whole if whole and "run" in whole[0] else []


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True, allow_nan=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None
