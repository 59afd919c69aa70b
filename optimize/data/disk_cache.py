"""The folder in which decoded images are kept from run to run: its place, who may read it, and how large it may become.

Images of a study may be patients', so only the user may read the folder. `OPTIMIZE_IMAGE_CACHE` names another folder, or is "off". The
least recently used files are removed to make room. A file that another run still reads may be removed too: that run decodes again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from optimize.files import cache_folder

VARIABLE = "OPTIMIZE_IMAGE_CACHE"
MAX_BYTES = 64 * 2**30
"""Most bytes of all files in the folder."""
SHARE_OF_FREE = 0.5
"""Share of the free space of the disk that is used at most."""


def image_cache_folder() -> Path | None:
    """Return the folder of decoded images, made where it is missing; None where it is switched off or cannot be made."""
    named = os.environ.get(VARIABLE, "")
    if named.lower() == "off":
        return None
    folder = Path(named) if named else cache_folder("images")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def has_room(folder: Path, size: int, keep: Iterable[Path] = ()) -> bool:
    """Return whether files of `size` bytes may be added to the folder, after removing the least recently used ones if necessary.

    Args:
        folder: folder of decoded images.
        size: bytes to be added.
        keep: files that are not removed.
    """
    stays = set(keep)
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # removed by another run in this moment
            status = path.stat()
            # blocks, because a file that is not filled yet has holes
            entries.append((status.st_mtime_ns, status.st_blocks * 512, path))
    used = sum(taken for _, taken, _ in entries)
    allowed = min(MAX_BYTES, used + int(SHARE_OF_FREE * shutil.disk_usage(folder).free))
    if size > allowed:
        return False
    for _, taken, path in sorted(entries):
        if used + size <= allowed:
            break
        if path not in stays:
            path.unlink(missing_ok=True)
            used -= taken
    return used + size <= allowed


def state_of(path: str | Path) -> str:
    """Return what changes when a file is replaced or written: its absolute path, inode, size, and times of change to the nanosecond.

    The time of the inode's change cannot be set back, as that of the content can; so the same state means the same content, as in git.

    Raises:
        OSError: when the file cannot be looked at.
    """
    status = os.stat(path)
    return f"{os.path.abspath(path)}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def key_of(parts: Iterable[str]) -> str:
    """Return a name for a file that depends on all the texts and on their order, 32 letters."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:32]
