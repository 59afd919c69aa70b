"""The history of a gate: a file of one JSON line for each comparison, appended and never changed.

    {"format": 1, "created": …, "commit": …, "outcome": …, "baseline": …, "candidate": …, "fingerprint": …, "criteria": [{"name": …}, …]}

A line is written in one call, at the end of the file, while other processes that append wait. A crash may cut off the last line; the next
comparison ends it, and it is left out when the file is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.deploy.gate.result import GateResult
from optimize.errors import InputError
from optimize.progress import note
from optimize.report import strict_json

FORMAT = 1
COMMIT_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")
"""Variables of the environment in which GitHub Actions, GitLab CI and Jenkins name the commit."""


@dataclass(frozen=True)
class Point:
    """One figure of one comparison.

    Args:
        created: time of the comparison.
        commit: id of the commit; empty where none was named.
        value: the candidate's figure.
        outcome: outcome of the figure.
    """

    created: str
    commit: str
    value: float
    outcome: str


@dataclass(frozen=True)
class Series:
    """A figure over time, on one machine.

    Args:
        name: name of the figure.
        unit: unit of its values.
        candidate: model that it is of, as the user named it.
        machine: hash of the machine's fingerprint.
        points: the comparisons, oldest first.
        rule: "growth" where a larger figure is worse, "drop" where a smaller one is.
    """

    name: str
    unit: str
    candidate: str
    machine: str
    points: tuple[Point, ...]
    rule: str = "growth"

    @property
    def values(self) -> list[float]:
        """The candidate's figures, oldest first."""
        return [point.value for point in self.points]


def commit_of(environment: Mapping[str, str]) -> str:
    """Return the commit that the environment names; empty where it names none.

    >>> commit_of({"GIT_COMMIT": "1a2b3c"})
    '1a2b3c'
    """
    return next((environment[name] for name in COMMIT_VARIABLES if environment.get(name)), "")


def entry(result: GateResult) -> dict[str, Any]:
    """Return the line of a comparison."""
    return {
        "format": FORMAT,
        "created": result.created,
        "commit": result.commit or None,
        "outcome": result.outcome,
        "baseline": result.baseline,
        "candidate": result.candidate,
        "fingerprint": result.fingerprint_sha256,
        "criteria": [figure.as_summary() for figure in result.judged],
    }


def append(file: Path, line: Mapping[str, Any]) -> None:
    """Append one line in a single write; other processes that append to the file wait.

    Raises:
        OSError: when the file cannot be written.
    """
    text = json.dumps(line, sort_keys=True, allow_nan=False).encode()
    with file.open("a+b", buffering=0) as stream:
        with suppress(ImportError):  # Windows has no such lock; a line is still one write
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        # a crash has cut off the last line: end it, so that this one is whole
        start = b"" if not size or stream.read(1) == b"\n" else b"\n"
        stream.write(start + text + b"\n")


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a history, oldest first; lines that are damaged, such as one that a crash has cut off, are counted in a note.

    Raises:
        InputError: when the file is missing or holds no comparison, or a whole line is not one of a history.
    """
    if not file.is_file():
        raise InputError(f"`--history` (={file}) does not exist: name the file that a comparison with --history wrote.")
    lines, damaged = [], 0
    for number, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            line = strict_json.parse(text)
        except ValueError:
            # Every whole line ends with a closing brace. A part of one is no JSON, and is what a crash leaves.
            damaged += bool(text.strip())
            continue
        if not isinstance(line, dict) or line.get("format") != FORMAT or not isinstance(line.get("criteria"), list):
            raise InputError(f"`--history` (={file}) has a line {number} that is none of a history: name a file that --history wrote.")
        lines.append(line)
    if not lines:
        raise InputError(f"`--history` (={file}) holds no comparison: name the file that a comparison with --history wrote.")
    if damaged:
        note(f"{damaged} damaged {'line' if damaged == 1 else 'lines'} of {file} are left out")
    return lines


def series(lines: Iterable[Mapping[str, Any]]) -> list[Series]:
    """Return every figure over time: one series for each figure, model and machine, in the order in which they first appear.

    Figures of two machines are never joined: a change of the machine would look like a change of the model.
    """
    found: dict[tuple[str, str, str, str], list[Point]] = {}
    rules: dict[tuple[str, str, str, str], str] = {}
    for line in lines:
        for figure in line["criteria"]:
            value = figure.get("candidate") if isinstance(figure, dict) else None
            if isinstance(value, int | float) and not isinstance(value, bool):
                key = (str(figure["name"]), str(figure["unit"]), str(line.get("candidate", "")), str(line.get("fingerprint", "")))
                point = Point(str(line.get("created", "")), str(line.get("commit") or ""), float(value), str(figure.get("outcome", "")))
                found.setdefault(key, []).append(point)
                rules[key] = str(figure.get("rule", "growth"))
    return [Series(*key, tuple(points), rules[key]) for key, points in found.items()]


def label(point: Point) -> str:
    """Return what a reader knows a comparison by: the first letters of its commit, or its time."""
    return point.commit[:10] or point.created
