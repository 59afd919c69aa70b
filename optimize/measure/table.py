"""A latency table: milliseconds of a layer of a given shape in the target runtime on this machine, measured once and kept.

The table lives in a file of the user's cache folder, one for each machine, runtime, precision, number of threads and batch. Whatever it was
not made for, or cannot be read, is ignored and written anew. Two processes may share it: each takes in what the other has written before
it writes, and the last writer wins. A figure that a table once gave stays as it is, so the same file always leads to the same choices.

Figures that were taken while other processes used the machine are taken once more; when it still was busy they are doubtful, and marked so:
they serve the run that took them, and one that resumes it on a machine that is still busy; on a quiet machine the next run takes them anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.backends import require_precision
from optimize.backends.cpu_limit import effective_level
from optimize.backends.session import gc_paused
from optimize.errors import InputError
from optimize.files import cache_folder, write_atomically
from optimize.hardware.machine import BUSY_PERCENT, foreign_load, machine, watch_foreign_load
from optimize.measure.layer_benchmark import portions, time_cells
from optimize.measure.layers import LayerShape
from optimize.progress import note, track

if TYPE_CHECKING:
    from optimize.backends import Backend

Timer = Callable[[Sequence[LayerShape]], Mapping[LayerShape, float]]

FORMAT = 2
METHOD = 1
"""Version of `measure/layer_benchmark.py` and the backends' `time_layers`: raised when they would give other figures."""

TRIES = 2
_DECIDING = ("cpu", "physical_cores", "logical_cores", "isa", "os")


class LatencyTable:
    """Milliseconds of a layer, by its shape; each shape is timed at most once.

    Args:
        runtime: backend to measure.
        precision: "f32", "bf16" or "int8", as far as the runtime has it here.
        threads: number of threads, as in `build`; all cores when None.
        batch: number of inputs in one call.
        path: file to keep the table in; one in the user's cache folder when None.
        timer: function that times shapes that the table lacks; only a test gives another one.

    Raises:
        InputError: when `precision` is not one that runs natively here, or `batch` is less than 1.
        TargetUnavailable: when the runtime cannot run here.
    """

    def __init__(
        self,
        runtime: Backend,
        precision: str = "f32",
        threads: int | None = None,
        batch: int = 1,
        path: Path | None = None,
        *,
        timer: Timer | None = None,
    ) -> None:
        runtime.preflight()
        require_precision(precision, (*runtime.precisions(), "int8"), runtime.NAME)
        if batch < 1:
            raise InputError(f"`batch` (={batch}) must be at least 1.")
        self.fingerprint = _fingerprint(runtime, precision, threads, batch)
        self.path = path or cache_folder("latency") / _file_name(self.fingerprint)
        self._batch = batch
        self._timer = timer or partial(time_cells, runtime, precision=precision, threads=threads, batch=batch)
        self._cells, self._doubtful = dict[str, float](), set[str]()
        # doubtful figures in the file are taken over only while the machine is as busy as when they were taken: new ones would be no better
        self._lenient = bool(self._read()[1]) and foreign_load() > BUSY_PERCENT  # looking at the machine takes time
        self._take_in()

    def ms(self, shape: LayerShape) -> float:
        """Return the milliseconds of the layer; when the table lacks it, it is timed now, which alone takes far longer than in a `fill`."""
        if str(shape) not in self._cells:
            self.fill([shape])
        return self._cells[str(shape)]

    def fill(self, shapes: Iterable[LayerShape]) -> None:
        """Time every shape that the table lacks, many at once, and keep the figures."""
        requested = {str(shape): shape for shape in shapes}
        if requested.keys() <= self._cells.keys():
            return
        self._take_in()
        missing = [shape for line, shape in requested.items() if line not in self._cells]
        # Once for all: a collection before every portion would take longer than its timing.
        with gc_paused():
            for portion in track(list(portions(missing, self._batch)), "timing layers"):
                taken, quiet = self._timed(portion)
                self._cells |= taken
                if not quiet:
                    self._doubtful.update(taken)
                self._write()
        if doubtful := len(self._doubtful & requested.keys()):
            n = len(requested)
            note(f"{doubtful} of {n} layers were timed while other processes used the machine; a later run will time them anew.")

    def _timed(self, portion: Sequence[LayerShape]) -> tuple[dict[str, float], bool]:
        """Return what the layers take, and whether the machine was quiet meanwhile; where it was not, they are timed once more."""
        for _ in range(TRIES):
            busy = watch_foreign_load()
            taken = {str(shape): float(ms) for shape, ms in self._timer(portion).items()}
            if busy() <= BUSY_PERCENT:
                return taken, True
        return taken, False

    def _take_in(self) -> None:
        """Return what the file has and this table lacks; of the doubtful figures only where new ones would be no better."""
        cells, doubtful = self._read()
        new = cells.keys() - self._cells.keys() - (set() if self._lenient else doubtful)
        self._cells |= {line: cells[line] for line in new}
        self._doubtful |= doubtful & new

    def _read(self) -> tuple[dict[str, float], set[str]]:
        """Return the cells of the file, and which are doubtful; none when it is missing, damaged, or was made for something else."""
        nothing: tuple[dict[str, float], set[str]] = {}, set()
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            # the file's name is a short hash of the fingerprint; the whole of it is compared, since names may collide
            if (stored["format"], stored["made_for"]) != (FORMAT, self.fingerprint):
                return nothing
            cells = {str(shape): float(taken) for shape, taken in stored["cells"].items()}
            doubtful = set(map(str, stored["doubtful"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return nothing
        # one impossible figure makes the whole file suspect
        return (cells, doubtful) if all(math.isfinite(taken) and taken > 0 for taken in cells.values()) else nothing

    def _write(self) -> None:
        cells, doubtful = self._read()
        reliable = cells.keys() - doubtful
        # A reliable figure of another process is never replaced by a doubtful one of ours; our reliable figures replace any.
        own = {line: taken for line, taken in self._cells.items() if line not in self._doubtful or line not in reliable}
        content = {
            "format": FORMAT,
            "made_for": self.fingerprint,
            "cells": cells | own,
            "doubtful": sorted((doubtful - own.keys()) | (self._doubtful & own.keys())),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(content, indent=0, sort_keys=True) + "\n")
        except OSError as problem:
            # The figures are good without the file; only the next run has to time them again.
            note(f"The latency table is not kept: {problem}.")


def _fingerprint(runtime: Backend, precision: str, threads: int | None, batch: int) -> dict[str, Any]:
    """Return all that a figure depends on besides the layer, as JSON gives it back."""
    here = machine()
    asked = {"precision": precision, "threads": threads, "batch": batch}
    what = {"runtime": runtime.NAME, "version": runtime.version(), "level": effective_level(runtime.NAME), **asked}
    fingerprint: dict[str, Any] = json.loads(json.dumps({**{name: here[name] for name in _DECIDING}, **what, "method": METHOD}))
    return fingerprint


def _file_name(fingerprint: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
    return f"{fingerprint['runtime']}-{fingerprint['precision']}-{digest[:12]}.json"
