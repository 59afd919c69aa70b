"""The archive: members as GNU and pax readers see them, and the same bytes whatever the machine, the user and the time are."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest

from optimize.deploy.bundle.archive import is_archive_name, write_archive

LONG = "wheels/" + "a" * 120 + ".whl"


def folder(path: Path) -> Path:
    for name, content in (("b.txt", b"bb"), ("a/x", b"x" * 1000), ("a.txt", b""), (LONG, b"wheel")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "empty").mkdir()
    return path


def test_members_have_nothing_of_this_machine(tmp_path: Path) -> None:
    write_archive(folder(tmp_path / "f"), tmp_path / "f.tar.gz", "cells-openvino")
    with tarfile.open(tmp_path / "f.tar.gz") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [
            *("cells-openvino", "cells-openvino/a", "cells-openvino/a.txt", "cells-openvino/a/x", "cells-openvino/b.txt"),
            *("cells-openvino/empty", "cells-openvino/wheels", f"cells-openvino/{LONG}"),
        ]
        assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, 0, "", "")}
        assert {(member.isfile(), member.mode) for member in members} == {(True, 0o644), (False, 0o755)}
        content = archive.extractfile("cells-openvino/a/x")
        assert content is not None
        assert content.read() == b"x" * 1000


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "one"), folder(tmp_path / "two")
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() else 0o600)
    write_archive(first, tmp_path / "a.tar.gz", "top")
    write_archive(second, tmp_path / "other name.tar.gz", "top")
    content = (tmp_path / "a.tar.gz").read_bytes()
    assert content == (tmp_path / "other name.tar.gz").read_bytes()
    # RFC 1952: no flags, so neither a name nor a comment, and time 0
    assert content[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    assert len(gzip.decompress(content)) % 10240 == 0


def test_without_a_folder_files_are_at_the_top(tmp_path: Path) -> None:
    write_archive(folder(tmp_path / "f"), tmp_path / "f.tar.gz")
    with tarfile.open(tmp_path / "f.tar.gz") as archive:
        assert archive.getnames()[0] == "a"


@pytest.mark.parametrize(("name", "archive"), [("a.tar.gz", True), ("A.TGZ", True), ("a.tar", False), ("tar.gz", False), ("a", False)])
def test_names_of_archives(name: str, archive: bool) -> None:
    assert is_archive_name(Path("x") / name) is archive
