from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from optimize.files import cache_folder, sha256, sha256_of, write_all_atomically, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_written(draft: Path) -> None:
    """A writer that fails in the middle."""
    draft.write_bytes(b"half")
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x00\r\n", b"\x00\r\n"),
        ("ä\nb\r\n", "ä\nb\r\n".encode()),
        (lambda draft: draft.write_bytes(b"by a function"), b"by a function"),
    ],
    ids=["bytes", "text", "function"],
)
def test_what_is_given_is_written_byte_for_byte(content: object, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old, and longer than what replaces it")
    write_atomically(tmp_path / "file", content)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_bytes() == expected
    assert names(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "file", half_written)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_several_files_are_replaced_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        write_all_atomically({tmp_path / "first": b"new", tmp_path / "second": half_written, tmp_path / "third": b"new"})
    assert (tmp_path / "first").read_bytes() == b"old"
    assert names(tmp_path) == ["first"]
    write_all_atomically({tmp_path / "first": b"new", tmp_path / "second": "new"})
    assert [(tmp_path / name).read_bytes() for name in ("first", "second")] == [b"new", b"new"]
    assert names(tmp_path) == ["first", "second"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    seen = []

    def slowly(draft: Path) -> None:
        draft.write_bytes(b"ne")
        seen.append((tmp_path / "file").read_bytes())
        draft.write_bytes(b"new")

    (tmp_path / "file").write_bytes(b"old")
    write_atomically(tmp_path / "file", slowly)
    assert seen == [b"old"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", b"x")
    assert names(tmp_path) == []


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    with (tmp_path / "file").open("rb") as stream:
        stream.seek(10)
        assert sha256_of(stream) == hashlib.sha256(content[10:]).hexdigest()


@pytest.mark.parametrize(("named", "expected"), [("/somewhere", "/somewhere"), ("relative", "~/.cache"), (None, "~/.cache")])
def test_where_figures_of_the_machine_are_kept(named: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", named or "")
    if named is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("peaks") == Path(expected).expanduser() / "optimize" / "peaks"
