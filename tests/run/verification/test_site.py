"""A bundle at a site: what is refused, what is judged, and what the record says. Most bundles are made by the builder, one by hand."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

import optimize as opt
from optimize.backends.artifact import Artifact
from optimize.errors import InputError, TargetUnavailable
from optimize.guard.limits import Limits
from optimize.report.page import as_json
from optimize.run.bundle import bundle
from optimize.run.verification import site
from optimize.run.verification.site import verify_bundle, verify_path
from tests import keys
from tests.conftest import require
from tests.deploy import finished_run
from tests.deploy.finished_run import CLASSES, MEAN, STD, USE, finished
from tests.report.sample import masks
from tests.runs import command

Change = Callable[[Path], object]
LIMITS = Limits(max_drop=0.02, max_class_drop=0.06).as_dict()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its signed bundle, and two pairs of keys; nobody writes into it."""
    require("onnxruntime")
    folder = tmp_path_factory.mktemp("site")
    private, _ = keys.pair(folder, "maker")
    keys.pair(folder, "other")
    finished(folder / "run", limits=LIMITS)
    bundle(folder / "run", folder / "bundle", sign_key=private)
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The bundle, to be changed."""
    return Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))


def by_hand(run: Path, folder: Path) -> Path:
    """The bundle of a run as docs/bundle.md describes it, without the builder: an oracle of the format."""
    shutil.copytree(run / "model", folder / "model")
    shutil.copytree(run / "onnx", folder / "onnx")
    for name in ("report.json", "report.html", "recipe.lock.toml"):
        shutil.copyfile(run / name, folder / name)
    report, use = json.loads((run / "report.json").read_text()), json.loads((run / "model" / "artifact.json").read_text())["use"]
    steps = {**use["input"]["preprocessing"], **{key: use["input"][key] for key in ("layout", "shape", "dtype")}}
    (folder / "preprocess.json").write_text(json.dumps(steps))
    (folder / "criteria.json").write_text(json.dumps({"limits": report["limits"]}))
    files = [
        {"path": path.relative_to(folder).as_posix(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    artifact = Artifact.read(run / "model")
    manifest = {
        **{"format": 1, "kind": "optimize-bundle", "name": report["model"]["name"], "created": report["created"], "target": "onnxruntime"},
        **{"precision": "f32", "accepted": True, "verdict": "pass", "warning": None},
        "artifact": {"folder": "model", "sha256": artifact.sha256},
        "report": {"path": "report.json", "sha256": next(file["sha256"] for file in files if file["path"] == "report.json")},
        "machine": {
            **{"cpu": None, "isa": artifact.built.get("isa"), "made_for": None, "compute_capabilities": None, "python": None},
            **{"runtime": {"name": "onnxruntime", "version": artifact.runtime}, "numpy": None, "threads": 1, "peak_memory_bytes": None},
        },
        "self_test": {"path": "model/golden.npz", "tolerance": {"same": 0.0001, "another": 0.001}},
        "files": sorted(files, key=lambda file: str(file["path"])),
    }
    manifest["report"]["artifact_sha256"] = artifact.sha256
    (folder / "manifest.json").write_bytes(json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    return folder


def weights(run: Path, name: str) -> np.ndarray:
    """The matrix of a network in a run, (16, 3)."""
    import onnx

    (tensor,) = onnx.load(run / "onnx" / name).graph.initializer
    return np.asarray(onnx.numpy_helper.to_array(tensor))


def scores(run: Path, images: np.ndarray, name: str) -> np.ndarray:
    """Outputs of a network by numpy alone: an oracle of both models."""
    inputs = (images.reshape(len(images), -1).astype(np.float32) / 255 - MEAN) / STD
    return np.asarray(inputs @ weights(run, name), dtype=np.float32)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4), np.uint8)


def test_a_bundle_made_by_hand_is_accepted(made: Path, tmp_path: Path) -> None:
    (tmp_path / "hand").mkdir()
    found = verify_bundle(by_hand(made / "run", tmp_path / "hand"))
    assert found.outcome == "pass"
    assert any(line.startswith("not signed") for line in found.findings)
    assert any("runner: its code is not that of this version" in line for line in found.findings)


def test_the_findings_say_what_was_compared(made: Path) -> None:
    found = verify_bundle(made / "bundle", public_key=str(made / "maker.pub"))
    assert found.outcome == "pass"
    starts = ("complete:", "signed by key", "the report of the run has no signature", "bound:", "runner: its code is that of this version")
    assert all(any(line.startswith(start) for line in found.findings) for start in starts), found.findings
    assert sum(line.startswith("self-test: 16 inputs, 0 decisions changed") for line in found.findings) == 1
    unpinned = verify_bundle(made / "bundle")
    assert any("not compared with a key of yours" in line for line in unpinned.findings)


@pytest.mark.parametrize("top", ["", "cells/"])
def test_an_archive_is_verified_like_its_folder(made: Path, tmp_path: Path, top: str) -> None:
    with tarfile.open(tmp_path / "bundle.tar.gz", "w:gz") as archive:
        for path in sorted((made / "bundle").rglob("*")):
            if path.is_file():
                archive.add(path, f"{top}{path.relative_to(made / 'bundle')}")
    assert verify_path(tmp_path / "bundle.tar.gz", public_key=str(made / "maker.pub")).outcome == "pass"


def test_every_file_with_one_byte_changed_is_refused(made: Path, copied: Path) -> None:
    for path in sorted(path for path in copied.rglob("*") if path.is_file()):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(InputError):
            verify_bundle(copied, public_key=str(made / "maker.pub"))
        path.write_bytes(content)
    assert verify_bundle(copied, public_key=str(made / "maker.pub")).outcome == "pass"


def rewritten(folder: Path, **changes: Any) -> None:
    """The manifest with other content, in the canonical form, and without its signature."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.dsse.json").unlink(missing_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest | changes, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def relisted(folder: Path, path: str, content: bytes) -> None:
    """A file with other content, and the manifest with its hash: what somebody does who forges a bundle."""
    (folder / path).write_bytes(content)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    entry = {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewritten(folder, files=[entry if file["path"] == path else file for file in files])


def other_preprocessing(folder: Path) -> None:
    said = json.loads((folder / "preprocess.json").read_text())
    relisted(folder, "preprocess.json", json.dumps({**said, "std": [0.5]}).encode())


def laxer_limits(folder: Path) -> None:
    said = json.loads((folder / "criteria.json").read_text())
    relisted(folder, "criteria.json", json.dumps({**said, "limits": {**said["limits"], "max_drop": 0.5}}).encode())


def line_feed(folder: Path) -> None:
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b"\n")


CHANGES: dict[str, tuple[Change, str]] = {
    "a further file": (lambda folder: (folder / "model" / "extra.bin").write_bytes(b"1"), "does not list"),
    "compiled code": (lambda folder: (folder / "sitecustomize.py").write_bytes(b"1"), "does not list"),
    "a missing file": (lambda folder: (folder / "report.html").unlink(), "is missing"),
    "a link": (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "a symbolic link"),
    "an empty folder": (lambda folder: (folder / "empty").mkdir(), "does not list"),
    "a line feed at the end": (line_feed, "canonical"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
    "another verdict": (lambda folder: rewritten(folder, verdict="fail", accepted=False), "contradict|says verdict"),
    "another artifact": (lambda folder: rewritten(folder, artifact={"folder": "model", "sha256": "0" * 64}), "says artifact"),
    "another report": (lambda folder: rewritten(folder, report={"path": "report.json", "sha256": "0" * 64}), "another report"),
    "another target": (lambda folder: rewritten(folder, target="openvino"), "says target"),
    "another network": (lambda folder: relisted(folder, "onnx/original.onnx", b"1234"), "is not of the run"),
    "another preprocessing": (other_preprocessing, "is not the preprocessing of the artifact"),
    "laxer limits": (laxer_limits, "has other limits"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_bundle_is_refused_without_a_key_too(copied: Path, name: str) -> None:
    change, said = CHANGES[name]
    change(copied)
    with pytest.raises(InputError, match=said):
        site.examine_bundle(copied)


VALUES: tuple[Any, ...] = (None, True, -1, 0, 3.5, "x", "\x1b[31m", [], {}, [1], {"a": 1}, "../x", [None], 10**30)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a JSON document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*path, key)
        yield from places(part, (*path, key))


@pytest.mark.parametrize("name", ["report.json", "manifest.json", "model/artifact.json", "criteria.json", "preprocess.json"])
def test_a_value_of_another_kind_ends_in_no_traceback(copied: Path, name: str) -> None:
    """Seeded changes by somebody who mends all hashes: each is refused in one line, or found to be harmless."""
    draw, text, manifest = random.Random(5), (copied / name).read_text(), (copied / "manifest.json").read_text()
    refused = 0
    for _ in range(25):
        document = json.loads(text)
        *way, last = draw.choice(list(places(document)))
        target = functools.reduce(operator.getitem, way, document)
        target[last] = draw.choice(VALUES)
        (copied / "manifest.json").write_text(manifest)
        if name == "manifest.json":
            rewritten(copied, **document)
        else:
            relisted(copied, name, (as_json(document) if name == "report.json" else json.dumps(document)).encode())
            if name == "report.json":
                said = json.loads(manifest)["report"]
                rewritten(copied, report={**said, "sha256": hashlib.sha256((copied / name).read_bytes()).hexdigest()})
        try:
            site.examine_bundle(copied)
        except InputError:
            refused += 1
    assert refused


def test_the_key_must_be_the_maker_s(made: Path, copied: Path) -> None:
    with pytest.raises(InputError, match="not by the key"):
        verify_bundle(made / "bundle", public_key=str(made / "other.pub"))
    shutil.copy(made / "maker.pub", copied / "key.pub")
    with pytest.raises(InputError, match="lies in the bundle"):
        verify_bundle(copied, public_key=str(copied / "key.pub"))
    (copied / "key.pub").unlink()
    (copied / "manifest.dsse.json").unlink()
    with pytest.raises(InputError, match="is not signed"):
        verify_bundle(copied, public_key=str(made / "maker.pub"))
    # without a key its absence is only said
    assert any(line.startswith("not signed") for line in verify_bundle(copied).findings)


def test_a_signature_of_another_manifest_is_refused_without_a_key(made: Path, copied: Path, tmp_path: Path) -> None:
    finished(tmp_path / "run", verdict="inconclusive")
    bundle(tmp_path / "run", tmp_path / "second", sign_key=made / "maker.pem", not_accepted=True)
    shutil.copy(tmp_path / "second" / "manifest.dsse.json", copied)
    with pytest.raises(InputError, match="is not of the manifest beside it"):
        verify_bundle(copied)


def test_a_file_that_is_replaced_during_the_self_test_is_noticed(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = site.run_self_test

    def meanwhile(artifact: Artifact) -> Any:
        (copied / "README.md").write_text("other")
        return whole(artifact)

    monkeypatch.setattr(site, "run_self_test", meanwhile)
    with pytest.raises(InputError, match=r"README\.md"):
        verify_bundle(copied)


def test_a_model_that_fails_its_self_test_is_not_judged_further(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "run_self_test", lambda _: ("fail", ("self-test: 16 inputs, 9 decisions changed",)))
    monkeypatch.setattr(site, "_judged", lambda *_: pytest.fail("it was judged"))
    found = verify_bundle(made / "bundle", data={"images": pictures(20)}, record=tmp_path / "record")
    assert (found.outcome, found.findings[-1]) == ("fail", "self-test: 16 inputs, 9 decisions changed")
    record = json.loads((tmp_path / "record" / "acceptance.json").read_text())
    assert (record["outcome"], record["judgement"], record["cases"]["original"]) == ("fail", None, "not asked")
    assert "does not compute here what it computed" in (tmp_path / "record" / "acceptance.html").read_text()


def test_a_machine_without_the_runtime_is_exit_code_four(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optimize.backends import backend

    monkeypatch.setattr(backend("onnxruntime"), "unavailable_reason", lambda: "no such processor")
    with pytest.raises(TargetUnavailable):
        verify_bundle(made / "bundle")
    assert command("verify", made / "bundle")[0] == 4


def test_unlabelled_cases_are_judged_by_agreement(made: Path) -> None:
    images = pictures(900)
    before, after = (scores(made / "run", images, name).argmax(1) for name in ("original.onnx", "model.onnx"))
    found = verify_bundle(made / "bundle", data={"images": images})
    assert found.figures is not None
    judgement = found.figures["judgement"]
    differ = np.flatnonzero(before != after)
    assert 0 < len(differ) < 200
    assert judgement["disagreements"] == differ.tolist()
    assert judgement["figures"][0]["high"] == pytest.approx(beta.ppf(0.95, len(differ) + 1, 900 - len(differ)))
    assert found.outcome == "inconclusive"
    assert [row["answers"] for row in judgement["per_class"]] == np.bincount(before, minlength=3).tolist()
    assert any(line.startswith("not judged: max_class_drop") for line in found.findings)


def test_recorded_answers_take_the_original_s_place(made: Path) -> None:
    images = pictures(400)
    found = verify_bundle(made / "bundle", data={"images": images, "original_outputs": scores(made / "run", images, "model.onnx")})
    assert found.outcome == "pass"
    assert "original: recorded answers in the data" in found.findings


def test_labelled_cases_pass_fail_or_are_too_few(made: Path) -> None:
    images = pictures(600, seed=2)
    truth = scores(made / "run", images, "model.onnx").argmax(1)
    passed = verify_bundle(made / "bundle", data=(images, truth))
    assert passed.outcome == "pass"
    assert passed.figures is not None
    overall = passed.figures["judgement"]["figures"][0]
    assert overall["after"] == 1.0
    assert overall["before"] == pytest.approx(np.mean(scores(made / "run", images, "original.onnx").argmax(1) == truth))
    (original,) = (line for line in passed.findings if line.startswith("overall accuracy of the original"))
    assert f"{100 * overall['before']:.2f} % here" in original
    assert "not like those of the run" not in original
    few = verify_bundle(made / "bundle", data=(images[:9], truth[:9]))
    assert few.outcome == "inconclusive"
    assert any("would give a chance of 80 %" in line for line in few.findings)
    # the original is always right, and the artifact always wrong
    other = (truth + 1) % 3
    lost = {"images": images, "labels": other, "original_outputs": np.eye(3, dtype=np.float32)[other]}
    assert verify_bundle(made / "bundle", data=lost).outcome == "fail"
    # both models are always wrong: nothing was lost, and the model is of no use here
    useless = verify_bundle(made / "bundle", data={**lost, "labels": (truth + 2) % 3})
    assert any("these cases are not like those of the run" in line for line in useless.findings)


def test_masks_are_judged_with_and_without_the_true_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pixel x the network gives the background 0, the tumour x + 0.3 and the cyst 2 x - 0.5: the masks are known by hand."""

    def network(path: Path, weights: np.ndarray) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        kernel, bias = np.float32([0, 1, 2]).reshape(3, 1, 1, 1), np.float32([0, 0.3, -0.5])
        initializers = [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(bias, "b")]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n, 4, 4]) for name, n in (("input", 1), ("output", 3))]
        graph = helper.make_graph([helper.make_node("Conv", ["input", "k", "b"], ["output"])], "g", ends[:1], ends[1:], initializers)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)

    monkeypatch.setattr(finished_run, "network", network)
    output = {**USE["output"], "shape": ["N", 3, 4, 4], "task": "segmentation", "classes": ["tumour", "cyst"]}
    output["decision"] = "argmax of axis 1; 0 is the background, then the classes"
    limits = {**Limits(max_drop=0.05, max_class_drop=0.1, min_agreement=0.9).as_dict(), "metric": "dice", "class_metric": "dice"}
    report = {name: value for name, value in masks().items() if name not in ("target", "precision", "files", "artifact")}
    finished(tmp_path / "run", use={**USE, "output": output}, **(report | {"limits": limits}))
    bundle(tmp_path / "run", tmp_path / "bundle")
    images = pictures(150)
    pixels = (images / 255 - MEAN) / STD
    truth = np.where(pixels > 0.8, 2, np.where(pixels > -0.3, 1, 0)).astype(np.uint8)
    labelled = verify_bundle(tmp_path / "bundle", data={"images": images, "masks": truth})
    assert labelled.figures is not None
    assert (labelled.outcome, labelled.figures["judgement"]["figures"][0]["after"]) == ("pass", 1.0)
    without = verify_bundle(tmp_path / "bundle", data={"images": images}, record=tmp_path / "record")
    assert without.outcome == "pass"
    assert any("is 1.0000 over 150 cases" in line for line in without.findings)
    # recorded answers of an original that marks nothing: agreement is a limit of its own, and fails
    empty = np.zeros((150, 3, 4, 4), np.float32)
    empty[:, 0] = 1
    assert verify_bundle(tmp_path / "bundle", data={"images": images, "original_outputs": empty}).outcome == "fail"


@pytest.mark.parametrize(("verdict", "labelled"), [("fail", "inconclusive"), ("inconclusive", "pass")])
def test_a_site_accepts_no_more_than_the_run_allows(made: Path, tmp_path: Path, verdict: str, labelled: str) -> None:
    finished(tmp_path / "run", verdict=verdict)
    bundle(tmp_path / "run", tmp_path / "bundle", not_accepted=True)
    images = pictures(600)
    outputs = scores(tmp_path / "run", images, "model.onnx")
    alone = verify_bundle(tmp_path / "bundle")
    assert alone.outcome == "inconclusive"
    assert any(line.startswith("warning of the bundle") for line in alone.findings)
    agreed = {"images": images, "original_outputs": outputs}
    assert verify_bundle(tmp_path / "bundle", data=agreed).outcome == "inconclusive"
    assert verify_bundle(tmp_path / "bundle", data={**agreed, "labels": outputs.argmax(1)}).outcome == labelled


def test_the_cases_of_the_run_are_recognised(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(30)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    examined = site.examine_bundle

    def known(*arguments: Any) -> Any:
        found = examined(*arguments)
        found.report["data"]["test"]["sha256"] = digest
        return found

    monkeypatch.setattr(site, "examine_bundle", known)
    assert any("are the test split of the run" in line for line in verify_bundle(made / "bundle", data={"images": images}).findings)


def test_the_record_is_written_beside_and_the_bundle_stays_as_it_is(made: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (made / "bundle").rglob("*")}
    images = pictures(600)
    np.savez(tmp_path / "cases.npz", images=images, labels=scores(made / "run", images, "model.onnx").argmax(1))
    private, _ = keys.pair(tmp_path, "clinic")
    flags = ("--key", made / "maker.pub", "--data", tmp_path / "cases.npz", "--record", tmp_path / "record", "--sign-key", private)
    code, stdout, stderr = command("verify", made / "bundle", *flags, "--json")
    assert code == 0, stderr
    said = json.loads(stdout)
    assert (said["outcome"], said["record"]) == ("pass", str(tmp_path / "record"))
    record = json.loads((tmp_path / "record" / "acceptance.json").read_text())
    assert record["bundle"]["manifest_sha256"] == hashlib.sha256((made / "bundle" / "manifest.json").read_bytes()).hexdigest()
    assert record["bundle"]["key"] == json.loads((made / "bundle" / "manifest.dsse.json").read_text())["signatures"][0]["keyid"]
    assert sum(record["cases"]["per_class"].values()) == 600
    assert set(record["cases"]["per_class"]) == set(CLASSES)
    assert record["criteria"]["max_drop"] == json.loads((made / "run" / "report.json").read_text())["limits"]["max_drop"]
    assert (tmp_path / "record" / "acceptance.dsse.json").exists()
    assert {path: path.stat().st_mtime_ns for path in (made / "bundle").rglob("*")} == before


def test_from_python(made: Path, tmp_path: Path) -> None:
    images = pictures(300)
    outputs = scores(made / "run", images, "model.onnx")
    found = opt.verify(
        made / "bundle", public_key=made / "maker.pub", data={"images": images, "original_outputs": outputs}, record=tmp_path / "record"
    )
    assert (found.outcome, found.record) == ("pass", tmp_path / "record")
    assert found.figures is not None
    assert found.figures["cases"]["cases"] == 300
    assert opt.verify(opt.bundle(made / "run", tmp_path / "again")).outcome == "pass"
    with pytest.raises(InputError, match="is for a bundle"):
        opt.verify(made / "run", record=tmp_path / "other")
    for name in ("record", "public_key"):
        with pytest.raises(InputError, match=rf"`{name}` \(=3\)"):
            opt.verify(made / "bundle", **{name: 3})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--model", "model.pt"), "`--model` is not used to verify a bundle"),
        (("--history", "looks.jsonl"), "`--history` is not used to verify a bundle"),
        (("--sign-key", "key.pem"), "add --record"),
        (("--record", "{bundle}/record"), "lies in the bundle"),
        (("--data", "nowhere.npz"), "does not exist"),
    ],
)
def test_a_wrong_call_is_one_line(made: Path, flags: tuple[str, ...], said: str) -> None:
    code, stdout, stderr = command("verify", made / "bundle", *(flag.format(bundle=made / "bundle") for flag in flags))
    assert (code, stdout, len(stderr.splitlines())) == (2, "", 1)
    assert said in stderr


def test_a_file_that_is_no_archive_is_called_so(made: Path) -> None:
    code, _, stderr = command("verify", made / "bundle" / "report.json")
    assert code == 2
    assert "is neither a folder nor a .tar.gz" in stderr


def test_what_holds_no_bundle_is_named_and_not_a_temporary_folder(made: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").write_text("x")
    for name, folders in (("none", ("x",)), ("two", ("x", "y"))):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            for folder in folders:
                archive.add(tmp_path / "x", folder)
    for form in ("docker", "oci"):
        bundle(made / "run", tmp_path / f"{form}.tar.gz", format=form)
    bundle(made / "run", tmp_path / "context", format="docker")
    for name, rule in (
        ("none.tar.gz", "must hold manifest.json, and it holds notes.txt"),
        ("two.tar.gz", "must hold manifest.json, and it holds x, y"),
        ("docker.tar.gz", "the bundle lies in its folder bundle/: extract it"),
        ("oci.tar.gz", "is an image"),
        ("context", "the bundle lies in its folder bundle/: give that folder"),
    ):
        with pytest.raises(InputError) as refused:
            verify_path(tmp_path / name)
        assert f"`run` (={tmp_path / name})" in str(refused.value)
        assert rule in str(refused.value)
    with pytest.raises(InputError, match="the bundle lies in its folder bundle/"):
        opt.verify(tmp_path / "context")


def test_an_altered_file_in_an_archive_is_named_by_the_archive(copied: Path, tmp_path: Path) -> None:
    (copied / "README.md").write_text("altered")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.add(copied, "cells")
    with pytest.raises(InputError) as refused:
        verify_path(tmp_path / "b.tar.gz")
    assert str(tmp_path / "b.tar.gz") in str(refused.value)
    assert "/bundle`" not in str(refused.value)


def test_a_record_is_for_bundles(made: Path, tmp_path: Path) -> None:
    code, _, stderr = command("verify", made / "run", "--record", tmp_path / "record")
    assert code == 2
    assert "make one with `optimize bundle`" in stderr


def test_where_no_runtime_opens_the_original_recorded_answers_are_asked_for(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "onnx_target_names", lambda: ())
    with pytest.raises(TargetUnavailable, match="original_outputs"):
        verify_bundle(made / "bundle", data={"images": pictures(5)})
