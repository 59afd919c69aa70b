"""What the sum of a network's layers, each timed alone, says about the whole: predicted against measured latency.

    python -m benchmarks.studies.latency_table [--widths 0.5 0.25 …] [--repeats 3] [--threads 2]

A VGG16 for 32x32 inputs with random weights, at several uniform widths, on each CPU runtime in f32. Every repeat times the layers anew, in
a table that is thrown away, and the network beside it. Two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import write
from models.vgg import vgg16_compact
from optimize.backends import Backend, backend
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.measure.latency import Latency, interleave
from optimize.measure.layers import LayerShape, layer_shapes
from optimize.measure.table import LatencyTable
from optimize.progress import note, shown

TARGETS = ("onnxruntime", "openvino")
WIDTHS = (1.0, 0.5, 0.25, 0.125, 0.0625)
SECONDS = 1.5
LISTS = ("predicted_ms", "measured_ms", "cell_ms")
COLUMNS = (
    *("runtime", "width", "MACs", "layers added up, ms", "network, ms"),
    *("added up / network", "added up / fastest call", "ms per layer timed"),
)
TITLE = "Latency of VGG16 at several widths, f32, batch 1: its layers timed one by one and added up, against the whole network"


def network(width: float) -> tuple[Candidate, list[LayerShape]]:
    """A network of this width, and all its layers."""
    torch.manual_seed(0)
    candidate = Candidate(vgg16_compact(width=width).eval(), torch.randn(1, 3, 32, 32))
    return candidate, [shape for calls in layer_shapes(candidate.module, candidate.example).values() for shape in calls]


def measured(runtime: Backend, onnx: Sequence[Path], threads: int | None, scratch: Path) -> list[Latency]:
    """Latency of every network, in turns."""
    sessions = [runtime.build(runtime.convert(path, scratch / path.stem, "f32"), threads=threads) for path in onnx]
    inputs = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    try:
        calls = {str(at): (lambda session=session: session.predict(inputs)) for at, session in enumerate(sessions)}
        return list(interleave(calls, seconds=SECONDS * len(sessions)).values())
    finally:
        for session in sessions:
            session.close()


def added_up(runtime: Backend, nets: Sequence[list[LayerShape]], threads: int | None, scratch: Path) -> tuple[list[float], float]:
    """Sum over the layers of every network, from a table of its own, and the milliseconds it took to time one layer."""
    table = LatencyTable(runtime, threads=threads, path=scratch / "table.json")
    shapes = {shape for layers in nets for shape in layers}
    start = time.perf_counter()
    table.fill(shapes)
    spent_ms = 1e3 * (time.perf_counter() - start) / len(shapes)
    return [sum(table.ms(shape) for shape in layers) for layers in nets], spent_ms


def study(target: str, widths: Sequence[float], repeats: int, threads: int | None) -> list[dict[str, Any]]:
    """One result for each width."""
    runtime = backend(target)
    nets = [network(width) for width in widths]
    results: list[dict[str, Any]] = [
        {"runtime": target, "width": width, "macs": sum(shape.macs for shape in layers)} | {key: [] for key in LISTS}
        for width, (_, layers) in zip(widths, nets, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        onnx = [Path(folder) / f"net{at}.onnx" for at in range(len(nets))]
        for path, (candidate, _) in zip(onnx, nets, strict=True):
            export_onnx(candidate, path)
        for repeat in range(repeats):
            scratch = Path(folder) / f"repeat{repeat}"
            sums, spent_ms = added_up(runtime, [layers for _, layers in nets], threads, scratch)
            for result, total, whole in zip(results, sums, measured(runtime, onnx, threads, scratch), strict=True):
                result["predicted_ms"].append(total)
                result["measured_ms"].append(whole.as_dict())
                result["cell_ms"].append(spent_ms)
            note(f"{target}, repeat {repeat + 1}: " + ", ".join(f"{total:.3f}" for total in sums))
    return results


def row(result: dict[str, Any]) -> list[str]:
    """A line of the table: medians over the repeats, and the smallest and largest of each ratio."""
    whole, fastest = ([each[key] for each in result["measured_ms"]] for key in ("p50", "min"))
    ratios = [np.divide(result["predicted_ms"], each) for each in (whole, fastest)]
    return [
        result["runtime"],
        f"{result['width']:g}",
        f"{result['macs'] / 1e6:.3g} M",
        f"{np.median(result['predicted_ms']):.3f}",
        f"{np.median(whole):.3f}",
        *(f"{np.median(each):.2f} [{each.min():.2f}, {each.max():.2f}]" for each in ratios),
        f"{min(result['cell_ms']):.0f}",
    ]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--widths", type=float, nargs="+", default=WIDTHS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    with shown():
        results = [each for target in arguments.targets for each in study(target, arguments.widths, arguments.repeats, arguments.threads)]
    table = [row(each) for each in results]
    notes = [
        f"Medians of {arguments.repeats} repeats, each with a table of its own; in brackets the smallest and the largest ratio. "
        "The sum leaves out pooling, changes of layout, and the call itself."
    ]
    if not arguments.dry:
        write("latency_table", TITLE, COLUMNS, table, {"results": results, "threads": arguments.threads}, notes)
    print(json.dumps([*table, *notes], indent=1))


if __name__ == "__main__":
    main()
