"""A finished run as the documents of a bundle see it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from optimize.backends.artifact import Artifact, ArtifactFile

Verdict: TypeAlias = Literal["pass", "fail", "inconclusive", "unverified"]
"""How the run ended; "unverified" where the artifact never ran."""


@dataclass(frozen=True)
class BundledFile:
    """One file of a bundle.

    Args:
        path: path in the bundle, relative and with slashes, such as "model/artifact.json".
        sha256: SHA-256 of its bytes, 64 hexadecimal digits.
        size_bytes: number of its bytes.
    """

    path: str
    sha256: str
    size_bytes: int

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> BundledFile:
        """Return the file of an entry in a manifest.

        Raises:
            ValueError: when the entry has other keys, or another type under one of them.
        """
        if set(entry) != {"path", "sha256", "bytes"} or [type(entry[name]) for name in ("path", "sha256", "bytes")] != [str, str, int]:
            raise ValueError("a file without path, sha256 or bytes")
        return cls(entry["path"], entry["sha256"], entry["bytes"])

    def as_dict(self) -> dict[str, str | int]:
        """Return the form that the manifest uses."""
        return {"path": self.path, "sha256": self.sha256, "bytes": self.size_bytes}


@dataclass(frozen=True)
class BundledRun:
    """A finished run, and how it is to be bundled. All files of it have been compared with their hashes before.

    Args:
        folder: folder of the run, with report.json, report.html and recipe.lock.toml.
        report: content of report.json.
        artifact: the compiled model; its folder is `model/`, or the folder of a model that was not accepted or not verified.
        onnx: folder with model.onnx, the network that was compiled, and original.onnx.
        verdict: verdict of the run; "unverified" where the artifact never ran.
        warning: one sentence that is said at every start; None for an accepted run.
        scratch: empty working folder that is removed when the bundle is complete; for files that are too large to hold in memory.
        wheels: folder of the wheels that are to lie in the bundle, True to download them, False for a bundle without wheels.
        model_licence: licence of the model, as its owner states it; "" where it is not stated.
        data_licence: licence of the data, as their owner states it; "" where it is not stated.
        page: text of report.html where it was rendered anew; None where the run's own file is bundled.
        files: the files that are in the bundle already, by path: all that came before the document that is rendered.
    """

    folder: Path
    report: Mapping[str, Any]
    artifact: Artifact
    onnx: Path
    verdict: Verdict
    warning: str | None
    scratch: Path
    wheels: bool | Path = False
    model_licence: str = ""
    data_licence: str = ""
    page: str | None = None
    files: Mapping[str, BundledFile] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the run was accepted."""
        return self.verdict == "pass"

    @property
    def name(self) -> str:
        """Name of the model's file, such as "cells.pt"."""
        return str(self.report["model"]["name"])

    @property
    def title(self) -> str:
        """Name for people, such as "cells for openvino"."""
        return f"{self.name.rpartition('.')[0] or self.name} for {self.artifact.target}"

    @property
    def reported_sha256(self) -> str:
        """SHA-256 of the artifact as the report lists its files; for the report of this artifact it is `artifact.sha256`."""
        folder = self.artifact.folder.relative_to(self.folder).as_posix()
        listed = {file["name"]: file["sha256"] for file in self.report["files"]}
        hashes = (ArtifactFile(file.name, listed.get(f"{folder}/{file.name}", ""), file.size_bytes) for file in self.artifact.files)
        return replace(self.artifact, files=tuple(hashes)).sha256

    @property
    def use(self) -> Mapping[str, Any]:
        """How the artifact is used: the section "use" of artifact.json (docs/artifact.md)."""
        return self.artifact.use

    @property
    def recipe(self) -> dict[str, Any]:
        """Content of recipe.lock.toml: every setting of the run."""
        return tomllib.loads((self.folder / "recipe.lock.toml").read_text(encoding="utf-8"))
