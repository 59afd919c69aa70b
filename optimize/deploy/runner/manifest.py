"""manifest.json: what the bundle is, what it was verified for, and the hash of every file in it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .canonical import canonical, parse
from .contents import read_file
from .errors import Refused

NAME, ENVELOPE = "manifest.json", "manifest.dsse.json"
FORMAT, KIND = 1, "optimize-bundle"
MAX_BYTES = 1 << 24
"""Largest size of the manifest and of its envelope; one line for each of some thousand files takes less."""
MAX_DEPTH = 16
"""Largest number of folders that a path goes down."""
VERDICTS = ("pass", "fail", "inconclusive", "unverified")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    Args:
        content: the whole manifest.
        files: path -> SHA-256 and number of bytes, of every file but the manifest and its envelope.
        target: name of the target, such as "onnxruntime".
        precision: precision of its arithmetic, such as "int8+f32".
        warning: sentence that is said at every start; None for a model that was accepted.
        folder: folder of the artifact, "model".
        sha256: hash of the artifact.
        runtime: version of the runtime that it was verified with.
        cpu_level: level of CPU instructions that it was verified on; None where it runs on a GPU or the level is not known.
        made_for: level that it was made for; None where none was asked for.
        capabilities: compute capabilities of the GPUs that it was compiled for; empty for a processor.
        golden: path of the self-test; None for a model that was never verified.
        tolerances: largest difference that passes on the same machine and on another, as shares of the outputs' range.
    """

    content: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]]
    target: str
    precision: str
    warning: str | None
    folder: str
    sha256: str
    runtime: str
    cpu_level: str | None
    made_for: str | None
    capabilities: tuple[str, ...]
    golden: str | None
    tolerances: tuple[float, float]


def read(root: Path) -> tuple[bytes, Manifest]:
    """Return the bytes of a bundle's manifest, and what they say.

    Raises:
        Refused: when it is missing, damaged, of another format, or not in canonical form.
    """
    if not (root / NAME).is_file():
        raise Refused(f"`{root}` is no bundle: it holds no {NAME}; give the folder that optimize wrote, whole.")
    content = read_file(root, NAME, MAX_BYTES)
    try:
        value = parse(content)
        form = canonical(value)
    except ValueError as problem:
        raise Refused(f"`{NAME}` is damaged ({str(problem)[:200]}): copy the bundle again.") from None
    # before anything else is read: another format may mean something else by the same keys
    if not isinstance(value, dict) or value.get("kind") != KIND or type(value.get("format")) is not int or value["format"] != FORMAT:
        said = (value.get("kind"), value.get("format")) if isinstance(value, dict) else (None, None)
        found = f"`{NAME}` is of kind and format {str(said)[:80]}"
        raise Refused(f"{found}; this runner reads {(KIND, FORMAT)}: use the runner of that version.")
    if form != content:
        raise Refused(f"`{NAME}` is not in canonical form (RFC 8785), as a bundle is written: copy the bundle again.")
    try:
        return content, _checked(value)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Refused(f"`{NAME}` is damaged ({type(problem).__name__}: {str(problem)[:200]}): copy the bundle again.") from None


def _checked(value: dict[str, Any]) -> Manifest:
    machine, golden = value["machine"], value["self_test"]
    verdict, accepted, warning = value["verdict"], value["accepted"], value["warning"]
    _require(verdict in VERDICTS, f"verdict {verdict!r}")
    _require(accepted is (verdict == "pass"), f"accepted {accepted!r} with verdict {verdict!r}")
    # what was not accepted says so at every start, and what was accepted has nothing to say
    _require((warning is None) if accepted else isinstance(warning, str) and bool(warning.strip()), f"warning {warning!r}")
    _require(golden is not None or verdict == "unverified", "no self-test")
    tolerances = (0.0, 0.0) if golden is None else tuple(map(_share, (golden["tolerance"]["same"], golden["tolerance"]["another"])))
    capabilities = machine.get("compute_capabilities") or ()
    return Manifest(
        content=value,
        files=_files(value["files"]),
        target=_word(value["target"]),
        precision=_word(value["precision"]),
        warning=warning,
        folder=_path(value["artifact"]["folder"]),
        sha256=_sha256(value["artifact"]["sha256"]),
        runtime=_word(machine["runtime"]["version"]),
        cpu_level=None if machine.get("isa") is None else _word(machine["isa"]),
        made_for=None if machine.get("made_for") is None else _word(machine["made_for"]),
        capabilities=tuple(map(_word, [capabilities] if isinstance(capabilities, str) else capabilities)),
        golden=None if golden is None else _path(golden["path"]),
        tolerances=(tolerances[0], tolerances[1]),
    )


def _files(entries: list[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    files: dict[str, tuple[str, int]] = {}
    for entry in entries:
        path = _path(entry["path"])
        _require(path not in files and path not in (NAME, ENVELOPE), f"path {path!r} is listed twice, or is the manifest's own")
        _require(type(entry["bytes"]) is int and entry["bytes"] >= 0, f"size {entry['bytes']!r}")
        files[path] = (_sha256(entry["sha256"]), entry["bytes"])
    return files


def _path(path: Any) -> str:
    """Return a path that stays inside the bundle on every system."""
    parts = _word(path).split("/")
    _require(len(parts) <= MAX_DEPTH, f"path {path[:80]!r} is nested deeper than {MAX_DEPTH} folders")
    _require(not any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts), f"path {path!r}")
    return str(path)


def _word(value: Any) -> str:
    # what is printed must not hold control characters
    _require(isinstance(value, str) and bool(value) and value.isprintable(), f"{value!r} is no name")
    return str(value)


def _sha256(value: Any) -> str:
    _require(isinstance(value, str) and _SHA256.fullmatch(value) is not None, f"{value!r} is no sha256")
    return str(value)


def _share(value: Any) -> float:
    _require(type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1, f"tolerance {value!r}")
    return float(value)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
