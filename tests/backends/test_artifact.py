from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimize.backends import int8_name
from optimize.backends.artifact import PRECISIONS, Artifact
from optimize.backends.self_test import TOLERANCES
from optimize.errors import InputError

# SHA-256 of b"abc", from FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.xml").write_bytes(b"abc")
    (folder / "model.bin").write_bytes(b"12345")
    (folder / "stray.txt").write_text("not part of it")
    files = ("model.xml", "model.bin")
    return Artifact.save(folder, target="openvino", precision="int8", input_shape=[3, 8, 8], runtime="2026.4", files=files)


def rewrite(artifact: Artifact, change: Callable[[dict[str, Any]], object]) -> None:
    path = artifact.folder / "artifact.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_read_gives_what_was_saved(artifact: Artifact) -> None:
    assert Artifact.read(artifact.folder) == artifact
    assert artifact.files[0].as_dict() == {"name": "model.xml", "sha256": ABC, "bytes": 3}
    assert artifact.main == artifact.folder / "model.xml"
    assert artifact.size_bytes == 8
    assert artifact.input_shape == (3, 8, 8)


def test_hash_is_of_the_content_and_not_of_the_place(artifact: Artifact, tmp_path: Path) -> None:
    copied = Artifact.read(shutil.copytree(artifact.folder, tmp_path / "elsewhere"))
    assert copied.sha256 == artifact.sha256
    (copied.folder / "model.bin").write_bytes(b"12346")
    files = ("model.xml", "model.bin")
    other = Artifact.save(copied.folder, target="openvino", precision="int8", input_shape=[3, 8, 8], runtime="2026.4", files=files)
    assert other.sha256 != artifact.sha256


@pytest.mark.parametrize("content", [b"abd", b"abcd", b""])
def test_altered_file_is_noticed(artifact: Artifact, content: bytes) -> None:
    artifact.main.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.xml` was altered after it was sealed \(its sha256 differs\)"):
        Artifact.read(artifact.folder)


def test_missing_file_is_named(artifact: Artifact) -> None:
    (artifact.folder / "model.bin").unlink()
    with pytest.raises(InputError, match=r"lacks its file 'model\.bin': copy the whole folder"):
        Artifact.read(artifact.folder)


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"`{tmp_path}` is no artifact: it holds no artifact.json")):
        Artifact.read(tmp_path)


@pytest.mark.parametrize("text", ["{", "", "\x00"])
def test_manifest_that_is_not_json(artifact: Artifact, text: str) -> None:
    (artifact.folder / "artifact.json").write_text(text)
    with pytest.raises(InputError, match="is not valid JSON"):
        Artifact.read(artifact.folder)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format": 2}'])
def test_manifest_of_another_format(artifact: Artifact, text: str) -> None:
    (artifact.folder / "artifact.json").write_text(text)
    with pytest.raises(InputError, match="this version reads format 1"):
        Artifact.read(artifact.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.pop("files"), r"is damaged \(KeyError"),
        (lambda manifest: manifest.update(input_shape=3), r"is damaged \(TypeError"),
        (lambda manifest: manifest.update(input_shape="12"), r"has input_shape '12', which must list whole sizes from 1"),
        (lambda manifest: manifest.update(input_shape=[]), r"has input_shape \[\], which must list whole sizes from 1"),
        (lambda manifest: manifest.update(input_shape=[3, 0, 8]), r"has input_shape \[3, 0, 8\], which must list"),
        (lambda manifest: manifest.update(input_shape=[3, True, 8]), r"has input_shape \[3, True, 8\], which must list"),
        (lambda manifest: manifest.update(input_shape=[3, 8.5]), r"has input_shape \[3, 8\.5\], which must list"),
        (lambda manifest: manifest.update(precision="int4"), r"has precision 'int4', which is none of f32, f16, bf16, int8, int8\+f32"),
        (lambda manifest: manifest.update(precision="f32+weird"), r"has precision 'f32\+weird', which is none of"),
        (lambda manifest: manifest.update(files=[3]), r"is damaged \(TypeError"),
        (lambda manifest: manifest.update(files=[]), "must name at least one file, by plain names"),
        (lambda manifest: manifest["files"][0].update(name="../model.xml"), "by plain names inside its folder"),
        (lambda manifest: manifest["files"][0].update(name="/etc/passwd"), "by plain names inside its folder"),
        (lambda manifest: manifest["files"][0].update(name="..\\model.xml"), "by plain names inside its folder"),
    ],
)
def test_damaged_manifest(artifact: Artifact, change: Callable[[dict[str, Any]], object], message: str) -> None:
    rewrite(artifact, change)
    with pytest.raises(InputError, match=message) as refused:
        Artifact.read(artifact.folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", [(), ("head",)])
@pytest.mark.parametrize("rest", TOLERANCES.keys() - {"int8"})
def test_every_precision_that_is_made_is_read_and_has_tolerances(artifact: Artifact, keep: tuple[str, ...], rest: str) -> None:
    for precision in (rest, int8_name(keep, rest)):
        rewrite(artifact, lambda manifest, named=precision: manifest.update(precision=named))
        assert Artifact.read(artifact.folder).precision == precision
    assert {*PRECISIONS} == {*TOLERANCES}
