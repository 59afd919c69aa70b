"""Steps of kernels, of costs whose steps are known because the test made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.measure.kernel_blocks import PROBES, Step, kernel_steps, step_of
from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable

RUNTIME: Any = SimpleNamespace(NAME="fake", preflight=lambda: None, precisions=lambda: ("f32",), version=lambda: "1")


def steps(folder: Path, cost: Callable[[LayerShape], float]) -> Mapping[str, Step]:
    def timer(shapes: Sequence[LayerShape]) -> Mapping[LayerShape, float]:
        return {shape: cost(shape) for shape in shapes}

    return kernel_steps(LatencyTable(RUNTIME, path=folder / "table.json", timer=timer))


def up(width: int, block: int) -> int:
    return -(-width // block) * block


@settings(max_examples=40, deadline=None)
@given(
    ins=st.sampled_from((1, 4, 8, 16, 32)),
    outs=st.sampled_from((1, 4, 8, 16, 32)),
    offset=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_are_found_whatever_else_a_layer_costs(ins: int, outs: int, offset: float, seed: int) -> None:
    """A fixed cost of up to what 32 pairs of channels add, and 4 % of noise."""
    draw = np.random.default_rng(seed)

    def cost(shape: LayerShape) -> float:
        pairs = up(shape.in_channels, ins) * up(shape.out_channels, outs)
        return float((offset * 32 + pairs) * draw.uniform(0.98, 1.02))

    with TemporaryDirectory() as folder:
        assert steps(Path(folder), cost) == dict.fromkeys(PROBES, Step(ins, outs))


def test_a_layer_that_costs_the_same_at_any_width_has_no_steps(tmp_path: Path) -> None:
    assert steps(tmp_path, lambda shape: 1.0) == dict.fromkeys(PROBES, Step(1, 1))


def test_blocks_of_16_are_not_taken_for_32_where_every_other_one_is_slow(tmp_path: Path) -> None:
    """As measured of OpenVINO in f32: 17 to 32 channels 0.52 ms, 33 to 47 0.83, 48 0.73, 64 0.98."""
    costs = {up_to: taken for up_to, taken in ((16, 0.25), (32, 0.52), (47, 0.83), (48, 0.73), (64, 0.98))}

    def cost(shape: LayerShape) -> float:
        return next(taken for up_to, taken in costs.items() if shape.out_channels <= up_to) * (10 + shape.in_channels)

    assert steps(tmp_path, cost)["conv"] == Step(1, 16)


def test_kinds_have_steps_of_their_own_and_groups_none(tmp_path: Path) -> None:
    found = steps(tmp_path, lambda shape: float(shape.in_channels * up(shape.out_channels, 8 if shape.kind == "conv" else 4)))
    assert found == {"conv": Step(1, 8), "transposed": Step(1, 4)}
    conv = PROBES["conv"]
    assert step_of(conv, found) == Step(1, 8)
    assert step_of(replace(conv, groups=2), found) == Step()
    assert step_of(LayerShape("linear", 8, 8), found) == Step()


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_a_runtime_s_steps_are_measured_once(target: str, tmp_path: Path) -> None:
    """Which steps there are depends on the processor; that they are blocks, and are kept, does not."""
    pytest.importorskip(target)
    from optimize.backends import backend

    path = tmp_path / "table.json"
    found = kernel_steps(LatencyTable(backend(target), threads=1, path=path))
    assert {each for step in found.values() for each in step} <= {1, 4, 8, 16, 32}
    again = LatencyTable(backend(target), threads=1, path=path, timer=lambda _: pytest.fail("it was timed again"))
    assert kernel_steps(again) == found
