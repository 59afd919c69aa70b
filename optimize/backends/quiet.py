"""Silence for libraries that print and log their progress; what goes wrong in them is raised, and that still gets out."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Drop what is printed, and what is logged to `logger` and below it; "" is the root logger.

    The whole process is silent while the block runs, so it should hold one call into the library.
    """
    log = logging.getLogger(logger)
    level, handler = log.level, logging.NullHandler()
    log.setLevel(logging.CRITICAL + 1)
    # A root logger without a handler gets one at the first `logging.warning`, and keeps it.
    log.addHandler(handler)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
