"""Bundles of finished runs: what is in them, the same bytes each time, and which runs are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

import optimize as opt
from optimize.backends.artifact import Artifact
from optimize.deploy.bundle import assemble, documents, signature
from optimize.deploy.bundle.extraction import extract
from optimize.deploy.bundle.formats import plain
from optimize.errors import InputError
from optimize.run.bundle import bundle
from tests import keys
from tests.deploy.finished_run import CLASSES, FOLDERS, finished

BY_HAND = ("report.json", "report.html", "recipe.lock.toml", "model/artifact.json", "model/golden.npz", "model/model.onnx")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody writes into it."""
    folder = tmp_path_factory.mktemp("finished")
    # signed, since the page of an unsigned run is rendered again each time that it is examined
    return finished(folder / "out", keys.private(folder / "key.pem"))


def files(folder: Path) -> dict[str, bytes]:
    """Path -> content of every file, by a walk of our own."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, folder).replace(os.sep, "/")] = Path(path).read_bytes()
    return found


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return content


def test_the_manifest_has_every_file_with_its_hash(run: Path, tmp_path: Path) -> None:
    bundled = bundle(run, tmp_path / "b")
    found = files(tmp_path / "b")
    content = found.pop("manifest.json")
    entries = [{"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for path, data in sorted(found.items())]
    said = json.loads(content)
    assert said["files"] == entries
    assert bundled.as_dict()["manifest_sha256"] == hashlib.sha256(content).hexdigest()
    assert bundled.as_dict()["bytes"] == sum(map(len, found.values())) + len(content)
    assert Path(bundled) == tmp_path / "b"
    assert os.listdir(bundled)
    for path in BY_HAND:
        assert found[path] == (run / path).read_bytes()
    assert {path: found[f"onnx/{path}"] for path in ("model.onnx", "original.onnx")} == {
        path: (run / "onnx" / path).read_bytes() for path in ("model.onnx", "original.onnx")
    }
    assert not {"ledger.jsonl", "flips.csv"} & set(found)
    for path in found:
        assert not (tmp_path / "b" / path).is_symlink()


def test_the_manifest_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    bundle(run, tmp_path / "b")
    said, report, artifact = manifest(tmp_path / "b"), json.loads((run / "report.json").read_text()), Artifact.read(run / "model")
    assert {name: said[name] for name in ("format", "kind", "name", "created", "accepted", "verdict", "warning")} == {
        "format": 1,
        "kind": "optimize-bundle",
        "name": report["model"]["name"],
        "created": report["created"],
        "accepted": True,
        "verdict": "pass",
        "warning": None,
    }
    assert said["artifact"] == {"folder": "model", "sha256": artifact.sha256}
    assert said["report"] == {
        "path": "report.json",
        "sha256": hashlib.sha256((run / "report.json").read_bytes()).hexdigest(),
        "artifact_sha256": artifact.sha256,
    }
    assert said["self_test"] == {"path": "model/golden.npz", "tolerance": {"same": 1e-4, "another": 1e-3}}
    machine = said["machine"]
    assert (machine["isa"], machine["made_for"], machine["compute_capabilities"]) == (artifact.built["isa"], None, None)
    assert machine["runtime"] == {"name": "onnxruntime", "version": artifact.runtime}
    assert (machine["threads"], machine["peak_memory_bytes"]) == (1, report["compressed"]["peak_memory_bytes"])


def test_documents_say_how_it_is_used(run: Path, tmp_path: Path) -> None:
    bundle(run, tmp_path / "b")
    preprocess, schema, criteria = (
        json.loads((tmp_path / "b" / f"{name}.json").read_text()) for name in ("preprocess", "schema", "criteria")
    )
    assert preprocess["mean"] == [0.5]
    assert preprocess["shape"] == ["N", 1, 4, 4]
    assert preprocess["layout"] == "NCHW"
    assert schema["inputs"][0]["name"] == "input"
    assert schema["outputs"][0]["classes"] == list(CLASSES)
    assert criteria["limits"]["max_class_drop"] == 0.06
    assert "erythroblast" in criteria["test_split"]["per_class"]
    assert "/there" not in (tmp_path / "b" / "criteria.json").read_text()
    readme = (tmp_path / "b" / "README.md").read_text()
    assert readme.startswith("# cells for onnxruntime\n")
    assert "(4, 4, 1)" in readme
    assert ", ".join(CLASSES) in readme


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keys.private(tmp_path / "key.pem")
    bundle(run, tmp_path / "a", sign_key=key)
    bundle(run, tmp_path / "a.tar.gz", sign_key=key)
    # another umask, other times, another working directory, another path of the run
    again = tmp_path / "elsewhere" / "other"
    shutil.copytree(run, again)
    for path in again.rglob("*"):
        os.utime(path, (10**9, 10**9))
    monkeypatch.chdir(again.parent)
    before = os.umask(0o077)
    try:
        bundle("other", "b", sign_key=key)
        bundle(Path("other"), Path("b.tar.gz"), sign_key=key)
    finally:
        os.umask(before)
    assert files(tmp_path / "a") == files(Path("b"))
    assert (tmp_path / "a.tar.gz").read_bytes() == Path("b.tar.gz").read_bytes()
    extract(Path("b.tar.gz"), tmp_path / "extracted")
    assert files(tmp_path / "extracted") == files(tmp_path / "a")
    with tarfile.open("b.tar.gz") as archive:
        assert archive.getnames()[0] == "cells-onnxruntime-bundle"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["b", "b.tar.gz", "other"]


def test_a_signed_bundle_is_signed(run: Path, tmp_path: Path) -> None:
    private, public = keys.pair(tmp_path, "key")
    signed = bundle(run, tmp_path / "b", sign_key=private)
    content, envelope = ((tmp_path / "b" / name).read_bytes() for name in ("manifest.json", "manifest.dsse.json"))
    raw = base64.b64decode("".join(public.read_text().splitlines()[1:-1]))[-32:]
    assert signature.check(content, envelope, base64.b64encode(raw).decode()) == signed.signed_by == hashlib.sha256(raw).hexdigest()
    assert base64.b64decode(json.loads(envelope)["payload"]) == content
    public.chmod(0o600)
    with pytest.raises(InputError, match="holds no private key"):
        bundle(run, tmp_path / "c", sign_key=public)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("verdict", ["fail", "inconclusive", "unverified"])
def test_what_was_not_accepted_is_bundled_only_when_asked_for(verdict: str, tmp_path: Path) -> None:
    made = finished(tmp_path / "out", verdict=verdict)
    with pytest.raises(InputError, match="--not-accepted") as refused:
        bundle(made, tmp_path / "b")
    assert refused.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    bundled = bundle(made, tmp_path / "b", not_accepted=True)
    said = manifest(tmp_path / "b")
    assert (said["accepted"], said["verdict"]) == (False, verdict)
    assert said["warning"] == bundled.manifest.warning
    assert "was " in said["warning"]
    first, *_ = (tmp_path / "b" / "README.md").read_text().splitlines()
    assert first == f"**WARNING: {said['warning']}**"
    assert (tmp_path / "b" / "model" / "model.onnx").read_bytes() == (made / FOLDERS[verdict] / "model.onnx").read_bytes()
    assert said["report"]["artifact_sha256"] == said["artifact"]["sha256"] == Artifact.read(made / FOLDERS[verdict]).sha256
    assert (said["self_test"] is None) == (verdict == "unverified")


def test_an_accepted_run_is_not_called_unaccepted(run: Path, tmp_path: Path) -> None:
    assert bundle(run, tmp_path / "b", not_accepted=True).manifest.warning is None


def test_what_is_no_whole_run_is_refused(run: Path, tmp_path: Path) -> None:
    def refusal(folder: Path, **settings: Any) -> str:
        with pytest.raises(InputError) as refused:
            bundle(folder, tmp_path / "b", **settings)
        assert not (tmp_path / "b").exists()
        return str(refused.value)

    def altered(name: str) -> Path:
        shutil.copytree(run, tmp_path / name)
        return tmp_path / name

    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "without its report" in refusal(shutil.copytree(run / "model", tmp_path / "alone"))
    (altered("byte") / "onnx" / "original.onnx").write_bytes(b"else")
    assert "onnx/original.onnx is not the one that the report lists" in refusal(tmp_path / "byte")
    (altered("model") / "model" / "model.onnx").write_bytes(b"else")
    assert "model/model.onnx" in refusal(tmp_path / "model")
    _, public = keys.pair(tmp_path, "k")
    assert "not by the key of `--public-key`" in refusal(run, public_key=public)
    with pytest.raises(InputError, match="must be a path"):
        bundle(3, tmp_path / "b")  # type: ignore[arg-type]


def test_a_run_of_an_earlier_version_is_to_be_repeated(tmp_path: Path) -> None:
    old = finished(tmp_path / "out")
    shutil.rmtree(old / "onnx")
    report = json.loads((old / "report.json").read_text())
    from tests.sealed import told

    told(old, report)
    with pytest.raises(InputError, match=r"lacks onnx/model.onnx.*repeat the run, with `optimize compress --recipe .*recipe.lock.toml`"):
        bundle(old, tmp_path / "b")


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    made = finished(tmp_path / "out", verdict="fail")
    shutil.rmtree(made / "not_accepted")
    from tests.sealed import read, told

    told(made, read(made))
    with pytest.raises(InputError, match="holds no compiled model"):
        bundle(made, tmp_path / "b", not_accepted=True)


def test_only_a_bundle_is_overwritten(run: Path, tmp_path: Path) -> None:
    folder, archive = tmp_path / "b", tmp_path / "b.tar.gz"
    folder.mkdir()
    for path in (folder, archive):
        bundle(run, path)  # an empty folder is as good as none
        with pytest.raises(InputError, match="--overwrite"):
            bundle(run, path)
        before = path.stat().st_ino
        bundle(run, path, overwrite=True)
        assert path.stat().st_ino != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("x")
    for name in ("mine", "link", "file"):
        with pytest.raises(InputError, match="no earlier bundle"):
            bundle(run, tmp_path / name, overwrite=True)
    with pytest.raises(InputError, match="no earlier bundle"):
        bundle(run, run, overwrite=True)
    with pytest.raises(InputError, match="lies in the folder of the run"):
        bundle(run, run / "b")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.tar.gz", "file", "link", "mine"]


def test_only_an_archive_of_a_bundle_is_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "thesis.txt", "mine/thesis.txt")
        archive.add(tmp_path / "thesis.txt", "mine/deeper/manifest.json")
    (tmp_path / "mine.tgz").write_bytes(b"no archive")
    for name in ("mine.tar.gz", "mine.tgz"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match="no earlier bundle"):
            bundle(run, tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_bytes() == before
    for form in ("docker", "oci"):
        bundle(run, tmp_path / f"{form}.tar.gz", format=form)
        bundle(run, tmp_path / f"{form}.tar.gz", format=form, overwrite=True)
        with pytest.raises(InputError, match="no earlier bundle of this format"):
            bundle(run, tmp_path / f"{form}.tar.gz", overwrite=True)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("left", [None, b"<html>altered</html>"])
def test_the_page_in_a_bundle_is_that_of_the_report(run: Path, tmp_path: Path, signed: bool, left: bytes | None) -> None:
    made = Path(shutil.copytree(run, tmp_path / "run")) if signed else finished(tmp_path / "run")
    page = (made / "report.html").read_bytes()
    (made / "report.html").unlink()
    if left is not None:
        (made / "report.html").write_bytes(left)
    if signed and left is not None:
        with pytest.raises(InputError, match="not the page"):
            bundle(made, tmp_path / "b")
        return
    bundled = bundle(made, tmp_path / "b")
    assert (tmp_path / "b" / "report.html").read_bytes() == page
    assert "rendered anew" in bundled.findings[-1]
    bundle(made, tmp_path / "again")
    assert files(tmp_path / "b") == files(tmp_path / "again")
    (made / "report.html").write_bytes(page)
    assert not any("rendered anew" in line for line in bundle(made, tmp_path / "whole").findings)
    assert files(tmp_path / "whole") == files(tmp_path / "b")


@pytest.mark.parametrize("name", ["sign_key", "public_key", "model_licence", "data_licence"])
def test_a_value_of_another_kind_is_one_line(name: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"`{name}` \(=3\) must be"):
        bundle(run, tmp_path / "b", **{name: 3})  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_a_failure_leaves_the_earlier_bundle(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(run, tmp_path / "b")
    before = files(tmp_path / "b")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place in ("plain.shutil.copytree", "plain.write"):
        with monkeypatch.context() as patch:
            patch.setattr(f"optimize.deploy.bundle.formats.{place}", full)
            with pytest.raises(OSError, match="No space"):
                bundle(run, tmp_path / "b", overwrite=True)
    assert files(tmp_path / "b") == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = finished(tmp_path / "out")
    copy = shutil.copyfile

    def swapped(source: Path, place: Path) -> object:
        if source == made / "onnx" / "model.onnx":
            source.write_bytes(b"another network")
        return copy(source, place)

    monkeypatch.setattr("optimize.deploy.bundle.assemble.shutil.copyfile", swapped)
    with pytest.raises(InputError, match=r"onnx/model\.onnx was changed while it was bundled"):
        bundle(made, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_unknown_format_is_refused_with_the_known_ones(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`--format` \(='plian'\) is not known \(did you mean 'plain'\?\)"):
        bundle(run, tmp_path / "b", format="plian")


def test_the_runner_is_copied_byte_for_byte_and_cannot_be_compiled(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = tmp_path / "runner"
    for path, text in (("__init__.py", ""), ("__main__.py", "from .commands import hello"), ("commands/__init__.py", "hello = 1")):
        (runner / path).parent.mkdir(parents=True, exist_ok=True)
        (runner / path).write_text(text)
    (runner / "__pycache__").mkdir()
    (runner / "__pycache__" / "x.pyc").write_bytes(b"planted")
    monkeypatch.setattr(assemble, "RUNNER", runner)
    bundle(run, tmp_path / "b")
    found = {path: content for path, content in files(tmp_path / "b").items() if path.startswith("bundle/")}
    assert sorted(found) == sorted(
        ["bundle/__init__.py", "bundle/__main__.py", "bundle/__pycache__", "bundle/commands/__init__.py", "bundle/commands/__pycache__"]
    )
    assert found["bundle/__main__.py"] == b"from .commands import hello"
    assert b"compiled code" in found["bundle/__pycache__"]


def document(name: str, content: object, **more: object) -> Any:
    """A module of `documents/`, made up."""
    return type("Document", (), {"NAME": name, "render": staticmethod(lambda run: content(run) if callable(content) else content), **more})


def test_a_document_is_one_file_and_may_know_those_before(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def several(source: Any) -> dict[str, object]:
        (source.scratch / "large").write_bytes(b"large")
        return {"w/b": b"bytes", "w/a": "é", "w/c": source.scratch / "large"}

    def listed(source: Any) -> str:
        return "\n".join(source.files)

    made = [document("first.txt", listed), document("none.txt", None), document("w", several), document("list.txt", listed, LAST=True)]
    monkeypatch.setattr(assemble, "documents", lambda: iter(made))
    bundle(run, tmp_path / "b")
    found = files(tmp_path / "b")
    assert {path: found[path] for path in ("w/a", "w/b", "w/c")} == {"w/a": "é".encode(), "w/b": b"bytes", "w/c": b"large"}
    assert "none.txt" not in found
    assert set(found["list.txt"].decode().splitlines()) == set(found) - {"list.txt", "manifest.json"}
    assert "w/a" not in found["first.txt"].decode()
    assert "report.json" in found["first.txt"].decode()


@pytest.mark.parametrize("path", ["../x", "/x", "report.json", "Report.JSON", "manifest.json", "model"])
def test_a_document_cannot_leave_or_replace_anything(path: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "documents", lambda: iter([document(path, "x")]))
    with pytest.raises(InputError, match="cannot be in a bundle"):
        bundle(run, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_documents_that_list_others_come_last() -> None:
    order = [getattr(module, "LAST", False) for module in documents.documents()]
    assert order == sorted(order)
    assert order


def test_public_names(run: Path, tmp_path: Path) -> None:
    assert opt.bundle is bundle
    report = opt.Report.load(run)
    assert Path(report.bundle(tmp_path / "b.tar.gz")).is_file()
    assert plain.NAME == "plain"
    assert tomllib.loads((run / "recipe.lock.toml").read_text())
