"""The latency gate on itself: `python -m benchmarks.gate_check`, called by `.ci/run`.

Two comparisons of tiny networks in ONNX Runtime, with real processes and real time:

    a network against itself        must not be a regression; it may be inconclusive, since this machine may be busy
    against one of four times the   must be a regression
    multiply-accumulates

The limit is 50 %. The same network is then a regression only if chance puts the lower bound of its slowdown above 25 %, and the slower one
is far beyond it. So a failure of this check has a cause in the code: processes that are not paired, a test that does not stop, sides
that were swapped.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optimize.backends import backend
from optimize.deploy.gate.latency import LatencyComparison, compare_latency

LIMIT = 0.5
SECONDS = 0.2
"""Seconds of rounds of each pair."""
ITSELF, SLOWER = 20.0, 240.0
"""Longest comparisons, in seconds. The second is only that long on a machine where a pair takes half a minute; seconds are usual."""
LAYERS, TIMES = 4, 4
WIDTH, SIZE = 16, 24


def network(path: Path, layers: int) -> Path:
    """Write an ONNX file of so many equal convolutions."""
    draw = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(0.1 * draw.standard_normal((WIDTH, WIDTH, 3, 3), dtype=np.float32), f"w{i}") for i in range(layers)]
    names = ["input", *(f"x{i}" for i in range(1, layers)), "output"]
    nodes = [helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[1] * 4) for i in range(layers)]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH, SIZE, SIZE])] for name in ("input", "output")]
    graph = helper.make_graph(nodes, "layers", *ends, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def compared(baseline: Any, candidate: Any, max_seconds: float) -> LatencyComparison:
    """Return the comparison, with pairs that are shorter than usual."""
    return compare_latency(baseline, candidate, max_slowdown=LIMIT, max_seconds=max_seconds, pair_seconds=SECONDS)


def main() -> int:
    """Return 0 when both comparisons end as they must, else 1."""
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for name, layers in (("network", LAYERS), ("slower", LAYERS * TIMES)):
            file = network(Path(folder) / f"{name}.onnx", layers)
            artifact = backend("onnxruntime").convert(file, Path(folder) / name, "f32")
            models[name] = SimpleNamespace(name=name, model=artifact)
        same = compared(models["network"], models["network"], ITSELF)
        slower = compared(models["network"], models["slower"], SLOWER)
    print(f"a network against itself: {same.outcome}: {same.reason}")
    print(f"a slower network: {slower.outcome}: {slower.reason}")
    wrong = [
        *(["a network was called slower than itself"] if same.outcome == "fail" else []),
        *(["a network of four times the work was not called slower"] if slower.outcome != "fail" else []),
    ]
    for sentence in wrong:
        print(f"error: {sentence}.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
