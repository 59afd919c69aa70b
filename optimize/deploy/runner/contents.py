"""The files of a bundle as they lie on disk: exactly those that the manifest lists, each with its hash.

What the runtime will open is kept in memory as it was hashed. A file that is replaced after its check therefore changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from .errors import Refused

_BLOCK = 1 << 20
# not every system knows all of them
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def read_file(root: Path, path: str, limit: int) -> bytes:
    """Return the bytes of a plain file of the bundle.

    Args:
        root: folder of the bundle.
        path: path in the bundle, with slashes.
        limit: largest number of bytes that is read.

    Raises:
        Refused: when it is missing, a link or no plain file, or is larger.
    """
    with os.fdopen(_open(root, path), "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise Refused(f"`{path}` is larger than {limit} bytes, which no such file is: copy the bundle again.")
    return content


def require_exactly(root: Path, listed: Collection[str]) -> None:
    """Check that a folder holds these files and nothing else: no other file, no empty folder, no link, no device.

    Args:
        root: folder of the bundle.
        listed: paths of its files, with slashes.

    Raises:
        Refused: naming the first path that is too much, of another kind, or missing.
    """
    folders = {str(parent) for path in listed for parent in Path(path).parents} - {"."}
    left = set(listed)
    for path, mode in _walk(root, ""):
        if stat.S_ISDIR(mode) and path in folders:
            continue
        if stat.S_ISREG(mode) and path in left:
            left.remove(path)
            continue
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "a device"
        raise Refused(f"the bundle holds {kind} {path[:200]!a} that its manifest does not list: take it out, or copy the bundle again.")
    if left:
        raise Refused(f"the bundle lacks its file {min(left)[:200]!a}: copy the whole bundle again.")


def read_checked(root: Path, files: Mapping[str, tuple[str, int]], keep: Collection[str]) -> dict[str, bytes]:
    """Hash every file of a bundle and return the bytes of some, as they were hashed.

    Args:
        root: folder of the bundle.
        files: path -> SHA-256 and number of bytes, as the manifest says.
        keep: paths whose bytes are returned.

    Raises:
        Refused: naming the first file whose size or hash differs.
    """
    kept = {}
    for path, (sha256, size) in files.items():
        digest, parts, found = hashlib.sha256(), [], 0
        with os.fdopen(_open(root, path), "rb") as stream:
            # one byte more than it should have is enough to see that it has too many
            while found <= size and (block := stream.read(min(_BLOCK, size + 1 - found))):
                digest.update(block)
                found += len(block)
                if path in keep:
                    parts.append(block)
        if found != size or digest.hexdigest() != sha256:
            what = "its size differs" if found != size else "its sha256 differs"
            raise Refused(f"`{path}` was altered after the bundle was made ({what}): copy the bundle again.")
        if path in keep:
            kept[path] = b"".join(parts)
    return kept


def _open(root: Path, path: str) -> int:
    """Return a descriptor of a plain file; a link is not followed, and a pipe is not waited for."""
    try:
        descriptor = os.open(root / path, _FLAGS)
    except OSError as problem:
        raise Refused(f"`{path}` cannot be read ({problem.strerror}): copy the whole bundle again.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"`{path}` is no plain file: copy the bundle again.")
    return descriptor


def _walk(root: Path, inside: str) -> Iterator[tuple[str, int]]:
    """Yield the path and mode of everything in a folder, a folder before what lies in it; links are not followed."""
    try:
        entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name)
    except OSError as problem:
        raise Refused(f"folder `{root / inside}` cannot be read ({problem.strerror}): copy the whole bundle again.") from None
    for entry in entries:
        path = f"{inside}/{entry.name}" if inside else entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        # whoever asks has refused a folder that is not listed before it is opened, so that a planted tree of any depth is never walked
        yield path, mode
        if stat.S_ISDIR(mode):
            yield from _walk(root, path)
