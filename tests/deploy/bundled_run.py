"""A run as the documents of a bundle see it, made by hand."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from optimize.backends.artifact import Artifact
from optimize.deploy.bundle.bundled_run import BundledFile, BundledRun
from tests.deploy.finished_run import USE, artifact
from tests.report.sample import failing, passing

PROTOCOL: dict[str, Any] = {
    "file": "protocol.toml",
    "sha256": "1" * 64,
    "checked": "2026-01-02T03:00:00+00:00",
    "text": "…",
    "content": {
        "title": "A smaller network",
        "date": "2026-01-01",
        "responsible": "A. Person",
        "modification": {"description": "Channels are removed.", "intended_use": "Sorting of cells.", "unchanged": "The classes."},
        "criteria": {"max_drop": "2pp", "max_class_drop": "6pp"},
        "justification": {"max_drop": "Experts differ by more.", "max_class_drop": "Nobody would notice."},
        "statistics": {"plan": "Paired bounds."},
        "test_data": {"sha256": "d" * 64, "description": "The second site."},
        "consequences": {"accepted": "It is shipped.", "rejected": "Nothing changes.", "inconclusive": "More cases."},
        "practices": {"retraining": "None.", "update": "Within an hour."},
        "impact": {"benefits": ["Faster."], "risks": ["Rare classes."], "mitigations": ["Limits for classes."]},
    },
    "signature": {"fingerprint": "2" * 64, "public_key": "A" * 43 + "=", "envelope": {}},
}


def bundled(folder: Path, *, rejected: bool = False, **report: Any) -> BundledRun:
    """The run; `report` says what in its report is another."""
    made: Artifact = artifact(folder / "model", np.ones((16, 3), np.float32), USE)
    (folder / "scratch").mkdir()
    (folder / "recipe.lock.toml").write_text("[search]\nseed = 7\n", encoding="utf-8")
    whole = copy.deepcopy(failing() if rejected else passing())
    whole |= {"target": "onnxruntime", "precision": "f32", "versions": {"optimize": "0.1.0", "torch": "2.13.0"}, **copy.deepcopy(report)}
    return BundledRun(
        folder=folder,
        report=whole,
        artifact=made,
        onnx=folder / "onnx",
        verdict="fail" if rejected else "pass",
        warning="This model was rejected." if rejected else None,
        scratch=folder / "scratch",
    )


def with_files(run: BundledRun, *paths: str) -> BundledRun:
    """The run with files of these names in its bundle; the content of each is its name."""
    files = {path: BundledFile(path, hashlib.sha256(path.encode()).hexdigest(), len(path)) for path in paths}
    return replace(run, files=files)
