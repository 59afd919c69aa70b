"""One layer of a container image: a tar archive, packed with gzip, that has the same bytes each time.

    diff_id    SHA-256 of the tar archive: what the image's configuration names
    digest     SHA-256 of the packed file: what the image's manifest names, and how the file is called in the layout

Entries are sorted, belong to user and group 0, and have the time 0. A file can be read by everyone and written by nobody but root.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN, EXECUTABLE = 0o644, 0o755


@dataclass(frozen=True)
class Member:
    """One file of a layer.

    Args:
        source: its bytes, or a file that holds them.
        mode: permissions, such as `PLAIN`.
    """

    source: bytes | Path
    mode: int = PLAIN


@dataclass(frozen=True)
class Layer:
    """A layer that was written.

    Args:
        digest: SHA-256 of the packed file, as "sha256:…".
        size_bytes: number of bytes of the packed file.
        diff_id: SHA-256 of the unpacked archive, as "sha256:…".
    """

    digest: str
    size_bytes: int
    diff_id: str

    @property
    def descriptor(self) -> dict[str, Any]:
        """What a manifest says about it."""
        return {"mediaType": MEDIA_TYPE, "digest": self.digest, "size": self.size_bytes}


class _Hashed:
    """A stream that hashes and counts what is written into another one."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self.stream, self.hash, self.size_bytes = stream, hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self.hash.update(block)
        self.size_bytes += len(block)
        return self.stream.write(block)

    def flush(self) -> None:
        self.stream.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self.hash.hexdigest()}"


def members_of(folder: Path, prefix: str) -> dict[str, Member]:
    """Return path in the image -> file, for every file of a folder.

    Args:
        folder: folder to read.
        prefix: path in the image at which the folder is to lie, such as "opt/bundle".
    """
    return {f"{prefix}/{path.relative_to(folder).as_posix()}": Member(path) for path in folder.rglob("*") if path.is_file()}


def write_layer(members: Mapping[str, Member], blobs: Path) -> Layer:
    """Write a layer into a folder of blobs, under the name of its hash.

    Args:
        members: path in the image, relative and with slashes -> file.
        blobs: existing folder.
    """
    draft = blobs / "layer.draft"
    with draft.open("wb") as file:
        packed = _Hashed(file)
        # of a stream both packers only use `write`; their annotations ask for a whole file
        as_file: Any = packed
        # neither a name nor a time in gzip's header
        with gzip.GzipFile(filename="", mode="wb", fileobj=as_file, mtime=0) as stream:
            unpacked = _Hashed(stream)
            as_file = unpacked
            with tarfile.open(mode="w|", fileobj=as_file, format=tarfile.PAX_FORMAT) as archive:
                _fill(archive, members)
    os.replace(draft, blobs / packed.hash.hexdigest())
    return Layer(packed.digest, packed.size_bytes, unpacked.digest)


def _fill(archive: tarfile.TarFile, members: Mapping[str, Member]) -> None:
    folders = {str(parent) for path in members for parent in Path(path).parents} - {"."}
    # a folder is a prefix of its files, so in sorted order it comes before them
    for path in sorted(folders | set(members)):
        entry = tarfile.TarInfo(path)
        if path in folders:
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
            continue
        member = members[path]
        entry.mode = member.mode
        if isinstance(member.source, bytes):
            entry.size = len(member.source)
            archive.addfile(entry, io.BytesIO(member.source))
        else:
            entry.size = member.source.stat().st_size
            with member.source.open("rb") as stream:
                archive.addfile(entry, stream)
