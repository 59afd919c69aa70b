"""One run at a time in a folder: the second one is told so, in place of writing into the first one's files.

The lock is on the folder itself (flock), so it leaves no file, and the system gives it back when the process ends, however it ends.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from pathlib import Path

from optimize.errors import InputError


class FolderLock:
    """A lock on a folder, held until `release` or the end of the process.

    Args:
        folder: a folder that exists.

    Raises:
        InputError: when another run holds it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lock = FolderLock(Path(folder))
        ...     lock.release()
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # Windows has no such lock
            return
        descriptor = os.open(folder, os.O_RDONLY)
        # also where nobody releases it, as when a run ends with an error
        self._give_back = weakref.finalize(self, _close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise InputError(
                f"`--out` (={folder}) is the folder of a run that is still going on: wait for it, or name another one."
            ) from None
        except OSError:  # a file system without locks
            self.release()

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if hasattr(self, "_give_back"):
            self._give_back()


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
