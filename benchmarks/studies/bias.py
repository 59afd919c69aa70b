"""What bias correction does to int8 in ONNX Runtime, on three networks, with weights of 8 bits and of 7, and to TensorRT's Q/DQ graphs.

    python -m benchmarks.studies.bias [--shared DIR] [--work DIR]

The whole network is quantized, nothing is pruned, and its answers on the guard split are compared with the float network's: root mean
square of the difference over their standard deviation, and agreement (share of equal classes, or Dice of the masks). TensorRT's graph is
computed by ONNX Runtime as well, in float between its Q/DQ pairs. Two minutes a network.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.results import ROOT, write
from benchmarks.studies import bloodcells
from benchmarks.studies.peers.cases import CACHE, LIMITS, Case, Ground, cifar, opened, unet32
from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.backends.bias_correction import CASES, correct_biases
from optimize.backends.export import export_onnx
from optimize.backends.targets import onnxruntime
from optimize.backends.tensorrt_common import symmetric
from optimize.candidate import Floats
from optimize.guard.evaluate import score_split
from optimize.progress import note, shown

WEIGHTS = {"8 bits": "avx512_vnni", "7 bits": "avx2"}
SYMMETRIC = "8 bits, as TensorRT reads it"
COLUMNS = ("network", "weights", "error", "agreement", "accuracy or Dice", "float", "seconds")
TITLE = "Bias correction of int8 in ONNX Runtime, on the guard split"


def vgg16(shared: Path, work: Path, quick: bool) -> Case:
    """VGG16 of half width on blood cells."""
    return Case(
        name="vgg16",
        title="VGG16, half width",
        arch=bloodcells.ARCH,
        input_shape=bloodcells.INPUT,
        weights=shared / "models" / "vgg16_half_blood28.safetensors",
        data=shared / "bloodmnist_rebuilt_28.npz",
        settings={"mean": bloodcells.MEAN, "std": bloodcells.STD, "pad": bloodcells.PAD, "drop_overlap": True},
        limits=LIMITS,
        keeps=(),
    )


def study(ground: Ground, work: Path) -> list[dict[str, Any]]:
    """Both kinds of weights, before and after."""
    import onnx

    runtime, guard = backend("onnxruntime"), ground.data.guard
    export_onnx(ground.original, work / "model.onnx")
    floating = onnx.load(work / "model.onnx")
    exact = ground.original.predict(guard.inputs())
    rows = []
    for name in (*WEIGHTS, SYMMETRIC):
        with patch.object(onnxruntime, "correct_biases", lambda *_: None):
            before = runtime.quantize(work / "model.onnx", work / name, ground.calibration, cpu_level=WEIGHTS.get(name))
            if name == SYMMETRIC:  # in the same folder, in place of ONNX Runtime's own
                onnx.save(symmetric.quantize(work / "model.onnx", ground.calibration), before.main)
        quantized, begun = onnx.load(before.main), time.perf_counter()
        correct_biases(floating, quantized, ground.calibration)
        spent = time.perf_counter() - begun
        home = work / f"{name}, corrected"
        home.mkdir()
        onnx.save(quantized, home / "model.onnx")
        after = replace(before, folder=home)
        found = {key: told(ground, artifact, exact) for key, artifact in (("before", before), ("after", after))}
        rows.append({"network": ground.case.title, "weights": name, **found, "float": ground.before.overall, "seconds": spent})
        note(json.dumps(rows[-1]))
    return rows


def told(ground: Ground, artifact: Artifact, exact: Floats) -> dict[str, float]:
    """How far an artifact's answers on the guard split are from the float network's, and how good they are."""
    guard = ground.data.guard
    with backend(artifact.target).build(artifact) as session:
        answers = session.predict(guard.inputs())
        overall = score_split(session.predict, guard, ground.data.classes, "score").overall
    error = float(np.sqrt(np.mean((answers - exact) ** 2)) / exact.std())
    return {"error": error, "agreement": agreement(answers, exact), "overall": overall}


def agreement(answers: Floats, exact: Floats) -> float:
    """Share of equal classes, (N, K); of masks of one class, (N, 1, *spatial), their Dice."""
    if exact.shape[1] > 1:
        return float(np.mean(answers.argmax(1) == exact.argmax(1)))
    ours, theirs = answers > 0, exact > 0
    return float(2 * (ours & theirs).sum() / max(1, ours.sum() + theirs.sum()))


def row(found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    before, after = found["before"], found["after"]
    return [
        found["network"],
        found["weights"],
        f"{before['error']:.4f} -> {after['error']:.4f}",
        *(f"{100 * before[key]:.2f} % -> {100 * after[key]:.2f} %" for key in ("agreement", "overall")),
        f"{100 * found['float']:.2f} %",
        f"{found['seconds']:.1f}",
    ]


def grounds(arguments: Sequence[str] | None, description: str | None) -> Iterator[Ground]:
    """The three networks with their data, from where the command line says."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=CACHE / "bias")
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    for make in (vgg16, cifar, unet32):
        yield opened(make(asked.shared, asked.work, False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    rows = []
    with shown():
        for ground in grounds(arguments, __doc__):
            with tempfile.TemporaryDirectory() as scratch:
                rows += study(ground, Path(scratch))
    notes = [
        f"The correction sees {CASES} of the calibration images. Differences of the figures are about as large as chance makes them.",
    ]
    write("bias", TITLE, list(COLUMNS), [row(each) for each in rows], {"rows": rows}, notes)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
