from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from optimize.errors import InputError
from optimize.measure.layers import LayerShape, layer_shapes
from tests.nets import TOPOLOGIES, Reused, Transposed, depthwise

CONV = LayerShape("conv", 16, 32, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1))


class Folded(nn.Module):
    """Four windows of a picture become a batch of their own: (N, 4, 8, 8) -> (N, 4, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3).transpose(1, 2).flatten(0, 1)  # (4 N, 4, 4, 4)
        return self.head(self.conv(windows).mean((2, 3))).unflatten(0, (-1, 4))


class Upsized(nn.Module):
    """Asks its transposed convolution for an output size that the layer's own settings do not give."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(input=x, output_size=(16, 15))


# One layer each, and (C, *spatial) of its input.
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "strided": (nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1), (4, 9, 8)),
    "dilated": (nn.Conv2d(4, 6, (3, 2), dilation=2), (4, 9, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (4, 9, 8)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 9, 8)),
    "same, even kernel": (nn.Conv2d(4, 6, (4, 3), padding="same"), (4, 9, 8)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (4, 9, 8)),
    "circular": (nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="circular"), (4, 9, 8)),
    "one dimension": (nn.Conv1d(4, 6, 5, stride=3), (4, 20)),
    "three dimensions": (nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)), (4, 3, 5, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 5, 6)),
    "transposed, grouped": (nn.ConvTranspose1d(4, 6, 4, stride=2, dilation=2, groups=2), (4, 7)),
    "transposed, to a size": (Upsized(), (4, 8, 8)),
    "linear": (nn.Linear(7, 5), (7,)),
    "linear on tokens": (nn.Linear(7, 5), (3, 7)),
    "linear on a grid of tokens": (nn.Linear(7, 5), (3, 2, 7)),
    "windows in the batch": (Folded(), (4, 8, 8)),
}


def flops(module: nn.Module, example: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
    return int(counter.get_total_flops())


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_macs_by_formula(case: str, batch: int) -> None:
    module, size = LAYERS[case]
    example = torch.randn(batch, *size)
    shapes = [shape for calls in layer_shapes(module, example).values() for shape in calls]
    assert 2 * batch * sum(shape.macs for shape in shapes) == flops(module, example)


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("case", [case for case in LAYERS if case != "windows in the batch"])
def test_output_size_is_what_torch_gives(case: str) -> None:
    module, size = LAYERS[case]
    example = torch.randn(2, *size)
    [[shape]] = layer_shapes(module, example).values()
    output = module(example)
    assert shape.output == tuple(output.shape[1:-1] if shape.kind == "linear" else output.shape[2:])


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_all_layers_of_a_network_are_found(topology: str) -> None:
    size = 9 if topology == "chain with batch norm" else 16  # what its linear layer expects
    module, example = TOPOLOGIES[topology]().eval(), torch.randn(1, 3, size, size)
    found = layer_shapes(module, example)
    assert 2 * sum(shape.macs for calls in found.values() for shape in calls) == flops(module, example)
    assert set(found) == {name.removesuffix(".weight") for name, parameter in module.named_parameters() if parameter.ndim > 1}


def test_shapes_by_hand() -> None:
    found = layer_shapes(Transposed().eval(), torch.randn(1, 3, 16, 12))
    assert found["up"] == [LayerShape("transposed", 8, 6, (8, 6), (2, 2), (2, 2), (0, 0), (1, 1), (0, 0))]
    assert found["join"] == [LayerShape("conv", 12, 6, (16, 12), (3, 3), (1, 1), (1, 1), (1, 1))]
    assert list(found) == ["enter", "down", "up", "join", "head"]
    grouped = layer_shapes(depthwise().eval(), torch.randn(1, 3, 8, 8))["2"]
    assert grouped == [LayerShape("conv", 8, 8, (8, 8), (3, 3), (1, 1), (0, 0), (1, 1), groups=8)]
    assert grouped[0].depthwise


def test_a_reused_layer_has_a_shape_for_each_call() -> None:
    found = layer_shapes(Reused().eval(), torch.randn(1, 3, 8, 8))
    assert {name: len(calls) for name, calls in found.items()} == {"enter": 1, "again": 3, "head": 1}
    assert found["head"] == [LayerShape("linear", 8, 4)]


def test_windows_in_the_batch_are_calls_or_rows() -> None:
    found = layer_shapes(Folded(), torch.randn(2, 4, 8, 8))
    assert found["conv"] == [LayerShape("conv", 4, 6, (4, 4), (3, 3), (1, 1), (0, 0), (1, 1))] * 4
    assert found["head"] == [LayerShape("linear", 6, 3, (4,))]


def test_an_input_without_batch_is_one_call() -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x[0])[None]

    [[shape]] = layer_shapes(Alone(), torch.randn(1, 3, 8, 6)).values()
    assert shape.spatial == (8, 6)


def test_nothing_is_left_on_the_module_even_after_an_error() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(99, 2))
    with pytest.raises(RuntimeError):
        layer_shapes(module, torch.randn(1, 3, 8, 8))
    assert not any(layer._forward_hooks for layer in module.modules())


def test_other_widths() -> None:
    assert CONV.with_channels(8, 5) == LayerShape("conv", 8, 5, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1))
    assert CONV.with_channels(16, 32) == CONV
    wide = LayerShape("conv", 8, 16, (9,), (3,), (1,), (0,), (1,), groups=8)
    assert wide.with_channels(3, 6) == LayerShape("conv", 3, 6, (9,), (3,), (1,), (0,), (1,), groups=3)
    two = LayerShape("conv", 8, 16, (9,), (3,), (1,), (0,), (1,), groups=2)
    assert two.with_channels(4, 6).groups == 2
    # Half the channels on either side: a quarter of the work, of a depthwise layer half.
    assert (CONV.macs, wide.macs) == (4 * CONV.with_channels(8, 16).macs, 2 * wide.with_channels(4, 8).macs)


@pytest.mark.parametrize(
    ("shape", "widths", "message"),
    [
        (CONV, (0, 4), r"`in_channels` \(=0\) must be a positive multiple of the layer's groups \(1\)"),
        (LayerShape("conv", 8, 16, (9,), (3,), (1,), (0,), (1,), groups=4), (4, 6), r"`out_channels` \(=6\) must be .* groups \(4\)"),
        (LayerShape("conv", 8, 8, (9,), (3,), (1,), (0,), (1,), groups=8), (4, 6), r"`out_channels` \(=6\) must be .* groups \(4\)"),
    ],
)
def test_widths_that_do_not_fit_the_groups_are_refused(shape: LayerShape, widths: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shape.with_channels(*widths)


def shapes() -> st.SearchStrategy[LayerShape]:
    width, sizes = st.integers(1, 12), [st.lists(st.integers(1, 12), min_size=1, max_size=2).map(tuple) for _ in range(6)]
    return st.builds(LayerShape, st.sampled_from(["conv", "transposed"]), width, width, *sizes, width)


@given(shapes(), shapes())
def test_a_line_names_one_shape(one: LayerShape, other: LayerShape) -> None:
    assert (str(one) == str(other)) == (one == other)


def test_a_line_reads_well() -> None:
    assert str(CONV) == "conv 16->32 k3x3 s1x1 p1x1 d1x1 g1 @14x14"
    assert str(LayerShape("linear", 8, 4)) == "linear 8->4 g1"
