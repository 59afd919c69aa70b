"""What a bias takes back: means are taken anew, through sessions that optimize nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.backends.bias_correction import correct_biases
from optimize.backends.targets import onnxruntime as target
from optimize.backends.tensorrt_common import symmetric
from optimize.candidate import Floats

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
LAYERS = ("stem.0", "body", "tail", "head")


@pytest.fixture(scope="module")
def quantized(onnx_file: Path, inputs: Floats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three convolutions with a sum around one, a transposed one that stays in float, and a linear layer; no bias is corrected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "correct_biases", lambda *_: None)
        return target.quantize(onnx_file, tmp_path_factory.mktemp("int8"), inputs, cpu_level="avx512_vnni").main


def means(model: Any, inputs: Floats) -> dict[str, np.ndarray]:
    """Layer -> mean of what it gives, for each channel."""
    made = {node.name: node.output[0] for node in model.graph.node if node.name in LAYERS}
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made.values())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(list(made.values()), {"input": inputs})
    return {name: np.moveaxis(each, 1, -1).reshape(-1, each.shape[1]).mean(0) for name, each in zip(made, found, strict=True)}


def biases(model: Any) -> dict[str, tuple[Any, np.ndarray]]:
    """Layer -> its int32 bias and the step of each channel."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    found = {node.name: makers[node.input[2]] for node in model.graph.node if node.name in LAYERS}
    return {name: (stored[node.input[0]], onnx.numpy_helper.to_array(stored[node.input[1]])) for name, node in found.items()}


def test_every_mean_is_the_float_networks_to_half_a_step(onnx_file: Path, quantized: Path, inputs: Floats) -> None:
    floating, model = onnx.load(onnx_file), onnx.load(quantized)
    expected, before = means(floating, inputs), means(model, inputs)
    correct_biases(floating, model, inputs)
    after, steps = means(model, inputs), {name: step for name, (_, step) in biases(model).items()}
    assert set(after) == set(steps) == set(LAYERS)
    for name in LAYERS:
        assert np.abs(before[name] - expected[name]).max() > 2 * steps[name].max(), name
        assert (np.abs(after[name] - expected[name]) <= 0.51 * steps[name] + 1e-6).all(), name


def test_what_is_added_to_a_bias_is_taken_back(onnx_file: Path, quantized: Path, inputs: Floats) -> None:
    """700 steps are added to every channel of every layer: nothing of it is left but what rounding made of it."""
    floating, plain, moved = onnx.load(onnx_file), onnx.load(quantized), onnx.load(quantized)
    for bias, _ in biases(moved).values():
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.int32(700), bias.name))
    correct_biases(floating, plain, inputs)
    correct_biases(floating, moved, inputs)
    for name, (bias, _) in biases(plain).items():
        again = onnx.numpy_helper.to_array(biases(moved)[name][0])
        assert np.abs(onnx.numpy_helper.to_array(bias) - again).max() <= 4


@pytest.mark.parametrize("isa", ["amx", "avx2"])
def test_int8_is_corrected_whatever_its_bits(
    isa: str, onnx_file: Path, quantized: Path, inputs: Floats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On inputs from all over: of 160, every third."""
    many = np.concatenate([inputs] * 4)
    made = onnx.load(target.quantize(onnx_file, tmp_path / "made", many, cpu_level=isa).main)
    monkeypatch.setattr(target, "correct_biases", lambda *_: None)
    by_hand = onnx.load(target.quantize(onnx_file, tmp_path / "by hand", many, cpu_level=isa).main)
    correct_biases(onnx.load(onnx_file), by_hand, many[::3])
    assert made.SerializeToString(deterministic=True) == by_hand.SerializeToString(deterministic=True)


def test_a_bias_in_float_takes_all_of_the_shift(onnx_file: Path, inputs: Floats) -> None:
    """As in the graphs that TensorRT reads."""
    floating, made = onnx.load(onnx_file), symmetric.quantize(onnx_file, inputs)
    expected, before = means(floating, inputs), means(made, inputs)
    correct_biases(floating, made, inputs)
    after = means(made, inputs)
    assert set(after) == set(LAYERS)
    for name in LAYERS:
        assert np.abs(after[name] - expected[name]).max() < 0.02 * np.abs(before[name] - expected[name]).max(), name


def test_a_network_without_quantized_layers_is_left_alone(onnx_file: Path, inputs: Floats) -> None:
    floating = onnx.load(onnx_file)
    before = floating.SerializeToString(deterministic=True)
    correct_biases(floating, floating, inputs)
    assert floating.SerializeToString(deterministic=True) == before
