"""Extract an archive from outside: the whole of it appears, or nothing does.

The archive may be made by an attacker. What a bundle never holds is refused, whatever it would do: links, devices, pipes, sparse files,
paths that leave the folder or clash on another system, the same file twice. Sizes are counted while they are read, so nothing
that the archive says about itself is believed, and a bomb ends at the limit:

    a few kilobytes of gzip -> 10 GB of zeros         refused after `max_bytes`
    a header that announces a name of 8 GB            refused: names have at most `MAX_HEADER_BYTES`
    ten million empty files                           refused after `max_entries`

The headers are read here, block by block, since the module tarfile reads whatever a header announces into memory. Format: POSIX.1-2017,
pax, "ustar Interchange Format"; names also in the form of GNU tar.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from optimize.deploy.bundle.bundle_paths import PathSet
from optimize.errors import InputError

BLOCK = 512
CHUNK = 2**20
MAX_HEADER_BYTES = 2**16
"""Longest extended header, in bytes; it holds a path."""
_EXTENDED, _GNU_NAME = b"x", b"L"
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True)
class ExtractionLimits:
    """How large an archive may be when it is unpacked.

    Args:
        max_entries: most files and folders.
        max_bytes: most bytes of the whole, unpacked.
        max_ratio: most unpacked bytes for each byte of the archive. Weights of a network become hardly smaller; a bomb has 1000.
        free_bytes: number of unpacked bytes up to which the ratio does not count.
    """

    max_entries: int = 10_000
    max_bytes: int = 64 * 2**30
    max_ratio: int = 100
    free_bytes: int = 2**28

    def allowed(self, packed: int) -> int:
        """Return the most unpacked bytes of an archive of `packed` bytes."""
        return min(self.max_bytes, max(self.free_bytes, self.max_ratio * packed))


def extract(archive: Path, out: Path, limits: ExtractionLimits | None = None) -> Path:
    """Extract a .tar.gz into a new folder.

    Where everything in the archive lies in one folder, `out` becomes that folder.

    Args:
        archive: file of the archive.
        out: folder to make; it must not exist, and the folder that holds it must.
        limits: the sizes that are allowed; None for the defaults.

    Returns:
        `out`.

    Raises:
        InputError: when the archive is damaged, holds what no bundle holds, or is too large; nothing is left of it then.
    """
    if os.path.lexists(out):
        raise InputError(f"`{out}` exists already: name a folder that does not.")
    # beside the target, so that the last step is one rename
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        content = scratch / "content"
        content.mkdir()
        _unpack(archive, content, limits or ExtractionLimits())
        inside = list(content.iterdir())
        # a bundle itself has several files at its top, so a lone folder is the one that the archive was packed with
        whole = inside[0] if len(inside) == 1 and inside[0].is_dir() else content
        os.rename(whole, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return out


def _unpack(archive: Path, folder: Path, limits: ExtractionLimits) -> None:
    try:
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
            stream = _Counted(unpacked, limits.allowed(archive.stat().st_size))
            paths = PathSet()
            for count, entry in enumerate(_entries(stream), start=1):
                if count > limits.max_entries:
                    raise _Refused(f"it has more than {limits.max_entries} files and folders")
                if fault := paths.add(entry.path, folder=entry.size is None):
                    raise _Refused(f"{entry.path[:200]!a}: {fault}")
                _write(stream, folder.joinpath(*entry.path.split("/")), entry.size)
    except _Refused as refused:
        raise InputError(f"`{archive}` is not extracted ({refused}): take the archive as `optimize bundle` made it.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.HeaderError, UnicodeError) as problem:
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise InputError(f"`{archive}` is damaged, or no .tar.gz ({reason}): copy it again.") from None
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"`{archive}` holds two files that are one on this system: extract it on the system where it was made.") from None
    except IsADirectoryError:
        raise InputError(f"`{archive}` is a folder, not an archive: give the .tar.gz.") from None
    except FileNotFoundError:
        raise InputError(f"`{archive}` does not exist: check the path.") from None


class _Refused(Exception):
    """Why the archive is refused."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted:
    """A stream that ends with `_Refused` when more bytes are read from it than allowed."""

    def __init__(self, stream: _Readable, allowed: int) -> None:
        self._stream, self._allowed, self._left = stream, allowed, allowed

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, which must be few; fewer only at the end of the stream."""
        parts = bytearray()
        while len(parts) < size and (part := self._stream.read(size - len(parts))):
            parts += part
        self._left -= len(parts)
        if self._left < 0:
            raise _Refused(f"unpacked it has more than {self._allowed} bytes, which is more than its size allows")
        return bytes(parts)

    def read_whole(self, size: int) -> bytes:
        """Return exactly `size` bytes; `EOFError` where the stream ends before."""
        content = self.read(size)
        if len(content) < size:
            raise EOFError("it ends too early")
        return content


class _Entry(NamedTuple):
    path: str
    size: int | None


def _entries(stream: _Counted) -> Iterator[_Entry]:
    """Yield each file and folder; the caller reads the content of a file before it asks for the next."""
    said: dict[str, str] = {}
    while any(block := stream.read_whole(BLOCK)):
        header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        kind = header.type
        if kind in (_EXTENDED, _GNU_NAME):
            if said.keys() & _named_by(kind):
                raise _Refused("it has two headers for one file")
            content = _padded(stream, _header_size(header))
            said |= _records(content) if kind == _EXTENDED else {"path": content.rstrip(b"\0").decode()}
            continue
        if kind not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            raise _Refused(f"{header.name[:200]!a} is {_KINDS.get(kind, f'of an unknown kind ({kind!r})')}, which no bundle holds")
        folder = kind == tarfile.DIRTYPE or (kind == tarfile.AREGTYPE and header.name.endswith("/"))
        size = int(said["size"]) if "size" in said else header.size
        if size < 0 or (folder and size):
            raise _Refused(f"{header.name[:200]!a} has an impossible size ({size})")
        path = said.get("path", header.name)
        path = path.removesuffix("/") if folder else path
        said = {}
        # `tar czf x.tar.gz .` names everything from the folder itself
        path = path.removeprefix("./")
        if not (folder and path in (".", "")):
            yield _Entry(path, None if folder else size)
    _require_empty_rest(stream)


def _named_by(kind: bytes) -> set[str]:
    return {"path"} if kind == _GNU_NAME else {"path", "size"}


def _header_size(header: tarfile.TarInfo) -> int:
    if not 0 < header.size <= MAX_HEADER_BYTES:
        raise _Refused(f"it has a header of {header.size} bytes")
    return header.size


def _records(content: bytes) -> dict[str, str]:
    """Return the path and the size in an extended header, which has lines such as "27 path=model/model.onnx"."""
    found: dict[str, str] = {}
    while content:
        length, _, _ = content.partition(b" ")
        # the number counts the whole line, its own digits and the line feed included
        if not length.isdigit() or len(length) > 6 or not len(length) + 3 <= int(length) <= len(content):
            raise _Refused("it has a damaged header")
        line, content = content[len(length) + 1 : int(length)], content[int(length) :]
        name, equals, value = line.decode().removesuffix("\n").partition("=")
        if not equals or not line.endswith(b"\n") or name in found:
            raise _Refused("it has a damaged header")
        # a sparse file, or the target of a link, as an extension that other readers would obey
        if name.startswith("GNU.sparse.") or name == "linkpath":
            raise _Refused(f"it has a header that no bundle has ({name})")
        if name == "size" and not (value.isascii() and value.isdigit() and len(value) < 20):
            raise _Refused("it has a damaged header")
        found[name] = value
    return {name: value for name, value in found.items() if name in ("path", "size")}


def _padded(stream: _Counted, size: int) -> bytes:
    """Return `size` bytes, and pass over the rest of the last block."""
    return stream.read_whole(size + -size % BLOCK)[:size]


def _write(stream: _Counted, path: Path, size: int | None) -> None:
    """Write a file from the stream, or make a folder where there is no size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if size is None:
        path.mkdir(exist_ok=True)
        return
    # "x": should two paths be one file here in a way that `PathSet` does not know, the second is an error and not a silent change
    with path.open("xb") as file:
        _copy(stream, file, size)


def _copy(stream: _Counted, file: BinaryIO, size: int) -> None:
    left = size
    while left:
        part = stream.read_whole(min(CHUNK, left))
        file.write(part)
        left -= len(part)
    stream.read_whole(-size % BLOCK)


def _require_empty_rest(stream: _Counted) -> None:
    """Read to the end, where gzip compares its check sum; nothing may follow the end of the archive but zeros."""
    while part := stream.read(CHUNK):
        if any(part):
            raise _Refused("something follows its end")
