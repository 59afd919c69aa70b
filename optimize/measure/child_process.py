"""Start a module of this package as a fresh process that talks over its standard input and output, and end it with the one who asked."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO


@contextmanager
def child_process(module: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start `python -m module`; yield the process and what it writes to its standard error, and kill it at the end of the block.

    Args:
        module: dotted name of the module. It must end when its standard input ends, which also happens when this process dies.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        # In a session of its own, so that Ctrl-C meets only the one who measures, who then ends it.
        child = subprocess.Popen(  # noqa: S603 - a module of this package, never a name from outside
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            yield child, errors
        finally:
            # Not asked but ended: it has nothing to lose, and its current call may take long.
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
