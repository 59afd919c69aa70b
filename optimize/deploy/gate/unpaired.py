"""Measure one model alone in fresh processes, for a baseline that is stored and compared on another day.

What a process shows depends on where its memory lies, so the observation is the process and not the call, as in a paired measurement. The
same process never times two days, so nothing pairs the figures. A fixed piece of work, which no model has a part in, is timed beside them:
what it takes longer on the other day is a change of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from optimize.deploy.gate.growth import PROCESSES

if TYPE_CHECKING:
    from optimize.backends.artifact import Artifact

SECONDS = 0.5
"""Seconds of timed calls of each process."""
BLOCKS = 9
"""Number of timed blocks of each process; the median of them counts."""
SIZE = 50_000
"""Count of numbers that the fixed work sorts: 0.4 MB, which a core's own cache holds."""


def process_latencies_ms(
    model: Artifact, *, batch: int = 1, threads: int | None = None, seed: int = 0, processes: int = PROCESSES
) -> list[float]:
    """Return the milliseconds of a call, one figure for each fresh process.

    Args:
        model: the model.
        batch: number of inputs in one call.
        threads: number of threads, as in `build`.
        seed: seed of the inputs.
        processes: number of fresh processes, one after the other.

    Raises:
        OptimizeError: when the model cannot be opened or run.
    """
    from optimize.measure.timing_process import timing_processes

    figures = []
    for _ in range(processes):
        with timing_processes([model], batch=batch, threads=threads, seed=seed) as (process,):
            calls = max(1, round(SECONDS * 1e9 / BLOCKS / process.call_ns))
            blocks = []
            for _ in range(BLOCKS):
                process.request(calls=calls)
                blocks.append(int(process.answer()["ns"]))
        figures.append(median(blocks) / calls / 1e6)
    return figures


def fixed_work_ms(*, repetitions: int = 100, timer: Callable[[], int] = time.thread_time_ns) -> float:
    """Return the median milliseconds of a fixed piece of work: sorting numbers, which numpy does in one thread.

    Args:
        repetitions: how often the work is timed.
        timer: function that returns nanoseconds; by default those that this thread ran, so that waiting for a core is not in them.
    """
    import numpy as np

    numbers = np.random.default_rng(0).standard_normal(SIZE)
    taken = []
    for _ in range(repetitions):
        start = timer()
        np.sort(numbers)
        taken.append(timer() - start)
    return median(taken) / 1e6
