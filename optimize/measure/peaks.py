"""Measure the machine's roofs: MACs per second that each runtime reaches in each precision, and bytes per second that memory moves.

A target's peak is the best of two large convolutions and a large linear layer, timed by the runtime's own profiler as in
`measure/layer_benchmark.py`; a layer counts only where the compiled graph runs it in the precision in question. torch multiplies square
matrices. Everything takes turns, several rounds over, and the best counts: a disturbance can only make a rate smaller.

    rate       = MACs / seconds                one MAC is two floating-point operations
    bandwidth  = 2 * bytes copied / seconds    each byte is read and written; what a write fetches first is not counted, as in STREAM's copy

Peaks are kept in the user's cache folder, one file for each machine, versions, levels and number of threads, unless the machine was busy.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from optimize.backends import Backend, backend, versions
from optimize.backends.artifact import Artifact
from optimize.backends.cpu_limit import effective_level
from optimize.errors import InputError, OptimizeError
from optimize.files import cache_folder, write_atomically
from optimize.hardware.machine import BUSY_PERCENT, foreign_load, instruction_sets, machine
from optimize.measure.layer_benchmark import cell_model, cell_ms
from optimize.measure.layers import LayerShape
from optimize.progress import note, stage, track

FORMAT = 1
METHOD = 1
"""Raised when the same machine would be given other figures."""

REPEATS = 8
BANDWIDTH = "memory"

_SIDES = (512, 1024)
_COPY_BYTES = 256 << 20  # several times the last cache of most machines, so that no part is left in it when its turn comes again
_PARTS = 8
# Short, so that on a machine with other work some round falls into a quiet moment; long enough for a profiler that counts microseconds.
_SECONDS, _ROUNDS = 0.02, 2
_SHAPES = (
    LayerShape("conv", 128, 128, (32, 32), (3, 3), (1, 1), (1, 1), (1, 1)),
    LayerShape("conv", 256, 256, (16, 16), (3, 3), (1, 1), (1, 1), (1, 1)),
    LayerShape("linear", 1024, 1024, (256,)),
)
_CALIBRATION = 2
_CORES_PER_INPUT = 2  # a product has to be large enough for all cores to share
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_INDIFFERENT = ("memory_bytes", "python")

Contender = Callable[[], float]


@dataclass(frozen=True)
class Peaks:
    """The rates that the machine reaches.

    Args:
        rates: runtime ("torch", or a target) -> precision -> MACs per second.
        bandwidth: bytes per second that a large copy reads and writes.
        threads: the runtimes were given; all cores when None.
        load_percent: percent of the machine's CPU time that other processes used just before.
    """

    rates: Mapping[str, Mapping[str, float]]
    bandwidth: float
    threads: int | None = None
    load_percent: float = 0.0

    def rate(self, runtime: str, precision: str) -> float:
        """Return the peak rate in MACs per second.

        Raises:
            InputError: when this was not measured here.
        """
        try:
            return self.rates[runtime][precision]
        except KeyError:
            there = ", ".join(f"{name} {measured}" for name, rates in self.rates.items() for measured in rates) or "none"
            raise InputError(f"there is no measured peak of {runtime} in {precision} on this machine; measured: {there}.") from None

    def as_dict(self) -> dict[str, Any]:
        """Return the peaks as JSON has them; MACs and bytes per second."""
        rates = {name: dict(by_precision) for name, by_precision in self.rates.items()}
        return {
            "macs_per_s": rates,
            "bandwidth_bytes_per_s": self.bandwidth,
            "threads": self.threads,
            "load_percent": self.load_percent,
        }


def peaks(
    targets: Sequence[str] = (),
    threads: int | None = None,
    path: Path | None = None,
    *,
    measure: Callable[[Sequence[str], int | None], Peaks] | None = None,
) -> Peaks:
    """Return the machine's peaks, measured once and kept.

    Args:
        targets: targets that run here, besides torch.
        threads: number of threads of every runtime; all cores when None.
        path: the file to keep them in; one in the user's cache folder when None.
        measure: takes the figures when there are none; only a test gives another one.

    Raises:
        OptimizeError: when a runtime's profiler does not name a layer.
    """
    made_for = _fingerprint(targets, threads)
    digest = hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()
    path = path or cache_folder("peaks") / f"{digest[:12]}.json"
    kept = _read(path, made_for)
    if kept is not None:
        return kept
    measured = (measure or measure_peaks)(targets, threads)
    # peaks of a busy machine are too low, and kept they would make every later roofline look reached
    if measured.load_percent > BUSY_PERCENT:
        note(f"The peaks are not kept: other processes used {measured.load_percent:g} % of the machine.")
    else:
        _write(path, made_for, measured)
    return measured


def measure_peaks(targets: Sequence[str], threads: int | None) -> Peaks:
    """Measure now; takes seconds, most of them for making int8 models."""
    busy = foreign_load()
    with ExitStack() as held:
        held.enter_context(_torch_threads(threads))
        scratch = Path(held.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[tuple[str, str], Contender] = {(BANDWIDTH, BANDWIDTH): partial(_copied, *_buffers())}
        for precision, dtype in _torch_precisions().items():
            contenders["torch", precision] = partial(_multiplied, [torch.rand(side, side).to(dtype) for side in _SIDES])
        for target in targets:
            contenders |= _of_runtime(backend(target), scratch / target, threads)
        best = best_of(contenders, REPEATS)
    rates: dict[str, dict[str, float]] = {}
    for (runtime, precision), rate in best.items():
        if runtime != BANDWIDTH:
            rates.setdefault(runtime, {})[precision] = rate
    return Peaks(rates, best[BANDWIDTH, BANDWIDTH], threads, busy)


def best_of(contenders: Mapping[tuple[str, str], Contender], repeats: int) -> dict[tuple[str, str], float]:
    """Return the best rate of each contender; they take turns, A B A B …."""
    best = dict.fromkeys(contenders, 0.0)
    for _ in track(range(repeats), "peaks of this machine"):
        for name, contender in contenders.items():
            # the best and not the mean: nothing makes a machine faster than it is, and other work only makes it slower
            best[name] = max(best[name], contender())
    return best


def _of_runtime(runtime: Backend, folder: Path, threads: int | None) -> dict[tuple[str, str], Contender]:
    """Return a contender for each precision that the runtime has here, compiled and ready to be timed."""
    cores = threads or cast(int, machine()["logical_cores"])
    batch = max(1, cores // _CORES_PER_INPUT)
    model = cell_model(_SHAPES)
    folder.mkdir(parents=True)
    onnx = folder / "cells.onnx"
    onnx.write_bytes(model.SerializeToString())
    length = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    inputs = np.random.default_rng(0).standard_normal((max(batch, _CALIBRATION), length), dtype=np.float32)
    contenders: dict[tuple[str, str], Contender] = {}
    for precision in (*runtime.precisions(), "int8"):
        with stage(f"a large {precision} model for {runtime.NAME}"):
            made = folder / precision
            quantized = precision == "int8"
            artifact = runtime.quantize(onnx, made, inputs[:_CALIBRATION]) if quantized else runtime.convert(onnx, made, precision)
            # "int8" that runs in float would set a false peak: only what the compiled graph really runs in int8 counts
            cells = _cells_in(runtime, artifact, precision)
        if cells:
            contenders[runtime.NAME, precision] = partial(_profiled, runtime, artifact, inputs[:batch], cells, threads)
    return contenders


def _cells_in(runtime: Backend, artifact: Artifact, precision: str) -> set[str]:
    """Return the cells that the compiled graph really runs in `precision`."""
    with runtime.build(artifact, threads=1) as session:
        return {name.partition(".")[0] for name, ran_in in runtime.inspect(session).items() if ran_in == precision}


def _profiled(runtime: Backend, artifact: Artifact, inputs: Any, cells: set[str], threads: int | None) -> float:
    taken = cell_ms(runtime.time_layers(artifact, inputs, threads=threads, seconds=_SECONDS, min_rounds=_ROUNDS))
    macs = {f"cell{position}": len(inputs) * shape.macs for position, shape in enumerate(_SHAPES)}
    # milliseconds to seconds: 37.7 M MACs in .754 ms are 50 G MACs per second
    rates = [macs[cell] / taken[cell] * 1e3 for cell in cells & macs.keys() & taken.keys()]
    if not rates:
        raise OptimizeError(f"the profiler of {runtime.NAME} {runtime.version()} names no layer: use the version in constraints.txt.")
    return max(rates)


def _multiplied(matrices: Sequence[torch.Tensor], timer: Callable[[], float] = time.perf_counter) -> float:
    """Return the MACs per second of a square matrix times itself, the best of those given."""
    rates = []
    with torch.inference_mode():
        for matrix in matrices:
            start = timer()
            torch.mm(matrix, matrix)
            # n^3 multiplications for a product of two n x n matrices
            rates.append(float(len(matrix)) ** 3 / (timer() - start))
    return max(rates)


def _copied(source: torch.Tensor, target: torch.Tensor, timer: Callable[[], float] = time.perf_counter) -> float:
    """Return the bytes per second, read and written, of the part that was copied the fastest."""
    rates = []
    for taken, put in zip(source.chunk(_PARTS), target.chunk(_PARTS), strict=True):
        start = timer()
        put.copy_(taken)
        # read once, written once; in parts, since a disturbance spoils only the part that it falls into
        rates.append(2 * taken.numel() * taken.element_size() / (timer() - start))
    return max(rates)


def _buffers() -> tuple[torch.Tensor, torch.Tensor]:
    # Written once, else the first copy would pay for the memory itself.
    return torch.zeros(_COPY_BYTES, dtype=torch.uint8).fill_(1), torch.zeros(_COPY_BYTES, dtype=torch.uint8).fill_(2)


def _torch_precisions() -> dict[str, torch.dtype]:
    """Return the precisions that torch is measured in: bf16 only where the processor has instructions for it."""
    native = bool(_NATIVE_BF16 & set(instruction_sets()))
    return {"f32": torch.float32, **({"bf16": torch.bfloat16} if native else {})}


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    threads_before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(threads_before)


def _fingerprint(targets: Sequence[str], threads: int | None) -> dict[str, Any]:
    """Return all that the figures depend on, as JSON gives it back."""
    # peaks change with neither the size of memory nor the version of Python
    here = {name: value for name, value in machine().items() if name not in _INDIFFERENT}
    levels = {target: effective_level(target) for target in sorted(targets)}
    what = {"machine": here, "versions": versions(), "levels": levels, "threads": threads, "method": METHOD}
    fingerprint: dict[str, Any] = json.loads(json.dumps(what))
    return fingerprint


def _read(path: Path, made_for: Mapping[str, Any]) -> Peaks | None:
    """Return what the file holds; None when it is missing, damaged, or was made for something else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if (stored["format"], stored["made_for"]) != (FORMAT, made_for):
            return None
        kept = stored["peaks"]
        rates = {str(name): {str(key): float(rate) for key, rate in own.items()} for name, own in kept["macs_per_s"].items()}
        peaks = Peaks(rates, float(kept["bandwidth_bytes_per_s"]), made_for["threads"], float(kept["load_percent"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    figures = [peaks.bandwidth, *(rate for rates in peaks.rates.values() for rate in rates.values())]
    return peaks if all(math.isfinite(figure) and figure > 0 for figure in figures) else None


def _write(path: Path, made_for: Mapping[str, Any], measured: Peaks) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"format": FORMAT, "made_for": made_for, "peaks": measured.as_dict()}, indent=1) + "\n")
    except OSError as problem:
        # The figures are good without the file; only the next run has to take them again.
        note(f"The peaks are not kept: {problem}.")
