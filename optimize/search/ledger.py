"""What was tried, in order, one line of JSON each; written before the next thing is tried, so that nothing is lost.

The first line says which run this is. A run that was interrupted goes on from the ledger: what stands there is not tried again.
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

WORK = ".work"
"""The working files in a run's folder, beside its ledger; they go when the run has ended."""


@dataclass(frozen=True)
class Ledger:
    """An append-only file of trials.

    Args:
        path: of the file.
        identity: what makes two runs the same run: hashes of model and data, settings, versions.
    """

    path: Path
    identity: Mapping[str, Any]

    @property
    def begun(self) -> bool:
        """Whether the file is there and says which run it is of."""
        return self.path.is_file() and bool(self._whole())

    def begin(self) -> None:
        """Start an empty ledger for this run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(_line({"run": dict(self.identity)}), encoding="utf-8")

    def resume(self) -> list[dict[str, Any]]:
        """The trials already in the file; a last line that was cut off by the interruption is dropped.

        Raises:
            InputError: when the file belongs to another run; what differs is named.
        """
        whole = self._whole()
        if not whole:
            self.begin()
            return []
        before, now = whole[0]["run"], json.loads(json.dumps(self.identity))
        if differ := [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]:
            text = ", ".join(differ)
            raise InputError(f"`--resume` found another run in {self.path} ({text} changed): use --overwrite, or another --out.")
        write_atomically(self.path, "".join(map(_line, whole)))
        return whole[1:]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one line and see it on disk."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(entry))
            stream.flush()
            os.fsync(stream.fileno())

    def _whole(self) -> list[dict[str, Any]]:
        """The file's lines, the run's first; none of what is no ledger."""
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
