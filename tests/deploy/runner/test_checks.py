"""A bundle that was made by hand passes its checks; one thing changed at a time is refused, by the words that name it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import numpy_helper

from optimize.backends.self_test import TOLERANCES
from optimize.deploy.runner import contents, manifest
from optimize.deploy.runner.checks import check
from optimize.deploy.runner.errors import Refused
from optimize.deploy.runner.model import Model
from tests.deploy.runner import handmade
from tests.deploy.runner.handmade import edit, rehash, seal

REMEDIES = ("copy", "get", "take", "use", "install", "give")


def refusal(folder: Path, key: str | None = None) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(Refused) as problem:
        check(folder, key)
    line = str(problem.value)
    assert "\n" not in line
    assert any(word in line for word in REMEDIES), "a line says what to do"
    return line


def test_the_untouched_bundle_passes(sealed: Path, key: Ed25519PrivateKey) -> None:
    for _ in range(3):
        found = check(sealed, handmade.base64_of(key))
        assert found.notes == ()
        assert found.finding == "16 inputs, 0 decisions changed, outputs differ by 0 % of their range (0.01 % allowed)"
    assert check(sealed).fingerprint is None


def test_one_byte_changed_in_any_file_is_refused(copied: Path, key: Ed25519PrivateKey) -> None:
    draw, pinned = np.random.default_rng(0), handmade.base64_of(key)
    files = [path for path in sorted(copied.rglob("*")) if path.is_file()]
    assert len(files) > 30
    for path in files:
        content = path.read_bytes()
        changed = bytearray(content)
        changed[int(draw.integers(len(changed)))] ^= int(draw.integers(1, 256))
        path.write_bytes(changed)
        refusal(copied, pinned)
        # the envelope alone decides nothing where no key is pinned, but a damaged one is not passed over either
        if path.name != "manifest.dsse.json":
            refusal(copied)
        path.write_bytes(content)
    check(copied, pinned)


def grown(folder: Path) -> None:
    (folder / "README.md").write_text("How to use it, and more.\n")


def linked(folder: Path) -> None:
    shutil.move(folder / "README.md", folder.parent / "away")
    (folder / "README.md").symlink_to(folder.parent / "away")


def linked_folder(folder: Path) -> None:
    shutil.move(folder / "model", folder.parent / "away")
    (folder / "model").symlink_to(folder.parent / "away")


def piped(folder: Path) -> None:
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")


def compiled(folder: Path) -> None:
    (folder / "bundle" / "__pycache__").unlink()
    (folder / "bundle" / "__pycache__").mkdir()
    (folder / "bundle" / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"")


TOUCHES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "is no bundle"),
    "larger": (grown, "`README.md` was altered after the bundle was made (its size differs)"),
    "same size": (lambda folder: (folder / "README.md").write_text("HOW to use it.\n"), "its sha256 differs"),
    "removed": (lambda folder: (folder / "README.md").unlink(), "lacks its file 'README.md'"),
    "added": (lambda folder: (folder / "numpy.py").write_text(""), "holds a file 'numpy.py' that its manifest does not list"),
    "added in a folder": (lambda folder: (folder / "model" / "x").write_text(""), "'model/x'"),
    "empty folder": (lambda folder: (folder / "more").mkdir(), "holds a folder 'more'"),
    "a name with a line end": (lambda folder: (folder / "a\nb").write_text(""), r"a\nb"),
    "link": (linked, "a link 'README.md'"),
    "link to a folder": (linked_folder, "a link 'model'"),
    "pipe": (piped, "a device 'README.md'"),
    "compiled code": (compiled, "a folder 'bundle/__pycache__'"),
    "manifest with spaces": (
        lambda folder: (folder / "manifest.json").write_text(json.dumps(json.loads((folder / "manifest.json").read_text()))),
        "not in canonical form",
    ),
    "manifest with a line end": (
        lambda folder: (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b"\n"),
        "not in canonical form",
    ),
    "no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "`manifest.json` is damaged"),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "this runner reads"),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_what_lies_there_must_be_what_is_listed(touch: str, copied: Path) -> None:
    change, words = TOUCHES[touch]
    change(copied)
    assert words in refusal(copied)


def test_a_planted_folder_is_refused_before_it_is_opened(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "more" / "inside").mkdir(parents=True)
    opened: list[Path] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(Path(path)) or real(path))
    assert "holds a folder 'more'" in refusal(copied)
    assert copied / "more" not in opened
    assert copied / "bundle" in opened


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "('optimize-bundle', 2)"),
        ({"format": True}, "this runner reads"),
        ({"format": 0}, "this runner reads"),
        ({"kind": "other"}, "this runner reads"),
        ({"verdict": "fail"}, "accepted True with verdict 'fail'"),
        ({"accepted": False}, "accepted False with verdict 'pass'"),
        ({"accepted": False, "verdict": "fail", "warning": None}, "warning None"),
        ({"accepted": False, "verdict": "fail", "warning": " "}, "warning ' '"),
        (
            {"accepted": False, "verdict": "fail", "warning": "Rejected."},
            "`report.json` and manifest.json do not belong together (accepted",
        ),
        ({"warning": "what"}, "warning 'what'"),
        ({"self_test": None}, "no self-test"),
        ({"self_test": {"path": "model/golden.npz", "tolerance": {"same": 1.0, "another": 1e-3}}}, "tolerance 1"),
        ({"self_test": {"path": "model/golden.npz", "tolerance": {"same": True, "another": 1e-3}}}, "tolerance True"),
        ({"self_test": {"path": "model/model.onnx", "tolerance": {"same": 0, "another": 0}}}, "self-test differs"),
        ({"target": "openvino"}, "target and precision differs"),
        ({"target": "quantum"}, "target and precision differs"),
        ({"precision": "int8"}, "target and precision differs"),
        ({"artifact": {"folder": "model", "sha256": "0" * 64}}, "hash of the model differs"),
        ({"artifact": {"folder": "model", "sha256": "0" * 63}}, "is no sha256"),
        ({"artifact": {"folder": "bundle", "sha256": "0" * 64}}, "lists no `bundle/artifact.json`"),
        ({"artifact": {"folder": "../model", "sha256": "0" * 64}}, "path '../model'"),
        ({"report": {"path": "report.json", "sha256": "0" * 64, "artifact_sha256": None}}, "(hash differs)"),
        ({"machine": {}}, "KeyError"),
        ({"files": []}, "that its manifest does not list"),
        ({"files": [{"path": "../x", "sha256": "0" * 64, "bytes": 1}]}, "path '../x'"),
        ({"files": [{"path": "x/" * 16 + "x", "sha256": "0" * 64, "bytes": 1}]}, "nested deeper than 16"),
        ({"files": [{"path": "/x", "sha256": "0" * 64, "bytes": 1}]}, "path '/x'"),
        ({"files": [{"path": "x", "sha256": "0" * 64, "bytes": 1}] * 2}, "listed twice"),
        ({"files": [{"path": "manifest.json", "sha256": "0" * 64, "bytes": 1}]}, "manifest's own"),
        ({"files": [{"path": "x", "sha256": "0" * 64, "bytes": -1}]}, "size -1"),
    ],
)
def test_a_manifest_that_contradicts_itself_or_the_bundle_is_refused(changes: dict[str, Any], words: str, copied: Path) -> None:
    seal(copied, **changes)
    assert words in refusal(copied)


def other_golden(folder: Path) -> None:
    """Answers of another model."""
    path = folder / "model" / "golden.npz"
    with np.load(path) as file:
        inputs, outputs = file["inputs"], file["outputs"]
    np.savez(path, inputs=inputs, outputs=outputs[::-1])


def fewer(folder: Path) -> None:
    np.savez(folder / "model" / "golden.npz", inputs=np.zeros((1, 1, 8, 8), np.float32), outputs=np.zeros((1, 3), np.float32))


def zeros(folder: Path) -> None:
    np.savez(folder / "model" / "golden.npz", inputs=np.zeros((16, 1, 8, 8), np.float32), outputs=np.zeros((16, 3), np.float32))


def bomb(folder: Path) -> None:
    np.savez_compressed(folder / "model" / "golden.npz", inputs=np.zeros((16, 1, 8, 8), np.float32), outputs=np.zeros((16, 3), np.float32))


def pickled(folder: Path) -> None:
    np.savez(folder / "model" / "golden.npz", inputs=np.array([print] * 16), outputs=np.zeros((16, 3), np.float32))


def not_finite(folder: Path) -> None:
    inputs = np.full((16, 1, 8, 8), np.nan, np.float32)
    np.savez(folder / "model" / "golden.npz", inputs=inputs, outputs=np.zeros((16, 3), np.float32))


@pytest.mark.parametrize(
    ("touch", "words"),
    [
        (other_golden, "self-test failed (16 inputs"),
        (fewer, "it has 1 inputs, and a whole one has 16"),
        (zeros, "can show no fault"),
        (bomb, "its arrays take"),
        (pickled, "the self-test is none of this model"),
        (not_finite, "not all finite"),
    ],
)
def test_a_self_test_with_hashes_that_fit_is_refused_for_what_it_says(touch: Callable[[Path], None], words: str, copied: Path) -> None:
    touch(copied)
    rehash(copied)
    seal(copied)
    assert words in refusal(copied)


def test_another_model_with_hashes_that_fit_fails_the_self_test(copied: Path) -> None:
    network = onnx.load(copied / "model" / "model.onnx")
    weights = numpy_helper.to_array(network.graph.initializer[0]).copy()
    weights[0, 0] *= -1
    network.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(network, copied / "model" / "model.onnx")
    rehash(copied)
    seal(copied)
    assert "self-test failed" in refusal(copied)


def test_a_model_that_the_runtime_does_not_open_is_refused_in_one_line(copied: Path) -> None:
    (copied / "model" / "model.onnx").write_bytes(b"\0" * 100)
    rehash(copied)
    seal(copied)
    assert "onnxruntime cannot open the model" in refusal(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said.update(format=2), "damaged"),
        (lambda said: said.update(input_shape=[1, 8, 4]), "the model takes (1, 8, 8)"),
        (lambda said: said.update(input_shape=[True, 8, 8]), "damaged"),
        (lambda said: said.pop("use"), "damaged"),
        (lambda said: said["use"].update(threads=0), "threads 0"),
        (lambda said: said["use"].update(options={"profile_file_prefix": "/x"}), "states options"),
        (lambda said: said["files"][0].update(sha256="0" * 64), "hash of the model differs"),
        (lambda said: said["golden"].update(sha256="0" * 64), "hash of golden.npz differs"),
        (lambda said: said.pop("golden"), "self-test differs"),
        (lambda said: said["files"].append({"name": "../report.json", "sha256": "0" * 64}), "damaged"),
        (lambda said: said["built"].update(isa="avx2"), "name other instruction sets"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused(change: Callable[[dict[str, Any]], Any], words: str, copied: Path) -> None:
    # the manifest says what it said before, but for the hash of artifact.json
    before = json.loads((copied / "manifest.json").read_text())
    edit(copied / "model" / "artifact.json", change)
    kept = {name: before[name] for name in ("target", "precision", "artifact", "machine", "self_test")}
    seal(copied, **kept, report={**before["report"]})
    assert words in refusal(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda report: report.update(accepted=False), "accepted differs"),
        (lambda report: report.update(verdict="fail"), "verdict differs"),
        (lambda report: report.update(target="openvino"), "target differs"),
        (lambda report: report["artifact"]["files"][0].update(sha256="0" * 64), "hash of model.onnx differs"),
        (lambda report: report["artifact"]["files"][0].update(name="other.onnx"), "hash of other.onnx differs"),
        (lambda report: report.pop("verdict"), "damaged"),
    ],
)
def test_a_report_of_another_model_is_refused(change: Callable[[dict[str, Any]], Any], words: str, copied: Path) -> None:
    edit(copied / "report.json", change)
    seal(copied, accepted=True, verdict="pass", warning=None)
    assert words in refusal(copied)


def test_a_model_that_was_not_accepted_says_so_at_every_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = handmade.bundle(tmp_path / "cells")
    edit(folder / "report.json", lambda report: report.update(accepted=False, verdict="fail", artifact=None))
    seal(folder, warning="This model was rejected: it does not hold its limits.")
    with Model(folder) as model:
        assert model.notes == ("This model was rejected: it does not hold its limits.",)
    assert capsys.readouterr().err == "bundle: This model was rejected: it does not hold its limits.\n"


def test_another_version_passes_within_the_wider_tolerance_and_says_so(tmp_path: Path) -> None:
    folder = handmade.bundle(tmp_path / "cells")
    edit(folder / "model" / "artifact.json", lambda said: said.update(runtime="1.0"))
    seal(folder)
    found = check(folder)
    assert found.notes[0].startswith("verified with onnxruntime 1.0, here is ")
    assert found.finding.endswith("(0.1 % allowed)")
    # and is refused where it computes something else
    with np.load(folder / "model" / "golden.npz") as file:
        inputs, outputs = file["inputs"], file["outputs"]
    for share, passes in ((5e-4, True), (2e-3, False)):
        moved = outputs.copy()
        # the lowest output of all is moved: no decision changes
        moved.flat[moved.argmin()] += share * np.ptp(outputs)
        np.savez(folder / "model" / "golden.npz", inputs=inputs, outputs=moved)
        rehash(folder)
        seal(folder)
        if passes:
            check(folder)
        else:
            assert "self-test failed" in refusal(folder)


def test_a_file_replaced_while_it_is_checked_is_not_what_runs(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = contents.read_checked

    def then_replace(*arguments: Any) -> dict[str, bytes]:
        kept = real(*arguments)
        (copied / "model" / "model.onnx").write_bytes(b"something else")
        return kept

    monkeypatch.setattr("optimize.deploy.runner.contents.read_checked", then_replace)
    assert check(copied).finding.startswith("16 inputs, 0 decisions changed")


def test_a_runtime_that_is_not_installed_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "onnxruntime is not installed" in refusal(copied)


def test_a_runtime_that_was_installed_in_part_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert "onnxruntime cannot be imported" in refusal(copied)


def test_a_manifest_that_is_too_large_is_not_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_BYTES", 100)
    assert "larger than 100 bytes" in refusal(copied)


def test_the_largest_tolerance_of_a_run_is_one_that_a_manifest_may_have() -> None:
    assert max(max(limits) for limits in TOLERANCES.values()) < 1
