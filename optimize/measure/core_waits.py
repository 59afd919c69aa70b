"""Nanoseconds that the threads of this process have waited for a core, ready to run, while other processes had it.

Linux counts them for each thread: /proc/self/task/NUMBER/schedstat holds the nanoseconds it ran, those it waited for a core, and how
often it got one (Documentation/scheduler/sched-stats.rst of the kernel). A thread that sleeps, or waits for a file, a lock or another
thread, is not ready to run and is not counted. So what is left when the wait is taken off is the time that the work takes on a core of
its own:

    a block takes 12.4 ms, of which it waited for a core for 2.4 ms:  10.0 ms
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

TASKS = Path("/proc/self/task")


def core_waits(tasks: Path = TASKS) -> Callable[[], int]:
    """Return a function that returns the nanoseconds waited so far by all threads there are now; 0 where the system does not count them.

    Args:
        tasks: folder with a folder for each thread; only a test gives another one.
    """
    try:
        # opened once: a block of 1 ms must not be spent on finding files
        files = [os.open(task / "schedstat", os.O_RDONLY) for task in sorted(tasks.iterdir())]
    except OSError:
        return lambda: 0

    def waited_ns() -> int:
        try:
            return sum(int(os.pread(file, 100, 0).split()[1]) for file in files)
        except (OSError, IndexError):  # a thread has ended
            return 0

    return waited_ns
