"""A baseline on disk, format 1: figures with every sample, and the fingerprint of the machine that they were measured on.

    {"format": 1, "kind": "optimize-gate-baseline", "created": …, "model": {"path", "sha256", "target", "precision", "input_shape"},
     "settings": {"batches": […], "threads": …, "data": …}, "fingerprint": {…}, "fingerprint_sha256": …, "fixed_work_ms": …,
     "figures": {name of a criterion: what it recorded}}

The path of the model is relative to the file. Where that model is still there and is the same, it is measured again beside the candidate,
and the figures are not used.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimize.deploy.gate.criteria import rows
from optimize.deploy.gate.evidence import Evidence, artifact
from optimize.deploy.gate.fingerprint import digest, fingerprint
from optimize.deploy.gate.unpaired import fixed_work_ms
from optimize.errors import InputError
from optimize.files import write_atomically
from optimize.report import strict_json

FORMAT, KIND = 1, "optimize-gate-baseline"
LARGEST_BYTES = 64 << 20
"""Largest file that is read: a baseline with the outputs of a large test split has a few megabytes."""


@dataclass(frozen=True)
class StoredBaseline:
    """A baseline as it was read.

    Args:
        file: the file.
        model: path of the model, absolute.
        sha256: hash of the model's files, as `Artifact.sha256`.
        input_shape: (C, *spatial).
        settings: batch sizes, threads and data that it was measured with.
        fingerprint: facts of the machine.
        figures: what each criterion recorded, by its name.
        fixed_work_ms: milliseconds that the fixed work took, above 0.
    """

    file: Path
    model: Path
    sha256: str
    input_shape: tuple[int, ...]
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    figures: Mapping[str, Any]
    fixed_work_ms: float = 0.0


def write_baseline(file: Path, path: Path, evidence: Evidence) -> dict[str, Any]:
    """Measure the candidate alone, store its figures, and return what was stored.

    Args:
        file: file to write.
        path: path of the model, as the user named it.
        evidence: the candidate and the settings; its baseline is not looked at.

    Raises:
        OptimizeError: when the model cannot be opened or run.
    """
    model, plan = artifact(evidence.candidate), evidence.plan
    here = fingerprint(model.target)
    content = {
        "format": FORMAT,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "path": Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix(),
            "sha256": model.sha256,
            "target": model.target,
            "precision": model.precision,
            "input_shape": list(model.input_shape),
        },
        "settings": {"batches": list(plan.batches), "threads": plan.threads, "data": plan.data},
        "fingerprint": here,
        "fingerprint_sha256": digest(here),
        "fixed_work_ms": fixed_work_ms(),
        "figures": {row.name: figures for row in rows() if (figures := row.record(evidence)) is not None},
    }
    write_atomically(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def is_baseline(path: Path) -> bool:
    """Return whether a path is that of a stored baseline: a file that ends in .json."""
    return path.suffix.lower() == ".json" and path.is_file()


def read_baseline(file: Path) -> StoredBaseline:
    """Read a stored baseline.

    Raises:
        InputError: when the file is damaged, of another kind or of another format.
    """
    if file.stat().st_size > LARGEST_BYTES:
        raise InputError(f"`--baseline` (={file}) has more than {LARGEST_BYTES >> 20} MiB, as no stored baseline has: name another file.")
    try:
        content = strict_json.parse(file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise InputError(f"`--baseline` (={file}) is not valid JSON ({problem}): measure it again with --write-baseline.") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"`--baseline` (={file}) is no stored baseline: pass a file that --write-baseline wrote, or a model.")
    if content.get("format") != FORMAT:
        version = content.get("format")
        raise InputError(f"`--baseline` (={file}) has format {version!r}; this version reads format {FORMAT}: measure it again.")
    try:
        model = content["model"]
        facts = {str(name): str(value) for name, value in content["fingerprint"].items()}
        stored = StoredBaseline(
            file=file,
            model=file.resolve().parent / str(model["path"]),
            sha256=str(model["sha256"]),
            input_shape=tuple(int(size) for size in model["input_shape"]),
            settings=dict(content["settings"].items()),
            fingerprint=facts,
            figures=dict(content["figures"].items()),
            fixed_work_ms=float(content["fixed_work_ms"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        words = f"{type(problem).__name__}: {problem}"
        raise InputError(f"`--baseline` (={file}) is damaged ({words}): measure it again with --write-baseline.") from None
    if not (math.isfinite(stored.fixed_work_ms) and stored.fixed_work_ms > 0):
        words = f"fixed_work_ms is {stored.fixed_work_ms:g}, and must be a finite number above 0"
        raise InputError(f"`--baseline` (={file}) is damaged ({words}): measure it again with --write-baseline.")
    # a fingerprint that was edited by hand would make figures of another machine believed
    if digest(facts) != content.get("fingerprint_sha256"):
        raise InputError(f"`--baseline` (={file}) is damaged (its fingerprint was changed): measure it again with --write-baseline.")
    return stored
