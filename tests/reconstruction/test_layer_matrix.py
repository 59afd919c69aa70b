"""Rows times matrix plus bias must be what the layer itself gives; the layer is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from optimize.reconstruction.layer_matrix import (
    columns,
    columns_per_channel,
    input_rows,
    matrix,
    output_rows,
    outputs_per_channel,
    positions_per_sample,
    reads,
    unknowns,
    unrepairable_reason,
    weight_from,
)
from tests.graph.test_trace import Convolving

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def check(layer: Any, inputs: torch.Tensor, seed: int) -> None:
    """Every position in a random order, then fewer of them."""
    with torch.inference_mode():
        outputs = layer(inputs)
    count = positions_per_sample(layer, inputs, outputs)
    draw = np.random.default_rng(seed)
    bias = layer.bias.detach().double().repeat_interleave(outputs_per_channel(layer)) if layer.bias is not None else 0.0
    for each in {count, max(1, count // 2)}:
        at = torch.from_numpy(np.stack([draw.permutation(count)[:each] for _ in range(len(inputs))]))
        rows = input_rows(layer, inputs, at)
        assert rows.shape == (len(inputs) * each, len(matrix(layer)))
        torch.testing.assert_close(rows.double() @ matrix(layer) + bias, output_rows(layer, outputs, at).double(), rtol=1e-4, atol=1e-5)
    seen = len(inputs) * count * matrix(layer).shape[1]
    rim = getattr(layer, "transposed", False) and any(size % step for size, step in zip(outputs.shape[2:], layer.stride, strict=True))
    assert outputs.numel() > seen if rim else outputs.numel() == seen


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    dims = draw(st.integers(1, 3))
    several = st.tuples(*[st.integers(1, 3)] * dims)
    kernel, dilation = draw(several), draw(several.map(lambda d: tuple(min(2, x) for x in d)))
    padding = draw(st.sampled_from(["same", "valid", "ints"]))
    mode = draw(st.sampled_from(["zeros", "reflect", "circular", "replicate"]))
    stride = (1,) * dims if padding == "same" else draw(several)
    amount = draw(st.tuples(*[st.integers(0, 2)] * dims)) if padding == "ints" else padding
    groups, cases = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    channels, makes = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    size = draw(st.tuples(*[st.integers(5, 7)] * dims))
    torch.manual_seed(draw(st.integers(0, 99)))
    layer = CONVS[dims](
        channels, makes, kernel, stride, amount, dilation, groups, draw(st.booleans()), mode  # type: ignore[arg-type]
    )
    return layer, torch.randn(cases, channels, *size)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=80, deadline=None)
@given(convolutions(), st.integers(0, 9))
def test_convolution(case: tuple[nn.Module, torch.Tensor], seed: int) -> None:
    check(*case, seed)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.data())
def test_transposed_convolution_whose_blocks_tile(dims: int, data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(*[st.integers(1, 3)] * dims))
    size = data.draw(st.tuples(*[st.integers(1, 4)] * dims))
    channels, makes = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    layer = TRANSPOSED[dims](channels, makes, kernel, kernel, bias=data.draw(st.booleans()))
    assert unrepairable_reason(layer) is None
    check(layer, torch.randn(2, channels, *size), seed=0)


@st.composite
def transposed(draw: st.DrawFn) -> tuple[Any, torch.Tensor]:
    dims = draw(st.integers(1, 2))
    kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, most)] * dims)) for most in (5, 3, 2))
    rest = tuple(draw(st.integers(0, max(step, apart) - 1)) for step, apart in zip(stride, dilation, strict=True))
    size = draw(st.tuples(*[st.integers(3, 5)] * dims))
    padding = draw(st.tuples(*[st.integers(0, 2)] * dims))
    groups = draw(st.integers(1, 2))
    torch.manual_seed(draw(st.integers(0, 99)))
    layer = TRANSPOSED[dims](2 * groups, groups * draw(st.integers(1, 2)), kernel, stride, padding, rest, groups, True, dilation)  # type: ignore[arg-type]
    return layer, torch.randn(2, 2 * groups, *size)


@settings(max_examples=80, deadline=None)
@given(transposed(), st.integers(0, 9))
def test_transposed_convolution_whose_blocks_overlap(case: tuple[Any, torch.Tensor], seed: int) -> None:
    layer, inputs = case
    made = [
        (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + rest + 1
        for size, stride, padding, dilation, kernel, rest in zip(
            inputs.shape[2:], layer.stride, layer.padding, layer.dilation, layer.kernel_size, layer.output_padding, strict=True
        )
    ]
    assume(all(size >= stride for size, stride in zip(made, layer.stride, strict=True)))
    check(layer, inputs, seed)
    assert torch.equal(weight_from(layer, matrix(layer)), layer.weight)
    every = reads(layer)
    assert torch.equal(matrix(layer) != 0, torch.ones_like(matrix(layer), dtype=torch.bool) if every is None else every)


@pytest.mark.parametrize(("kernel", "padding", "rest", "size"), [(2, 0, 0, 7), (3, 1, 0, 6), (3, 1, 1, 6), (3, 1, 1, 5)])
def test_an_output_size_that_was_asked_for_moves_no_row(kernel: int, padding: int, rest: int, size: int) -> None:
    layer = nn.ConvTranspose2d(2, 3, kernel, 2, padding, rest)
    inputs = torch.randn(1, 2, 3, 3)
    with torch.inference_mode():
        outputs = layer(inputs, output_size=[size, size])
    at = torch.zeros(1, 1, dtype=torch.int64)  # the first block: with an output smaller than usual, the last ones are not whole
    assert positions_per_sample(layer, inputs, outputs) in (4, 9)
    given = input_rows(layer, inputs, at).double() @ matrix(layer) + layer.bias.detach().double().repeat_interleave(4)
    torch.testing.assert_close(given, output_rows(layer, outputs, at).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 3, 2, 4)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    check(nn.Linear(4, 3, bias=bias), torch.randn(shape), seed=0)


def test_a_rim_asked_for_by_output_size_is_not_read() -> None:
    layer = nn.ConvTranspose2d(2, 3, 2, 2)
    inputs = torch.randn(1, 2, 3, 3)
    at = torch.arange(9)[None]
    with torch.inference_mode():
        plain, wide = layer(inputs), layer(inputs, output_size=[7, 7])
    assert wide.shape[2:] == (7, 7)
    torch.testing.assert_close(output_rows(layer, wide, at), output_rows(layer, plain, at))


LAYERS = [
    *(nn.Linear(4, 3), nn.Conv1d(4, 3, 5), nn.Conv2d(4, 3, (2, 3)), nn.Conv3d(4, 3, 2), nn.ConvTranspose2d(4, 3, (2, 3), (2, 3))),
    *(nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(4, 8, 3, groups=4)),
    *(nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), nn.ConvTranspose1d(4, 6, 4, 2, 1, groups=2)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_weight_from_undoes_matrix(layer: Any) -> None:
    assert torch.equal(weight_from(layer, matrix(layer)), layer.weight)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_only_weights_are_counted_as_such(layer: Any) -> None:
    found = reads(layer)
    weights = matrix(layer).numel() if found is None else int(found.sum())
    assert weights == layer.weight.numel()
    assert unknowns(layer) * getattr(layer, "groups", 1) == len(matrix(layer))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_columns_of_a_channel_are_those_that_read_it(layer: Any) -> None:
    """A channel whose columns are zero can hold anything."""
    inputs = torch.randn(2, 4) if isinstance(layer, nn.Linear) else torch.randn(2, 4, *[6] * (layer.weight.dim() - 2))
    disturbed = inputs.clone()
    disturbed[:, [1, 3]] = 100.0
    gone = columns(layer, np.array([[1], [3]]))
    assert gone.shape == (2, columns_per_channel(layer))
    weights = matrix(layer)
    weights[gone.flatten()] = 0
    with torch.inference_mode():
        assert not torch.allclose(layer(disturbed), layer(inputs))
        layer.weight.copy_(weight_from(layer, weights))
        torch.testing.assert_close(layer(disturbed), layer(inputs))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.ReLU(), "ReLU is not a linear map"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "it computes its weights or statistics as it runs"),
        (nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)), "it computes its weights or statistics as it runs"),
        (Convolving(4, 4, 3), "it has a forward of its own"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_refusal_names_the_reason(layer: nn.Module, reason: str) -> None:
    assert reason in str(unrepairable_reason(layer))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_what_is_linear_is_not_refused(layer: nn.Module) -> None:
    assert unrepairable_reason(layer) is None
