"""Write what `optimize gate` found: JUnit XML, a job summary, a line of a history, JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

from optimize.deploy.gate.history import append, entry
from optimize.deploy.gate.job_summary import job_summary
from optimize.deploy.gate.junit import junit
from optimize.deploy.gate.result import GateResult
from optimize.errors import InputError
from optimize.files import write_atomically


def require_writable(file: Path, name: str) -> Path:
    """Return the file, seen to be writable before minutes are spent on a result that could not be kept.

    Raises:
        InputError: when it is a folder, its folder is missing, or it is protected.
    """
    permitted = os.access(file if file.exists() else file.parent, os.W_OK)
    if file.is_dir() or not file.parent.is_dir() or not permitted:
        raise InputError(f"`{name}` (={file}) cannot be written: name a file in a folder that is there.")
    return file


def write_output(name: str, file: Path, result: GateResult) -> None:
    """Write one output of a comparison; a summary and a history are appended to, the others replaced.

    Args:
        name: "junit", "summary", "history" or "out".
        file: file to write, as `require_writable` has seen it.
        result: the finished comparison.

    Raises:
        InputError: when the disk does not take the file.
    """
    try:
        if name == "history":
            append(file, entry(result))
        elif name == "summary":
            # GitHub hands every step one file, to which each step appends
            with file.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(job_summary(result))
        elif name == "junit":
            write_atomically(file, junit(result))
        else:
            write_atomically(file, json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    except OSError as problem:
        raise InputError(f"`--{name}` (={file}) cannot be written ({problem.strerror}): name another file.") from problem
