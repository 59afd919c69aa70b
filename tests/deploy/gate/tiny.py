"""Tiny networks as ONNX files and as artifacts, written by hand, and what stands in for measurements of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.backends.artifact import Artifact
from optimize.deploy.gate import latency
from optimize.deploy.gate.judged import Judged
from optimize.deploy.gate.result import GateResult
from optimize.measure.duet import PairSample
from optimize.measure.memory import Memory

CLASSES = ("left", "right")


def network(path: Path, *, layers: int = 1, sign: float = 1.0, ballast: int = 0) -> Path:
    """An ONNX file: 1 × 4 × 4 images, bright on the left or on the right half; `layers` convolutions change nothing.

    It takes absolute values, so with `sign` -1 it is right if 1 is subtracted from images in 0..1, and wrong if nothing is.
    """
    halves = np.zeros((2, 1, 4, 4), np.float32)
    halves[0, :, :, :2], halves[1, :, :, 2:] = sign, sign
    tensors = [numpy_helper.from_array(halves, "halves"), numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "one")]
    tensors += [numpy_helper.from_array(np.zeros(ballast, np.float32), "ballast")] if ballast else []
    nodes, last = [helper.make_node("Abs", ["input"], ["abs"])], "abs"
    for i in range(layers):
        nodes.append(helper.make_node("Conv", [last, "one"], [f"same{i}"]))
        last = f"same{i}"
    nodes += [helper.make_node("Conv", [last, "halves"], ["sums"]), helper.make_node("Flatten", ["sums"], ["output"])]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 4, 4])
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "tiny", [given], [made], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def artifact(folder: Path, *, mean: Sequence[float] = (), std: Sequence[float] = (), **settings: Any) -> Path:
    """The folder of an artifact of that network, which states its preprocessing and its classes."""
    import onnxruntime

    folder.mkdir(parents=True)
    network(folder / "model.onnx", **settings)
    made = {"target": "onnxruntime", "precision": "f32", "input_shape": (1, 4, 4), "runtime": onnxruntime.__version__}
    steps = {"stored": "uint8", "scale": 1 / 255, "standardize": None, "mean": list(mean), "std": list(std), "pad": 0}
    use = {"input": {"preprocessing": steps}, "output": {"meaning": "logits", "classes": list(CLASSES), "task": "classification"}}
    Artifact.save(folder, files=["model.onnx"], **made).described(use)  # type: ignore[arg-type]
    return folder


def data(path: Path, n: int = 400) -> Path:
    """Images that the network tells apart without a mistake."""
    rng = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 2
        images = rng.integers(0, 40, (count, 4, 4, 1), np.uint8)
        images[labels == 0, :, :2] += 200
        images[labels == 1, :, 2:] += 200
        return images, labels

    (val, val_labels), (test, test_labels) = split(20), split(n)
    np.savez(path, val_images=val, val_labels=val_labels, test_images=test, test_labels=test_labels)
    return path


def sample(ratio: float) -> PairSample:
    """A pair whose candidate takes `ratio` times as long."""
    return PairSample("interleaved", "baseline", 1, (1_000_000,) * 3, (round(1_000_000 * ratio),) * 3, 0.1)


class Measured:
    """What stands in for the machine: every candidate takes `ratio` times as long, and each start of a process is counted."""

    def __init__(self, patch: pytest.MonkeyPatch, *, ratio: float = 1.0, decided: bool = True) -> None:
        self.ratio, self.decided, self.starts = ratio, decided, 0
        patch.setattr("optimize.deploy.gate.latency.compare_latency", self._compare)
        patch.setattr("optimize.deploy.gate.evidence.peak_memory", self._memory)
        patch.setattr("optimize.deploy.gate.unpaired.process_latencies_ms", self._alone)
        for module in ("evidence", "stored_baseline"):
            patch.setattr(f"optimize.deploy.gate.{module}.fixed_work_ms", lambda: 1.0)

    def _compare(self, baseline: Any, candidate: Any, **settings: Any) -> latency.LatencyComparison:
        spread = 0.0 if self.decided else 0.5
        ticks = iter(range(10_000))
        return latency.compare(
            lambda position: sample(self.ratio * (1 + spread * (-1) ** position)),
            max_slowdown=settings["max_slowdown"],
            batch=settings["batch"],
            max_seconds=20,
            timer=lambda: float(next(ticks)),
        )

    def _memory(self, model: Artifact, **settings: Any) -> Memory:
        self.starts += 1
        # two figures for each model, in turns, so that medians and pairs differ
        return Memory(50_000_000 + model.size_bytes + self.starts % 2, 40_000_000, imports_s=0.2, open_s=0.1, first_s=0.01)

    def _alone(self, model: Artifact, **settings: Any) -> list[float]:
        return [self.ratio * (1 + i / 1000) for i in range(8)]


def judged(name: str = "latency, batch 1", outcome: str = "pass", **changes: Any) -> Judged:
    """One figure."""
    values: dict[str, Any] = {
        **{"criterion": "max_slowdown", "name": name, "unit": "ms", "rule": "growth", "baseline": 1.0, "candidate": 1.01, "change": 0.01},
        **{"low": -0.01, "high": 0.03, "limit": None if outcome == "not judged" else 0.05, "outcome": outcome},
        "reason": f"it is {outcome}",
    }
    return Judged(**{**values, **changes})


def result(*figures: Judged, facts: Mapping[str, str] | None = None, **changes: Any) -> GateResult:
    """A finished comparison."""
    values: dict[str, Any] = {
        **{"baseline": "old", "candidate": "new", "judged": figures, "notes": (), "created": "2026-01-02T03:04:05+00:00"},
        **{"commit": "abc", "fingerprint": facts or {"cpu": "A CPU"}, "fingerprint_sha256": "f" * 64, "seconds": 1.5},
    }
    return GateResult(**{**values, **changes})


