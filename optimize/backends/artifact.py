"""The compiled model on disk: one folder that can be copied anywhere, with a manifest that shows when a file was altered.

The folder holds the files of the target's runtime and `artifact.json`, format 1:

    {"format": 1, "target": …, "precision": …, "input_shape": [C, *spatial], "runtime": …, "files": [{"name", "sha256", "bytes"}, …],
     "built": {…}, "golden": {"name", "sha256", "bytes"}, "use": {…}}

The first file is the one the runtime opens. The golden file is the self-test (`backends/self_test.py`): inputs, and the model's
outputs where it was verified. "use" is for whoever runs the model without this package (`run/usage.py`, docs/artifact.md). A manifest
without the last three is of an earlier version or of a model that was never verified; it is read all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optimize.errors import InputError
from optimize.files import sha256, write_atomically
from optimize.report import strict_json

MANIFEST = "artifact.json"
FORMAT = 1
PRECISIONS = ("f32", "f16", "bf16", "int8")
MIXED = tuple(f"int8+{rest}" for rest in PRECISIONS if rest != "int8")
"""Precisions of artifacts whose layers are not all in int8."""


@dataclass(frozen=True)
class ArtifactFile:
    """One file of an artifact: its name inside the folder, the SHA-256 of its bytes, and the number of bytes."""

    name: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> ArtifactFile:
        """Hash the file at `path`."""
        return cls(path.name, sha256(path), path.stat().st_size)

    def as_dict(self) -> dict[str, object]:
        """Return the form that the manifest and the report use."""
        return {"name": self.name, "sha256": self.sha256, "bytes": self.size_bytes}


@dataclass(frozen=True)
class Artifact:
    """A compiled model, sealed.

    Args:
        folder: folder that holds every file and the manifest; nothing outside it is needed.
        target: name of the target that wrote it and can build it, one of `backends.target_names()`.
        precision: precision of its arithmetic, one of `PRECISIONS` or `MIXED`.
        input_shape: (C, *spatial), without the batch, which is free.
        runtime: version of the runtime that wrote it.
        files: the model's files, the main file first; the manifest is not among them.
        built: facts that it is bound to, such as the instruction set it was verified on or the compute capabilities of an engine.
        golden: file of its self-test; None where there is none.
        use: facts that are needed to run it without this package; empty where it was never verified.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "model.onnx").write_bytes(b"1234")
        ...     made = {"target": "onnxruntime", "precision": "f32", "input_shape": (3, 8, 8), "runtime": "1.32"}
        ...     _ = Artifact.save(Path(folder), files=["model.onnx"], **made)
        ...     Artifact.read(folder).size_bytes
        4
    """

    folder: Path
    target: str
    precision: str
    input_shape: tuple[int, ...]
    runtime: str
    files: tuple[ArtifactFile, ...]
    built: Mapping[str, str] = field(default_factory=dict)
    golden: ArtifactFile | None = None
    use: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> Path:
        """The file that the runtime opens."""
        return self.folder / self.files[0].name

    @property
    def size_bytes(self) -> int:
        """Bytes of all model files together; the manifest and the self-test are not counted."""
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """One hash for the whole model: SHA-256 over the lines `<sha256>  <name>` of its files."""
        return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in self.files).encode()).hexdigest()

    @classmethod
    def save(
        cls,
        folder: Path,
        *,
        target: str,
        precision: str,
        input_shape: Sequence[int],
        runtime: str,
        files: Sequence[str],
        built: Mapping[str, str] | None = None,
    ) -> Artifact:
        """Hash `files` (names in `folder`, the main one first), write the manifest beside them and return the artifact."""
        # what is on disk now is what counts: these hashes are compared whenever the artifact is opened
        hashed = tuple(ArtifactFile.of(folder / name) for name in files)
        artifact = cls(folder, target, precision, tuple(input_shape), runtime, hashed, dict(built or {}))
        artifact._write()
        return artifact

    def verified(self, golden: str, built: Mapping[str, str]) -> Artifact:
        """Return the artifact with its self-test, a file in its folder, and what it was verified on; the manifest is written again."""
        artifact = replace(self, golden=ArtifactFile.of(self.folder / golden), built={**self.built, **built})
        artifact._write()
        return artifact

    def described(self, use: Mapping[str, Any]) -> Artifact:
        """Return the artifact with what is needed to run it; the manifest is written again."""
        artifact = replace(self, use=dict(use))
        artifact._write()
        return artifact

    def of_precision(self, precision: str) -> Artifact:
        """Return the artifact under the precision that its layers were seen to run in; the manifest is written again."""
        artifact = replace(self, precision=precision)
        artifact._write()
        return artifact

    def _write(self) -> None:
        manifest = {
            "format": FORMAT,
            "target": self.target,
            "precision": self.precision,
            "input_shape": list(self.input_shape),
            "runtime": self.runtime,
            "files": [file.as_dict() for file in self.files],
            "built": dict(self.built),
            # keys that say nothing are left out, so that the manifest of a model without a self-test is the same as in earlier versions
            **({} if self.golden is None else {"golden": self.golden.as_dict()}),
            **({"use": dict(self.use)} if self.use else {}),
        }
        write_atomically(self.folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> Artifact:
        """Open the artifact in `folder` and check every file against its hash.

        Raises:
            InputError: when the manifest is missing or unreadable, or a file is missing or is not the one that was sealed.
        """
        folder = Path(folder)
        artifact = _parse(folder, _manifest(folder / MANIFEST))
        for file in artifact.files if artifact.golden is None else (*artifact.files, artifact.golden):
            path = folder / file.name
            if not path.is_file():
                raise InputError(f"artifact `{folder}` lacks its file {file.name!r}: copy the whole folder.")
            # name, hash and size at once: an altered or swapped file is never opened
            if ArtifactFile.of(path) != file:
                raise InputError(f"artifact file `{path}` was altered after it was sealed (its sha256 differs): make the artifact again.")
        return artifact


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"`{path.parent}` is no artifact: it holds no {MANIFEST}; give the folder that optimize wrote.")
    try:
        manifest = strict_json.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"`{path}` is not valid JSON ({error}): make the artifact again.") from None
    # before anything else is read: another format may mean something else by the same keys
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != FORMAT:
        raise InputError(f"`{path}` has format {version!r}; this version reads format {FORMAT}: read it with the version that wrote it.")
    return dict(manifest)


def _texts(entries: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in entries.items()}


def _file(entry: Mapping[str, Any]) -> ArtifactFile:
    return ArtifactFile(str(entry["name"]), str(entry["sha256"]), int(entry["bytes"]))


def _parse(folder: Path, manifest: dict[str, Any]) -> Artifact:
    try:
        files = tuple(map(_file, manifest["files"]))
        golden = None if manifest.get("golden") is None else _file(manifest["golden"])
        shape = tuple(manifest["input_shape"])
        target, precision, runtime = (str(manifest[name]) for name in ("target", "precision", "runtime"))
        built, use = _texts(manifest.get("built", {})), dict(manifest.get("use", {}).items())
        artifact = Artifact(folder, target, precision, shape, runtime, files, built, golden, use)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"`{folder / MANIFEST}` is damaged ({type(error).__name__}: {error}): make the artifact again.") from None
    if precision not in (*PRECISIONS, *MIXED):
        allowed = ", ".join((*PRECISIONS, *MIXED))
        raise InputError(f"`{folder / MANIFEST}` has precision {precision!r}, which is none of {allowed}: make the artifact again.")
    # `type(...) is int`, since True is an int to isinstance, and JSON has both
    if not shape or any(type(size) is not int or size < 1 for size in shape):
        stated = manifest["input_shape"]
        raise InputError(f"`{folder / MANIFEST}` has input_shape {stated!r}, which must list whole sizes from 1: make the artifact again.")
    # A manifest is input from outside: a name such as "../x" must not reach out of the folder.
    named = [file.name for file in (*files, *([] if golden is None else [golden]))]
    if not files or any(Path(name).name != name or "\\" in name for name in named):
        raise InputError(f"`{folder / MANIFEST}` must name at least one file, by plain names inside its folder: make the artifact again.")
    return artifact
