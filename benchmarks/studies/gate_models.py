"""The two artifacts of the gate's study, made by hand, and the neighbour that keeps the machine busy.

`python -m benchmarks.studies.gate_models SEED` is the neighbour. It goes through phases of 0.05 to 1 second, drawn by the seed, until its
standard input ends: multiplies matrices (one core in full), copies arrays that fit into no cache (one core and the memory bus), or does
both (two cores). It never rests.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from optimize.backends import backend
from optimize.backends.artifact import Artifact

SIZES: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "0.05 ms": (32, ((64, 2), (136, 2))),
    "50 ms": (128, ((64, 1),) * 12),
}
"""Artifact -> width of its input, and (channels, stride) of each of its convolutions."""
PHASES = ("matrices", "copies", "both")
SHARES = (0.5, 0.3, 0.2)


def network(size: int, layers: Sequence[tuple[int, int]]) -> Any:
    """Return an ONNX model, weights seeded: 3x3 convolutions with ReLU, a mean over the pixels; (N, 3, size, size) -> (N, channels)."""
    draw = np.random.default_rng(0)
    nodes, weights, name, width = [], [], "input", 3
    for position, (channels, stride) in enumerate(layers):
        kernel = draw.standard_normal((channels, width, 3, 3), dtype=np.float32) / np.float32(np.sqrt(9 * width))
        weights.append(numpy_helper.from_array(kernel, f"kernel{position}"))
        convolution = helper.make_node("Conv", [name, f"kernel{position}"], [f"conv{position}"], pads=[1] * 4, strides=[stride] * 2)
        nodes += [convolution, helper.make_node("Relu", [f"conv{position}"], [f"relu{position}"])]
        name, width = f"relu{position}", channels
    weights.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes.append(helper.make_node("ReduceMean", [name, "axes"], ["output"], keepdims=0))
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("N", 3, size, size))]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("N", width))]
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def artifact(name: str, folder: Path) -> Artifact:
    """Return the artifact of this name, ONNX Runtime in f32, written into the folder."""
    folder.mkdir(parents=True)
    (folder / "network.onnx").write_bytes(network(*SIZES[name]).SerializeToString())
    return backend("onnxruntime").convert(folder / "network.onnx", folder / "artifact", "f32")


@contextmanager
def neighbour(seed: int) -> Iterator[None]:
    """Keep the machine busy while the block runs."""
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.studies.gate_models", str(seed)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        child.kill()
        child.wait()
        if child.stdin:
            child.stdin.close()


def disturb(seed: int, ended: threading.Event) -> None:
    """Go through phases of work until the event is set."""
    draw = np.random.default_rng(seed)
    matrix = draw.standard_normal((256, 256), dtype=np.float32)
    array = np.zeros(16_000_000, dtype=np.float32)

    def multiply(end: float) -> None:
        while time.monotonic() < end:
            matrix @ matrix

    def copy(end: float) -> None:
        while time.monotonic() < end:
            array.copy()

    works = {"matrices": (multiply,), "copies": (copy,), "both": (multiply, copy)}
    while not ended.is_set():
        end = time.monotonic() + draw.uniform(0.05, 1.0)
        threads = [threading.Thread(target=work, args=(end,)) for work in works[draw.choice(PHASES, p=SHARES)]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> None:
    """Disturb until the standard input ends, as it does when the study dies."""
    from threadpoolctl import threadpool_limits

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    with threadpool_limits(1):
        disturb(int(sys.argv[1]), ended)


if __name__ == "__main__":
    main()
