"""How fast this machine does the work of a run, measured in a few seconds: a pass of the network, an export, a product of matrices.

Only calibration images are used, and nothing is written but to a temporary folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import psutil
import torch

from optimize.backends import Backend
from optimize.backends.error_reasons import runtime_reason
from optimize.candidate import Candidate
from optimize.data.split import Split
from optimize.hardware.machine import BUSY_PERCENT, watch_foreign_load
from optimize.measure.memory import peak_resident_bytes
from optimize.progress import stage
from optimize.searching.goal import latency_ms

FORWARD_S = 1.5
"""Seconds that passes of the network are repeated for."""
FORWARD_IMAGES = 64
"""Largest number of images in one of these passes."""
WARM_BELOW_S = 8.0
"""An export that took less than this is done twice: the first one of a process also imports its library."""
PRODUCT_SIZE, PRODUCTS = 768, 6
"""Rows of the matrices whose product measures the machine, large enough that memory traffic counts; and the number of products."""
Clock = Callable[[], float]


@dataclass(frozen=True)
class Rates:
    """What this machine needs for the parts of a run.

    Args:
        image_s: seconds that the original needs for one image in torch, in a batch.
        compile_s: runtime -> seconds to export, compile and time one candidate there; a runtime that cannot take the network is missing.
        latency_ms: runtime -> median latency of the original at batch 1, in milliseconds.
        flops: operations per second of a product of matrices in float64.
        resident_bytes: memory of this process with the model, the data and the runtimes loaded.
        pass_bytes: memory that one pass of the network added.
        unable: sentence on each runtime that cannot take the network.
        load_percent: percent of the machine that other processes used while it was measured.
    """

    image_s: float
    compile_s: dict[str, float]
    latency_ms: dict[str, float]
    flops: float
    resident_bytes: int
    pass_bytes: int
    unable: tuple[str, ...] = ()
    load_percent: float = 0.0

    @property
    def doubt(self) -> str | None:
        """What a reader should know of a measurement on a busy machine; None where it was quiet."""
        if self.load_percent <= BUSY_PERCENT:
            return None
        busy = f"other processes used {self.load_percent:.0f} % of this machine while it was measured"
        return f"{busy}: the estimated time is that of a machine that stays as busy, and a quiet one is faster"

    def as_dict(self) -> dict[str, object]:
        """Return the rates as plain JSON."""
        return asdict(self) | {"unable": list(self.unable)}


def machine_rates(original: Candidate, calibration: Split, runtimes: Sequence[Backend], threads: int | None) -> Rates:
    """Measure this machine with a network.

    Args:
        original: the network.
        calibration: the split whose images are passed through it.
        runtimes: runtimes of the target; one that does not run on this machine is left out.
        threads: number of threads of the runtimes; None for their own choice.
    """
    watched = watch_foreign_load()
    before = max(peak_resident_bytes(), psutil.Process().memory_info().rss)
    with stage("time a pass of the network"):
        image_s = seconds_per_image(original, calibration, seconds=FORWARD_S)
    pass_bytes = max(0, peak_resident_bytes() - before)
    compile_s, latency, unable = {}, {}, []
    for runtime in runtimes:
        if runtime.unavailable_reason() is not None:
            continue
        try:
            latency[runtime.NAME], compile_s[runtime.NAME] = _compiled(original, calibration, runtime, threads)
        except Exception as problem:  # whatever a runtime raises about a network that it cannot take
            unable.append(f"{runtime.NAME} cannot take this network: {runtime_reason(problem)}")
    rate, load_percent = product_rate(), watched()
    # read last: what the runtimes hold stays in the process, as in a run
    resident = psutil.Process().memory_info().rss
    return Rates(image_s, compile_s, latency, rate, resident, pass_bytes, tuple(unable), load_percent)


def seconds_per_image(original: Candidate, split: Split, *, seconds: float, clock: Clock = time.perf_counter) -> float:
    """Return the median time of one image in a batch, in seconds, of passes that are repeated for a while.

    Args:
        original: the network.
        split: the split whose first images are passed.
        seconds: how long to repeat; there are at least two passes.
        clock: function that returns seconds, rising; only a test gives another one.
    """
    image = split.inputs(slice(0, 1))
    original.predict(image)  # the first call allocates memory and chooses kernels
    start = clock()
    original.predict(image)
    # a heavy network is passed fewer images, so that two passes stay within the time
    affordable = int(seconds / 2 / max(clock() - start, 1e-9))
    images = split.inputs(slice(0, max(1, min(len(split), split.batch_size, FORWARD_IMAGES, affordable))))
    taken: list[float] = []
    end = clock() + seconds
    while len(taken) < 2 or clock() < end:
        start = clock()
        original.predict(images)
        taken.append(clock() - start)
    return median(taken) / len(images)


def product_rate(size: int = PRODUCT_SIZE, *, clock: Clock = time.perf_counter) -> float:
    """Return operations per second of a product of two square matrices in float64, 2 size^3 operations; the best of several.

    Args:
        size: rows of the matrices.
        clock: function that returns seconds, rising; only a test gives another one.
    """
    matrix = torch.eye(size, dtype=torch.float64) + 1.0 / size
    taken = []
    for _ in range(PRODUCTS):
        start = clock()
        matrix @ matrix
        taken.append(clock() - start)
    return 2 * size**3 / max(min(taken), 1e-9)


def _compiled(original: Candidate, calibration: Split, runtime: Backend, threads: int | None) -> tuple[float, float]:
    """Return the latency in milliseconds, and the seconds that exporting, compiling and timing take."""
    example = calibration.inputs(slice(0, 1))
    for _ in range(2):
        start = time.perf_counter()
        milliseconds = latency_ms(runtime, threads, example, original)
        taken = time.perf_counter() - start
        if taken > WARM_BELOW_S:
            break
    return milliseconds, taken
