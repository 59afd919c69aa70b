"""Extraction of archives made by hand, one for each attack: every one is refused, and nothing of it is left."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optimize.deploy.bundle.archive import write_archive
from optimize.deploy.bundle.extraction import ExtractionLimits, extract
from optimize.errors import InputError


def file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry, content


def other(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for entry, content in members:
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def block(name: str, size: int, kind: bytes) -> bytes:
    """One header alone, whatever it promises."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def pax(*lines: bytes) -> bytes:
    content = b"".join(lines)
    return block("././@PaxHeader", len(content), b"x") + content + bytes(-len(content) % 512)


END = bytes(1024)
GOOD = (file("top/a", b"a"), file("top/b/c", b"c" * 2000))

ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute": (lambda: tar(file("/etc/passwd")), "absolute"),
    "parent": (lambda: tar(file("../x")), "leaves the folder"),
    "parent within": (lambda: tar(file("a/../../x")), "leaves the folder"),
    "parent as a folder": (lambda: tar(other("..", tarfile.DIRTYPE)), "leaves the folder"),
    "parent in a pax header": (lambda: pax(b"13 path=../x\n") + tar(file("a")), "leaves the folder"),
    "parent in a GNU name": (lambda: block("././@LongLink", 5, b"L") + b"../x\0" + bytes(507) + tar(file("a")), "leaves the folder"),
    "backslash": (lambda: tar(file("..\\x")), "character"),
    "drive": (lambda: tar(file("C:x")), "character"),
    "device of Windows": (lambda: tar(file("a/aux.txt")), "Windows"),
    "zero in a name": (lambda: pax(b"14 path=a\0bcd\n") + tar(file("a")), "character"),
    "not in normal form": (lambda: tar(file("a//b")), "normal form"),
    "symbolic link": (lambda: tar(other("a", tarfile.SYMTYPE, "/etc"), file("a/x")), "symbolic link"),
    "hard link": (lambda: tar(file("b"), other("a", tarfile.LNKTYPE, "b")), "hard link"),
    "device": (lambda: tar(other("a", tarfile.CHRTYPE)), "device"),
    "block device": (lambda: tar(other("a", tarfile.BLKTYPE)), "device"),
    "pipe": (lambda: tar(other("a", tarfile.FIFOTYPE)), "pipe"),
    "sparse": (lambda: block("a", 0, b"S") + END, "sparse"),
    "sparse in a pax header": (lambda: pax(b"22 GNU.sparse.major=1\n") + tar(file("a")), "GNU.sparse"),
    "global header": (lambda: block("g", 0, b"g") + END, "unknown kind"),
    "unknown": (lambda: block("a", 0, b"Z") + END, "unknown kind"),
    "twice": (lambda: tar(file("a"), file("a")), "twice"),
    "capitals": (lambda: tar(file("README"), file("readme")), "capitals"),
    "capitals of folders": (lambda: tar(file("A/x"), file("a/y")), "capitals"),
    "file and folder": (lambda: tar(file("a"), file("a/b")), "both a file and a folder"),
    "folder with content": (lambda: block("a/", 512, b"5") + bytes(512) + END, "impossible size"),
    "two headers": (lambda: pax(b"10 path=b\n") + pax(b"10 path=c\n") + tar(file("a")), "two headers"),
    "huge header": (lambda: block("././@PaxHeader", 2**33 - 1, b"x") + END, "header of 8589934591 bytes"),
    "huge GNU name": (lambda: block("././@LongLink", 2**20, b"L") + bytes(2**20), "header of 1048576 bytes"),
    "header without a length": (lambda: pax(b"path=b\n") + tar(file("a")), "damaged header"),
    "header that is too short": (lambda: pax(b"99 path=b\n") + tar(file("a")), "damaged header"),
    "size that is no number": (lambda: pax(b"11 size=-1\n") + tar(file("a")), "damaged header"),
    "size beyond the archive": (lambda: pax(b"19 size=9999999999\n") + tar(file("a")), "more than 2000000 bytes|ends too early"),
    "something behind": (lambda: tar(file("a")) + b"more" * 512, "follows its end"),
    "cut": (lambda: tar(*GOOD)[:1500], "ends too early"),
    "no end": (lambda: tar(file("a"))[:1024], "ends too early"),
    "not a tar": (lambda: b"hello" * 1000, "damaged"),
    "checksum": (lambda: tar(file("a")).replace(b"ustar", b"ustaR", 1), "damaged"),
    "empty": (lambda: b"", "ends too early"),
    "deep": (lambda: tar(file("/".join("a" * 20))), "deeper"),
    "too many": (lambda: tar(*(file(str(number), b"") for number in range(60))), "more than 50 files"),
    "too many folders": (lambda: tar(*(other(str(number), tarfile.DIRTYPE) for number in range(60))), "more than 50 files"),
    "too large": (lambda: tar(*(file(str(number), bytes(300_000)) for number in range(20))), "more than 2000000 bytes"),
    "bomb in the padding": (lambda: tar(file("a")) + bytes(10**7), "more than 2000000 bytes"),
}
LIMITS = ExtractionLimits(max_entries=50, max_bytes=2_000_000)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A folder that must hold nothing but the archive at the end; the folder above it must be as it was, too."""
    folder = tmp_path / "here"
    folder.mkdir()
    yield folder
    assert [path.name for path in folder.iterdir()] == ["x.tar.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_and_leave_nothing(name: str, here: Path) -> None:
    content, reason = ATTACKS[name]
    (here / "x.tar.gz").write_bytes(gzip.compress(content(), 1))
    with pytest.raises(InputError, match=reason) as refused:
        extract(here / "x.tar.gz", here / "out", LIMITS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"PK\x03\x04", gzip.compress(tar(*GOOD))[:-9], gzip.compress(tar(*GOOD))[:-5] + b"12345"]
)
def test_damaged_gzip_is_refused(content: bytes, here: Path) -> None:
    (here / "x.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged, or no \.tar\.gz"):
        extract(here / "x.tar.gz", here / "out")


def test_a_bomb_ends_at_the_ratio(here: Path) -> None:
    (here / "x.tar.gz").write_bytes(gzip.compress(tar(file("a", bytes(5_000_000)))))
    limits = ExtractionLimits(free_bytes=10_000, max_ratio=100)
    assert (here / "x.tar.gz").stat().st_size * 100 < 1_000_000
    with pytest.raises(InputError, match="more than its size allows"):
        extract(here / "x.tar.gz", here / "out", limits)


def test_a_bomb_is_not_read_to_its_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte announced and delivered; no more than the limit and one part of it is unpacked."""
    unpacked = 0

    class Endless(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal unpacked
            part = super().read(size) or bytes(size or 0)
            unpacked += len(part)
            return part

    monkeypatch.setattr("optimize.deploy.bundle.extraction.gzip.GzipFile", Endless)
    (here / "x.tar.gz").write_bytes(gzip.compress(block("a", 2**30, b"0")))
    with pytest.raises(InputError, match="more than 3000000 bytes"):
        extract(here / "x.tar.gz", here / "out", ExtractionLimits(max_bytes=3_000_000))
    assert unpacked < 3_000_000 + 2**20


def test_whole_archives_become_folders(tmp_path: Path) -> None:
    wanted = {"a": b"a", "b/c": b"c" * 2000}
    for name, content in (
        ("one folder", tar(*GOOD)),
        ("GNU", tar(*GOOD, form=tarfile.GNU_FORMAT)),
        ("ustar", tar(*GOOD, form=tarfile.USTAR_FORMAT)),
        ("at the top", tar(file("a", b"a"), file("b/c", b"c" * 2000))),
        (
            "of the folder itself",
            tar(other("./", tarfile.DIRTYPE), file("./a", b"a"), other("./b/", tarfile.DIRTYPE), file("./b/c", b"c" * 2000)),
        ),
        ("with times in pax headers", pax(b"20 mtime=1.23456789\n") + tar(*GOOD)),
    ):
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(content))
        out = extract(tmp_path / "x.tar.gz", tmp_path / name)
        assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} == wanted


def test_long_names_come_back(tmp_path: Path) -> None:
    long = "wheels/" + "a" * 200
    for number, form in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(tar(file(long), file("é" * 60), form=form)))
        out = extract(tmp_path / "x.tar.gz", tmp_path / str(number))
        assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == sorted([long, "é" * 60])


def test_what_was_written_is_what_comes_back(tmp_path: Path) -> None:
    source = tmp_path / "f"
    for name, content in (("a/b/c", bytes(range(256)) * 5000), ("d", b"")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    write_archive(source, tmp_path / "f.tar.gz", "top")
    out = extract(tmp_path / "f.tar.gz", tmp_path / "out")
    assert (out / "a/b/c").read_bytes() == bytes(range(256)) * 5000
    assert (out / "d").read_bytes() == b""


def test_an_archive_of_tar_comes_out_as_well(tmp_path: Path) -> None:
    if not shutil.which("tar"):
        pytest.skip("there is no tar")
    (tmp_path / "f" / "b").mkdir(parents=True)
    (tmp_path / "f" / "a").write_text("a")
    (tmp_path / "f" / "b" / ("x" * 150)).write_text("x")
    subprocess.run(["tar", "czf", tmp_path / "x.tar.gz", "-C", tmp_path / "f", "."], check=True)
    out = extract(tmp_path / "x.tar.gz", tmp_path / "out")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == ["a", "b", f"b/{'x' * 150}"]


def test_wrong_calls(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        extract(tmp_path / "x.tar.gz", tmp_path / "there")
    with pytest.raises(InputError, match="does not exist"):
        extract(tmp_path / "x.tar.gz", tmp_path / "out")
    with pytest.raises(InputError, match="is a folder"):
        extract(tmp_path / "there", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
