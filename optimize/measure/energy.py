"""Energy of an inference in joules, from counters that the hardware keeps: RAPL of the processor, NVML of an NVIDIA GPU.

RAPL ("running average power limit") is what Linux shows of Intel's and AMD's processors under /sys/class/powercap:

    energy = (energy_uj after - energy_uj before) mod max_energy_range_uj                   microjoules; the counter starts again at 0
    joules per item = 1e-6 * energy / (calls * batch)                                       Linux, Documentation/power/powercap/powercap.rst

Worked example: the counter goes from 262,143,000,000 to 1,000,000 and its range is 262,143,328,850: it started again at 0 in between, and
(1,000,000 - 262,143,000,000) mod 262,143,328,850 = 1,328,850 uJ were used. For 10 calls of a batch of 8 that is 0.0166 J per item.

A package's counter starts again after tens of minutes, so each block, which lasts seconds, meets at most one start. It moves every
millisecond, so a block is many calls and never one. NVML counts millijoules since the driver was loaded and does not start again.

What is counted is a whole package, or a whole GPU: everything that runs on it, also of other processes, and what it takes when idle.
Memory that is not in the package, fans and power supply are in no figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from optimize.hardware.machine import virtual
from optimize.hardware.nvml import devices, opened

POWERCAP = Path("/sys/class/powercap")
TURNS = 3
IDLE_SECONDS = 0.5

_MICRO, _MILLI = 1e-6, 1e-3


@dataclass(frozen=True)
class Meter:
    """A counter of energy.

    Args:
        name: name of the package or GPU whose energy it counts.
        read: function that returns the count now.
        unit_j: joules of one step of the counter.
        range: number of steps after which the counter starts again at 0; None when it never does.
    """

    name: str
    read: Callable[[], int]
    unit_j: float
    range: int | None = None

    def joules(self, start: int, end: int) -> float:
        """Return the energy between two readings, J, with at most one new start between them."""
        steps = end - start
        # a negative difference modulo the range is what was counted since before the new start: (5 - 98) mod 100 = 7
        return self.unit_j * (steps if self.range is None else steps % self.range)


@dataclass(frozen=True)
class Meters:
    """The counters that can be read here, and in `notes` why there are no others."""

    meters: tuple[Meter, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the names of the counters and the notes, as JSON has them."""
        return {"meters": [meter.name for meter in self.meters], "notes": list(self.notes)}


def meters(powercap: Path = POWERCAP) -> Meters:
    """Return every counter of this machine.

    Args:
        powercap: the folder that Linux shows the processor's counters under; another one only in a test.
    """
    on_cpu, notes = _rapl(powercap)
    on_gpu, reason = _nvml()
    return Meters((*on_cpu, *on_gpu), (*notes, *filter(None, [reason])))


def measure(
    calls: Mapping[str, Callable[[], object]],
    meters: Meters,
    *,
    batch: int,
    seconds: float,
    timer: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return the energy of each contender and of the idle machine; the contenders take turns, block by block.

    Args:
        calls: contender -> one call.
        meters: the counters to read, at least one.
        batch: items in one call.
        seconds: shortest time of each contender, all its blocks together.
        timer: function that returns seconds, rising; only a test gives another one.
        sleep: function that waits so many seconds; only a test gives another one.

    Returns:
        `idle_w`, meter -> mean watts before the calls; `contenders`, name -> `calls`, `seconds` and, for each of the `meters`,
        `joules_per_item` and mean `watts`. What the machine takes when idle is part of them.
    """
    idle, slept, _ = _block(meters, lambda: sleep(IDLE_SECONDS), 0.0, timer)
    joules = {name: [0.0] * len(meters.meters) for name in calls}
    taken, done = dict.fromkeys(calls, 0.0), dict.fromkeys(calls, 0)
    for _ in range(TURNS):
        for name, call in calls.items():
            # What ran before has left the caches full of its own weights.
            call()
            # three shorter turns instead of one long block: heat and clock drift then meet all contenders
            spent, lasted, count = _block(meters, call, seconds / TURNS, timer)
            joules[name] = [sum(pair) for pair in zip(joules[name], spent, strict=True)]
            taken[name] += lasted
            done[name] += count
    return {
        "idle_w": {meter.name: spent / slept for meter, spent in zip(meters.meters, idle, strict=True)},
        "contenders": {
            name: {
                "calls": done[name],
                "seconds": taken[name],
                "meters": {
                    meter.name: {"joules_per_item": spent / (done[name] * batch), "watts": spent / taken[name]}
                    for meter, spent in zip(meters.meters, joules[name], strict=True)
                },
            }
            for name in calls
        },
    }


def _block(meters: Meters, call: Callable[[], object], seconds: float, timer: Callable[[], float]) -> tuple[list[float], float, int]:
    """Return the joules of each meter, the seconds and the number of calls of one block: at least one call, and until the time is over."""
    counts_before, start, count = [meter.read() for meter in meters.meters], timer(), 0
    while not count or timer() - start < seconds:
        call()
        count += 1
    lasted, counts_after = timer() - start, [meter.read() for meter in meters.meters]
    return [meter.joules(*pair) for meter, *pair in zip(meters.meters, counts_before, counts_after, strict=True)], lasted, count


def _rapl(powercap: Path) -> tuple[list[Meter], list[str]]:
    """Return the processor's packages, each a top-level zone: those below are parts of them, and "psys" holds them all once more."""
    packages: list[Meter] = []
    notes = []
    for zone in sorted(powercap.glob("intel-rapl:*")):  # AMD's are named so as well
        try:
            name = (zone / "name").read_text(encoding="utf-8").strip()
            # zones such as "psys" hold the packages once more, and would be counted twice
            if not name.startswith("package"):
                continue
            read = partial(_counter, zone / "energy_uj")
            read()
            packages.append(Meter(name, read, _MICRO, _counter(zone / "max_energy_range_uj")))
        except PermissionError:
            notes.append(f"{zone / 'energy_uj'} cannot be read: it needs root, or the right to read it")
        except (OSError, ValueError) as problem:
            notes.append(f"{zone} cannot be read: {problem}")
    if not packages and not notes:
        where = "in this virtual machine" if virtual() else "on this machine"
        notes.append(f"no RAPL counter of a processor package {where}: {powercap} names none")
    return packages, notes


def _nvml() -> tuple[list[Meter], str]:
    library, reason = opened()
    if library is None:
        return [], reason
    gpus = []
    try:
        for name, handle in devices(library):
            # read once to find out whether it may be read: some GPUs have no such counter, and say so only when asked
            read = partial(library.nvmlDeviceGetTotalEnergyConsumption, handle)
            read()
            gpus.append(Meter(name, read, _MILLI))
    except library.NVMLError as problem:
        return gpus, f"NVML does not tell the energy of a GPU: {problem}"
    return gpus, ""


def _counter(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
