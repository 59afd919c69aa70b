"""Keep freed memory with the process, for the next tensor of that size.

glibc hands a large block back to the kernel as soon as it is freed, and the next one is cleared page by page: in repair, which makes and
drops activations of many megabytes for every operation, that can cost as much as the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
NEVER = -1
AHEAD_BYTES = 64 << 20


def retain_freed_memory() -> bool:
    """Have malloc keep freed memory in this process from now on; false where the C library is not glibc, which has the setting."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # No block by mmap, which is returned at once when freed; never trim the heap; and grow it 64 MiB at a time.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, NEVER), (_TOP_PAD, AHEAD_BYTES))
    return mallopt is not None and all([mallopt(key, value) == 1 for key, value in settings])
