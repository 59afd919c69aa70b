"""The manifest: canonical bytes, its checks, and names for folders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimize.deploy.bundle.manifest import MAX_BYTES, Manifest, read_manifest, readable_json
from optimize.errors import InputError

SHA = "a" * 64
CONTENT: dict[str, Any] = {
    "format": 1,
    "kind": "optimize-bundle",
    "name": "cells.pt",
    "created": "2026-01-02T03:04:05+00:00",
    "target": "onnxruntime",
    "precision": "f32",
    "accepted": True,
    "verdict": "pass",
    "warning": None,
    "artifact": {"folder": "model", "sha256": SHA},
    "report": {"path": "report.json", "sha256": SHA, "artifact_sha256": SHA},
    "machine": {
        "cpu": "A processor",
        "isa": "avx2",
        "made_for": None,
        "compute_capabilities": None,
        "runtime": {"name": "onnxruntime", "version": "1.32.0"},
        "python": "3.11.7",
        "numpy": "2.4.6",
        "threads": None,
        "peak_memory_bytes": 1000,
    },
    "self_test": {"path": "model/golden.npz", "tolerance": {"same": 1e-4, "another": 1e-3}},
    "files": [{"path": "README.md", "sha256": SHA, "bytes": 3}],
}


def canonical(content: Any) -> bytes:
    """Canonical JSON for what has no number that Python writes otherwise than ECMAScript, and only ASCII keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_its_bytes_are_canonical() -> None:
    manifest = Manifest.parse(canonical(CONTENT))
    assert manifest.as_dict() == CONTENT
    assert manifest.content == canonical(CONTENT)
    assert manifest.sha256 == hashlib.sha256(canonical(CONTENT)).hexdigest()
    assert (manifest.machine.isa, manifest.files[0].size_bytes) == ("avx2", 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"\xff", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"[]", "no manifest of a bundle of format 1"),
        (canonical(CONTENT | {"format": 2}), "no manifest of a bundle of format 1"),
        (canonical(CONTENT | {"kind": "else"}), "no manifest"),
        (canonical(CONTENT) + b"\n", "RFC 8785"),
        (json.dumps(CONTENT, sort_keys=True).encode(), "RFC 8785"),
        (canonical(CONTENT).replace(b'"accepted":true', b'"accepted":true,"accepted":true'), "stands twice"),
        (canonical(CONTENT | {"more": 1}), "damaged"),
        (canonical({name: value for name, value in CONTENT.items() if name != "files"}), "damaged"),
        (canonical(CONTENT | {"files": [{"path": "x", "sha256": SHA}]}), "damaged"),
        (canonical(CONTENT | {"files": [{"path": "x", "sha256": SHA, "bytes": True}]}), "damaged"),
        (canonical(CONTENT | {"machine": {}}), "damaged"),
        (canonical(CONTENT | {"verdict": "fail"}), "contradict"),
        (canonical(CONTENT | {"warning": "Beware."}), "contradict"),
        (canonical(CONTENT | {"verdict": "fail", "accepted": False}), "contradict"),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Manifest.parse(content)


def test_it_is_read_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(canonical(CONTENT))
    assert read_manifest(tmp_path).name == "cells.pt"
    (tmp_path / "manifest.json").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="larger than any"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("cells.pt", "cells"), ("Blood Cells v2.PT", "blood-cells-v2"), ("../x", "model"), (".pt", "pt"), ("ä.pt", "model"), ("a", "a")],
)
def test_a_name_for_folders(name: str, slug: str) -> None:
    assert replace(Manifest.parse(canonical(CONTENT)), name=name).slug == f"{slug}-onnxruntime"


def test_json_for_people() -> None:
    assert readable_json({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        readable_json(float("nan"))
