"""What a folder holds, told without following a link; a list of files that it must hold."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from optimize.backends.artifact import ArtifactFile
from optimize.errors import InputError
from optimize.run.verification.folder_contents import contents, digest, listed, plain, require


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "model").mkdir(parents=True)
    (home / "model" / "a.bin").write_bytes(b"abc")
    (home / "b.txt").write_bytes(b"")
    return home


def expected(folder: Path) -> dict[str, ArtifactFile]:
    return {file.name: file for file in listed({path: folder / path for path in contents(folder).files})}


def test_files_are_listed_by_their_paths_and_hashed(folder: Path) -> None:
    files = expected(folder)
    assert files["model/a.bin"] == ArtifactFile("model/a.bin", hashlib.sha256(b"abc").hexdigest(), 3)
    assert list(files) == ["b.txt", "model/a.bin"]
    found = contents(folder)
    assert (found.files, found.folders, dict(found.strange)) == (("b.txt", "model/a.bin"), ("model",), {})
    assert found.beside(files) == ()
    require(folder, files, found)


def test_what_is_beside_a_list_is_told(folder: Path) -> None:
    files = expected(folder)
    (folder / "model" / "sub").mkdir()
    (folder / ".hidden").write_text("")
    (folder / "link").symlink_to("/")
    os.mkfifo(folder / "pipe")
    found = contents(folder)
    assert found.beside(files) == (".hidden", "link", "model/sub", "pipe")
    assert dict(found.strange) == {"link": "a symbolic link", "pipe": "neither a file nor a folder"}


def test_depth_has_an_end(folder: Path) -> None:
    (folder / "/".join("abcdefgh")).mkdir(parents=True)
    assert contents(folder).strange == {"a/b/c/d/…": "nested too deeply"}


@pytest.mark.parametrize("kind", ["gone", "longer", "other", "folder", "link", "broken link", "pipe"])
def test_a_file_that_is_not_the_listed_one_is_named(kind: str, folder: Path, tmp_path: Path) -> None:
    files, path = expected(folder), folder / "model" / "a.bin"
    (tmp_path / "same").write_bytes(b"abc")
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind.endswith("link"):
        path.symlink_to(tmp_path / ("same" if kind == "link" else "none"))
    elif kind != "gone":
        path.write_bytes({"longer": b"abcd", "other": b"abd"}[kind])
    told = {
        "gone": "is missing",
        "longer": "it has 4 bytes, not 3",
        "other": "its sha256 differs",
        "folder": "is a folder",
        "pipe": "is neither a file nor a folder",
    }.get(kind, "is a symbolic link")
    with pytest.raises(InputError, match=rf"its file model/a\.bin is.*{told.removeprefix('is ')}"):
        require(folder, files, contents(folder))


def test_a_path_that_leads_out_is_a_file_that_is_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"abc")
    file = expected(folder)["model/a.bin"]
    for path in ("../out", str(tmp_path / "out"), "model/../model/a.bin", "MODEL/a.bin"):
        with pytest.raises(InputError, match="is missing"):
            require(folder, {path: replace(file, name=path)}, contents(folder))


def test_what_became_a_link_meanwhile_is_not_followed(folder: Path, tmp_path: Path) -> None:
    found, files = contents(folder), expected(folder)
    (tmp_path / "same").write_bytes(b"abc")
    (folder / "model" / "a.bin").unlink()
    (folder / "model" / "a.bin").symlink_to(tmp_path / "same")
    with pytest.raises(InputError):
        require(folder, files, found)
    with pytest.raises(InputError, match="cannot be opened"):
        digest(folder / "model" / "a.bin")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no regular file"):
        digest(tmp_path / "pipe")


def test_a_name_takes_one_line() -> None:
    assert plain("model/a.bin") == "model/a.bin"
    assert plain("a\nb\udcff") == "'a\\nb\\udcff'"
