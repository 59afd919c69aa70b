"""manifest.json: what a bundle is, and the hash of every file in it.

It is canonical JSON (RFC 8785) with nothing after it. One content has one form then, so the bytes can be hashed, signed and compared:

    {"b": 1.0, "a": "é"}  ->  {"a":"é","b":1}

The keys are described in docs/bundle.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import rfc8785

from optimize.deploy.bundle.bundled_run import BundledFile, BundledRun, Verdict
from optimize.deploy.bundle.runtime_machine import RuntimeMachine
from optimize.deploy.bundle.self_test import SelfTest
from optimize.errors import InputError
from optimize.report.strict_json import parse

MANIFEST = "manifest.json"
FORMAT, KIND = 1, "optimize-bundle"
MODEL, REPORT = "model", "report.json"
MAX_BYTES = 2**24
"""Largest manifest that is read, in bytes; one with a thousand files has about 150,000."""


@dataclass(frozen=True)
class Manifest:
    """Content of manifest.json.

    Args:
        name: name of the model's file in the run.
        created: time of the run, ISO 8601. The time of bundling is nowhere, so that a run gives the same bytes each time.
        target: target that the artifact was compiled for.
        precision: precision of its arithmetic.
        accepted: whether the run was accepted.
        verdict: "pass", "fail", "inconclusive" or "unverified".
        warning: sentence that is said at every start; None for an accepted run.
        artifact: folder of the artifact in the bundle, and its SHA-256 (`Artifact.sha256`).
        report: path of the report in the bundle, the SHA-256 of its bytes, and the SHA-256 of the artifact that it lists.
        machine: machine and runtime that the artifact was verified on.
        self_test: path and tolerances of the recorded outputs; None for an artifact that never ran.
        files: every file of the bundle but the manifest and its signature, sorted by path.
    """

    name: str
    created: str
    target: str
    precision: str
    accepted: bool
    verdict: Verdict
    warning: str | None
    artifact: Mapping[str, str]
    report: Mapping[str, str]
    machine: RuntimeMachine
    self_test: SelfTest | None
    files: tuple[BundledFile, ...]

    @classmethod
    def of(cls, run: BundledRun) -> Manifest:
        """Return the manifest of a run of which every file is in the bundle, as `run.files` lists them."""
        artifact = run.artifact
        return cls(
            name=run.name,
            created=run.report["created"],
            target=artifact.target,
            precision=artifact.precision,
            accepted=run.accepted,
            verdict=run.verdict,
            warning=run.warning,
            artifact={"folder": MODEL, "sha256": artifact.sha256},
            report={"path": REPORT, "sha256": run.files[REPORT].sha256, "artifact_sha256": run.reported_sha256},
            machine=RuntimeMachine.of(run),
            self_test=SelfTest.of(artifact),
            files=tuple(file for _, file in sorted(run.files.items())),
        )

    @classmethod
    def parse(cls, content: bytes, source: str = MANIFEST) -> Manifest:
        """Return the manifest that these bytes are.

        Args:
            content: bytes of manifest.json.
            source: where they are from, for the error.

        Raises:
            InputError: when they are no manifest of this format, or not in the canonical form.
        """
        remedy = "take the bundle as it was made"
        try:
            stated = parse(content.decode("utf-8"))
            canonical = rfc8785.dumps(stated)
        # any bytes may come from outside: rfc8785 raises a ValueError, a deep nesting a RecursionError
        except (ValueError, RecursionError) as problem:
            raise InputError(f"`{source}` is damaged ({' '.join(str(problem).split())[:200]}): {remedy}.") from None
        named = (stated.get("kind"), stated.get("format")) if isinstance(stated, dict) else None
        if named != (KIND, FORMAT):
            raise InputError(f"`{source}` is no manifest of a bundle of format {FORMAT} ({ascii(named)[:80]}): {remedy}.")
        # two texts of one content could be shown differently by two programs, so only one is taken
        if canonical != content:
            raise InputError(f"`{source}` was altered: it is not in the canonical form (RFC 8785); {remedy}.")
        try:
            return cls._of_content(stated)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise InputError(f"`{source}` is damaged ({type(problem).__name__}: {problem}): {remedy}.") from None

    @classmethod
    def _of_content(cls, stated: dict[str, Any]) -> Manifest:
        stated = {name: value for name, value in stated.items() if name not in ("kind", "format")}
        stated["machine"] = RuntimeMachine(**stated["machine"])
        stated["self_test"] = None if stated["self_test"] is None else SelfTest(**stated["self_test"])
        stated["files"] = tuple(BundledFile.of_entry(entry) for entry in stated["files"])
        manifest = cls(**stated)
        if manifest.accepted is not (manifest.verdict == "pass") or manifest.accepted is not (manifest.warning is None):
            raise ValueError("accepted, verdict and warning contradict each other")
        return manifest

    def as_dict(self) -> dict[str, Any]:
        """Return the content as plain JSON."""
        simple = ("name", "created", "target", "precision", "accepted", "verdict", "warning")
        return {
            "format": FORMAT,
            "kind": KIND,
            **{name: getattr(self, name) for name in simple},
            "artifact": dict(self.artifact),
            "report": dict(self.report),
            "machine": asdict(self.machine),
            "self_test": None if self.self_test is None else asdict(self.self_test),
            "files": [file.as_dict() for file in self.files],
        }

    @cached_property
    def content(self) -> bytes:
        """The bytes of manifest.json."""
        content: bytes = rfc8785.dumps(self.as_dict())
        return content

    @property
    def sha256(self) -> str:
        """SHA-256 of manifest.json; since it has the hash of every file, this is the hash of the whole bundle."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def slug(self) -> str:
        """Name for folders and images, such as "cells-openvino": lower-case letters, digits, "-", "_" and "."."""
        stem = self.name.rpartition(".")[0] or self.name
        plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in stem.lower())
        return f"{plain.strip('-_.') or 'model'}-{self.target}"


def read_manifest(bundle: Path) -> Manifest:
    """Return the manifest of the bundle in a folder; neither its signature nor the files are checked.

    Raises:
        InputError: when the folder holds none, or one that is damaged.
    """
    path = bundle / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise InputError(f"`{bundle}` is no bundle: it holds no {MANIFEST}; give the folder that `optimize bundle` made.")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"`{path}` is larger than any manifest ({size} bytes): take the bundle as it was made.")
    return Manifest.parse(path.read_bytes(), str(path))


def readable_json(content: object) -> str:
    """Return JSON for people as well as programs: sorted keys, two spaces, a line feed at the end.

    Raises:
        ValueError: when a number in it is not finite.
    """
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
