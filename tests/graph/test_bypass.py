"""A layer is taken out where the network runs without it, and nowhere else; what is left reads what the layer read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate
from optimize.graph.bypass import bypassed, makers, remove_layers, removed_layers, without_layers
from optimize.graph.layer_types import width
from optimize.graph.trace import ChannelGroup, trace
from tests import nets
from tests.nets import INTRICATE, TOPOLOGIES, candidate, cases

SOME = torch.from_numpy(cases(2))


def group(of: Candidate, name: str) -> ChannelGroup:
    return next(each for each in trace(of).groups if each.name == name)


def tried(module: nn.Module, name: str) -> nn.Module | None:
    start = candidate(module)
    return bypassed(start.module, group(start, name), SOME)


@pytest.mark.parametrize("name", TOPOLOGIES | INTRICATE)
def test_what_is_left_runs_and_is_followed_again(name: str) -> None:
    start = candidate((TOPOLOGIES | INTRICATE)[name]())
    before = start.fingerprint
    with torch.inference_mode():
        shape = start.module(SOME.clone()).shape
    for each in trace(start).groups:
        made = bypassed(start.module, each, SOME)
        if made is None:
            continue
        with torch.inference_mode():
            assert made(SOME.clone()).shape == shape
        assert all(isinstance(made.get_submodule(layer), nn.Identity) for layer in makers(each))
        after = trace(Candidate(made, start.example))
        assert each.name not in {other.name for other in after.groups} | set(after.order) - set(makers(each))
        reads = width(start.module.get_submodule(each.name), "in")
        for slot in each.consumers:
            more = (reads - each.size) * slot.index.shape[1]
            assert width(made.get_submodule(slot.module), "in") == width(start.module.get_submodule(slot.module), "in") + more
    assert start.fingerprint == before


class Sized(nn.Module):
    """Looks into a layer as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(x)[:, : self.first.out_channels]))


@pytest.mark.parametrize(
    ("module", "name", "taken"),
    [
        (nets.chain, "0", True),
        (nets.chain, "2", False),  # a stride
        (nets.chain_bn, "0", True),
        (nets.chain_bn, "3", False),  # a rim is lost
        (nets.Residual, "conv1", True),
        (nets.Residual, "stem", False),  # the shortcut's channels are those of two layers
        (nets.Concat, "left", False),  # one norm across two layers
        (nets.Transposed, "enter", True),
        (nets.Transposed, "down", True),
        (nets.Transposed, "up", False),  # twice as many positions
        (nets.Reused, "enter", False),
        (nets.depthwise, "0", False),  # a depthwise layer makes the channels too
        (nets.depthwise, "5", True),
        (lambda: nets.prelu(1), "0", True),
        (lambda: nets.prelu(8), "0", False),  # a slope for each of its channels
        (lambda: nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 4)), "0", True),
        (Sized, "first", False),
    ],
)
def test_only_layers_that_leave_the_positions_alone_and_their_channels_to_no_other(
    module: Callable[[], nn.Module], name: str, taken: bool
) -> None:
    assert (tried(module(), name) is not None) == taken


def test_a_reader_keeps_what_it_reads_from_others() -> None:
    """In the small U-Net `join` reads the skip first and what comes from below second."""
    start = candidate(nets.Transposed())
    old = start.module.get_parameter("join.weight")
    made = bypassed(start.module, group(start, "enter"), SOME)
    assert made is not None
    new = made.get_parameter("join.weight")
    assert new.shape[1] == 3 + 6
    assert torch.equal(new[:, 3:], old[:, 6:])
    assert not new[:, :3].any()


def test_channels_that_were_flattened_are_replaced_column_by_column() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    )
    made = tried(net, "2")
    assert made is not None
    assert made.get_submodule("5").in_features == 5 * 64


def test_a_layer_that_changed_nothing_is_not_missed() -> None:
    """The layer copies its input; with its reader's weights moved over, nothing changes."""
    start = candidate(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1)))
    layer = start.module.get_submodule("2")
    layer.weight.data, layer.bias.data = functional.pad(torch.eye(3)[:, :, None, None], (1, 1, 1, 1)), torch.zeros(3)
    made = bypassed(start.module, group(start, "2"), SOME)
    assert made is not None
    made.get_submodule("4").weight.data = start.module.get_parameter("4.weight").detach()
    with torch.inference_mode():
        torch.testing.assert_close(made(SOME), start.module(SOME))


def test_what_is_gone_is_told_by_what_was_kept() -> None:
    start = candidate(nets.chain_bn())
    kept = without_layers({"3": np.array([0, 2])}, group(start, "0"))
    assert sorted(removed_layers(kept)) == ["0", "1"]
    assert kept["3"].tolist() == [0, 2]
    left = remove_layers(start.module, removed_layers(kept))
    assert isinstance(left.get_submodule("0"), nn.Identity)
    assert isinstance(start.module.get_submodule("0"), nn.Conv2d)
    with pytest.raises(KeyError, match="not a layer that can be removed"):
        remove_layers(start.module, ["2"])
