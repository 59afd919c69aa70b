"""Describe the machine that a figure was measured on: without it, the figure cannot be compared with another one.

Load by other processes is measured in CPU seconds, since a percentage at one moment says little:

    available = seconds watched * cores                       4 cores watched for 2 s: 8 s
    foreign   = busy seconds of all cores - own seconds       5 s busy, 3 s of it by this process and its children: 2 s
    load      = 100 * foreign / available                     25 %
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

# Instruction sets that decide how fast a network runs, as /proc/cpuinfo names them, oldest first; the last line is Arm's.
_INSTRUCTION_SETS = (
    *("avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "sve", "sve2", "i8mm", "bf16"),
)
BUSY_PERCENT = 20.0
"""Share of the machine's CPU time: where other processes used more of it, a timing is not reliable."""


def machine() -> dict[str, object]:
    """Return the CPU model, cores, instruction sets, memory, operating system and Python version.

    `logical_cores` are those this process may use, which inside a container are fewer than the machine has.
    """
    return {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": _usable_cores(),
        "isa": instruction_sets(),
        "memory_bytes": psutil.virtual_memory().total,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def instruction_sets() -> tuple[str, ...]:
    """Return the CPU's instruction sets that matter to a network, such as "avx2" or "avx512_vnni"; empty where they cannot be read."""
    flags = set((_cpu_field("flags") or _cpu_field("Features")).split())
    return tuple(name for name in _INSTRUCTION_SETS if name in flags)


def virtual() -> bool:
    """Return whether this is a virtual machine, as far as /proc/cpuinfo says: x86 has a flag for it."""
    return "hypervisor" in _cpu_field("flags").split()


def foreign_load(seconds: float = 0.3) -> float:
    """Return the percent of the machine's CPU time that other processes use, watched for `seconds`."""
    taken = watch_foreign_load()
    time.sleep(seconds)
    return taken()


def watch_foreign_load() -> Callable[[], float]:
    """Start to watch the load; the function that is returned gives the percent that other processes have used since then.

    This process and its children are not counted.
    """
    busy, own, start = _busy(), _own(), time.perf_counter()

    def taken() -> float:
        # all cores of the machine, since the busy seconds are those of all cores
        available = (time.perf_counter() - start) * (psutil.cpu_count() or 1)
        foreign = (_busy() - busy) - (_own() - own)
        return float(round(100 * min(max(foreign / available, 0.0), 1.0), 1))

    return taken


def _own() -> float:
    """Return the CPU seconds of this process and its children, each with those of its children that have ended."""
    own, seconds = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has just ended, and is in its parent's figure
            # user, system, and the same of children that have ended
            seconds += sum(process.cpu_times()[:4])
    return seconds


def _busy() -> float:
    """Return the CPU seconds that all cores together have worked since the machine started."""
    times = psutil.cpu_times()
    # the first eight fields are all there is to a CPU's time; later ones (guests) are counted in these already
    return float(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0))


def _usable_cores() -> int:
    # a container or taskset may leave this process fewer cores than the machine has
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _cpu_field(name: str) -> str:
    """Return the first entry `name: …` of /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
