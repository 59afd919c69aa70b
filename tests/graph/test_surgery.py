"""A network with channels cut out must be the network in which nobody reads them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate
from optimize.graph.cut_check import check_cut
from optimize.graph.surgery import (
    copy_module,
    cut_groups_in_place,
    cut_in_place,
    keep_channels,
    mask_channels,
    mask_in_place,
    replace_module,
    set_tensors,
    width,
    with_tensors,
)
from optimize.graph.trace import ChannelGroup, Slot, trace, without
from optimize.reconstruction.layer_matrix import columns, matrix, weight_from
from tests import nets
from tests.nets import INTRICATE, TOPOLOGIES, candidate, cases


def silenced(module: nn.Module, group: ChannelGroup, gone: np.ndarray) -> nn.Module:
    """A copy whose readers have zero weights on the channels `gone`, column by column."""
    copied = copy_module(module, share=False)
    with torch.no_grad():
        for slot in group.consumers:
            layer = copied.get_submodule(slot.module)
            weights = matrix(layer)  # type: ignore[arg-type]
            weights[columns(layer, slot.index[gone]).flatten()] = 0  # type: ignore[arg-type]
            layer.get_parameter("weight").copy_(weight_from(layer, weights))  # type: ignore[arg-type]
    return copied


@pytest.mark.parametrize("name", TOPOLOGIES | INTRICATE)
def test_cutting_is_not_reading(name: str) -> None:
    start = candidate((TOPOLOGIES | INTRICATE)[name]())
    before, inputs = start.fingerprint, torch.from_numpy(cases(3))
    groups = [group for group in trace(start).groups if (name, group.size) != ("padded shortcut", 4)]
    assert groups
    for group in groups:
        keep = np.sort(np.random.default_rng(0).permutation(group.size)[: group.size // 2])
        gone = np.setdiff1d(np.arange(group.size), keep)
        pruned = keep_channels(start.module, group, keep)
        with torch.inference_mode():
            want = silenced(start.module, group, gone)(inputs)
            torch.testing.assert_close(pruned(inputs), want, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(mask_channels(start.module, group, gone)(inputs), want, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(want, start.module(inputs), rtol=1e-3)
        assert sum(p.numel() for p in pruned.parameters()) < start.parameters
        assert check_cut(start.module, group, inputs) is None
    assert start.fingerprint == before


@pytest.mark.parametrize("name", TOPOLOGIES | INTRICATE)
def test_all_at_once_is_one_after_the_other(name: str) -> None:
    start = candidate((TOPOLOGIES | INTRICATE)[name]())
    before, groups, random = start.fingerprint, trace(start).groups, np.random.default_rng(1)
    keeps = [np.sort(random.permutation(group.size)[: group.size // 2]) for group in groups]
    together, module, left = copy_module(start.module), start.module, groups
    cut_groups_in_place(together, zip(groups, keeps, strict=True))
    for place, keep in enumerate(keeps):
        module, left = keep_channels(module, left[place], keep), without(left, left[place], keep)
    assert str(together) == str(module)
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, together.state_dict()[key]), key
    assert start.fingerprint == before


def test_a_private_copy_is_changed_in_place_and_no_other() -> None:
    start = candidate(nets.chain())
    group, before, private = trace(start).groups[0], start.fingerprint, copy_module(start.module)
    layers = list(private)  # type: ignore[call-overload]
    mask_in_place(private, group, np.array([1, 2]))
    assert not private.get_submodule("2").get_parameter("weight")[:, 1:3].any()
    cut_in_place(private, group, np.array([0, 3]))
    set_tensors(private, "0", bias=torch.zeros(2))
    assert [layer is own for layer, own in zip(layers, private, strict=True)] == [True] * len(layers)  # type: ignore[call-overload]
    assert private.get_submodule("0").get_parameter("bias").tolist() == [0.0, 0.0]
    assert (width(private.get_submodule("0"), "out"), width(private.get_submodule("2"), "in")) == (2, 2)
    assert start.fingerprint == before


def test_zeros_beside_a_shortcut_are_counted_and_found_by_running_it() -> None:
    start = candidate(nets.Padded())
    tied, free = trace(start).groups
    assert check_cut(start.module, tied, torch.from_numpy(cases(3))) is None
    assert "does not run with fewer channels" in str(check_cut(start.module, free, torch.from_numpy(cases(3))))


@pytest.mark.parametrize(
    ("name", "group", "layer", "widths"),
    [
        ("grouped", "enter", "group", (4, 12, 2)),
        ("grouped", "group", "group", (8, 4, 2)),
        ("depthwise, several each", "0", "0", (3, 6, 3)),
        ("depthwise, several each", "2", "4", (2, 6, 2)),
        ("transposed, grouped", "0", "2", (4, 6, 2)),
        ("transposed, grouped", "2", "2", (8, 4, 2)),
    ],
)
def test_groups_stay_even_and_depthwise_ones_go_with_their_input(name: str, group: str, layer: str, widths: tuple[int, int, int]) -> None:
    """Two channels of the group are left: (in, out, groups) of a layer then."""
    start = candidate(INTRICATE[name]())
    found = next(each for each in trace(start).groups if each.name == group)
    cut = keep_channels(start.module, found, np.array([0, 2])).get_submodule(layer)
    assert (cut.in_channels, cut.out_channels, cut.groups) == widths


def test_layers_say_their_new_widths() -> None:
    start = candidate(nets.depthwise())
    pruned = keep_channels(start.module, trace(start).groups[0], np.array([1, 4, 6]))
    first, deep, norm, point = (pruned.get_submodule(name) for name in "0235")
    assert (first.out_channels, norm.num_features, point.in_channels) == (3, 3, 3)
    assert (deep.in_channels, deep.out_channels, deep.groups) == (3, 3, 3)
    assert (width(first, "out"), width(first, "in"), width(norm, "out"), width(point, "in")) == (3, 3, 3, 3)


def test_a_twin_shares_its_tensors_unless_told_otherwise() -> None:
    module = nets.ready(nets.chain_bn())
    for share in (True, False):
        copied = copy_module(module, share=share)
        assert copied is not module
        others = copied.state_dict(keep_vars=True)
        for name, tensor in module.state_dict(keep_vars=True).items():
            other = others[name]
            assert (tensor is other) is share, name
            assert torch.equal(tensor, other)


def test_one_layer_under_two_names_stays_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.first = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
            self.second, self.head = self.first, nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.second(torch.relu(self.first(torch.relu(self.enter(x)))))))

    start = candidate(Twice())
    group = trace(start).groups[0]
    pruned = keep_channels(start.module, group, np.arange(0, 8, 2))
    assert pruned.first is pruned.second
    assert check_cut(start.module, group, torch.from_numpy(cases(2))) is None


def test_with_tensors_and_replace_module_leave_the_original() -> None:
    start = candidate(nets.chain())
    before = start.fingerprint
    changed = with_tensors(start.module, "0", weight=torch.zeros(8, 3, 3, 3), bias=torch.ones(8))
    assert isinstance(changed.get_submodule("0").bias, nn.Parameter)
    assert torch.equal(changed.get_submodule("0")(torch.zeros(1, 3, 4, 4)), torch.ones(1, 8, 4, 4))
    assert isinstance(replace_module(start.module, "6", nn.Identity()).get_submodule("6"), nn.Identity)
    assert start.fingerprint == before


class Around(nn.Module):
    """first -> whatever `between` does -> second."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], second: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), second or nn.Conv2d(8, 4, 1)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(x)))


class Seen(nn.Module):
    """The output holds what a layer reads: beside it, or in a sum with it."""

    def __init__(self, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.join = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.join(x, self.second(torch.relu(x)))


def by_hand(x: torch.Tensor) -> torch.Tensor:
    """A softmax that leaves torch, so that the trace cannot see it."""
    return torch.from_numpy(np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True))


MISFITS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    # net -> why the trace fixes its channels ("" where only running it tells) · what running it says
    "softmax": (lambda: Around(lambda x: x.softmax(1)), "softmax takes part", "something mixes the channels"),
    "unit length": (
        lambda: Around(lambda x: functional.normalize(x, dim=1)),
        "linalg_vector_norm takes part",
        "something mixes the channels",
    ),
    "mean over channels": (lambda: Around(lambda x: x - x.mean(1, keepdim=True)), "mean takes part", "something mixes the channels"),
    "response norm": (
        lambda: Around(nn.LocalResponseNorm(5, alpha=1.0)),
        "LocalResponseNorm takes part",
        "something mixes the channels",
    ),
    "group norm by function": (
        lambda: Around(lambda x: functional.group_norm(x, 2)),
        "group_norm takes part",
        "something mixes the channels",
    ),
    "shuffle": (lambda: Around(nn.ChannelShuffle(2)), "", "something mixes the channels"),
    "softmax outside torch": (lambda: Around(by_hand), "nothing reads the channels", "something mixes the channels"),
    "layer norm by function": (
        lambda: Around(lambda x: functional.layer_norm(x, (8, 6, 6))),
        "layer_norm takes part",
        "does not run with fewer channels",
    ),
    "view of a fixed size": (lambda: Around(lambda x: x.view(-1, 288), nn.Linear(288, 4)), "", "does not run with fewer channels"),
    "constant per channel": (
        lambda: Around(lambda x: x - torch.arange(8.0)[:, None, None]),
        "",
        "does not run with fewer channels",
    ),
    "sum in the output": (lambda: Seen(torch.add), "they are an output of the network", "does not run with fewer channels"),
    "concat in the output": (
        lambda: Seen(lambda x, y: torch.cat([x, y], 1)),
        "they are an output of the network",
        "part of the network's output",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_may_not_be_cut_is_known_or_found_by_running_it(name: str) -> None:
    """The plan that a trace without misgivings would make: what `first` makes, `second` reads, flattened or not."""
    build, known, found = MISFITS[name]
    start = candidate(build())
    graph = trace(start)
    second = start.module.second
    index = np.arange(8)[:, None]
    flat = np.arange(288).reshape(8, 36) if isinstance(second, nn.Linear) else index
    naive = ChannelGroup(8, (Slot("first", "out", index), Slot("second", "in", flat)))
    assert found in str(check_cut(start.module, naive, torch.from_numpy(cases(2))))
    if known:
        assert ("first", known) in graph.fixed
        assert "first" not in {group.name for group in graph.groups}
    else:
        group = next(group for group in graph.groups if group.name == "first")
        assert check_cut(start.module, group, torch.from_numpy(cases(2))) is not None


PASSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    **{
        type(layer).__name__: layer
        for layer in (
            *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus()),
            *(nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.LogSigmoid()),
            *(nn.PReLU(), nn.RReLU(), nn.Softsign(), nn.Threshold(0.1, 0.2), nn.Dropout(), nn.Dropout2d(), nn.Identity(), nn.Tanh()),
            *(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.LPPool2d(2, 2), nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2)),
            *(nn.AdaptiveMaxPool2d(2), nn.Upsample(scale_factor=2), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1)),
            *(nn.InstanceNorm2d(8), nn.BatchNorm2d(8).eval()),
        )
    },
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "bicubic": nn.Upsample(scale_factor=2, mode="bicubic"),
    "flip": lambda x: x.flip(1),
    "there and back": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "taken apart and joined": lambda x: torch.cat([part.relu() for part in reversed(x.chunk(2, 1))], 1),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).softmax(1).transpose(1, 2).unflatten(2, (6, 6)),
    "softmax over pixels": lambda x: x.flatten(2).softmax(-1).view(x.shape),
    "largest pixel": lambda x: x.amax((2, 3), keepdim=True),
    "spread": lambda x: x / x.std((2, 3), keepdim=True),
    "in place": lambda x: x.mul_(0.5).add_(1.0).clamp_(-1, 1),
    "condition": lambda x: torch.where(x > 0, x, 0.1 * x),
    "map for all channels": lambda x: x * torch.sigmoid(x.new_ones(1, 1, 6, 6)),
    "double precision": lambda x: x.double().square().float(),
    "starting from zeros": lambda x: torch.zeros_like(x) + x,
}


@pytest.mark.parametrize("name", PASSES)
def test_what_passes_channels_on_is_seen_through(name: str) -> None:
    start = candidate(Around(PASSES[name]))
    group = next(group for group in trace(start).groups if group.name == "first")
    assert group.size == (4 if name == "taken apart and joined" else 8)  # in halves, which are cut alike
    assert check_cut(start.module, group, torch.from_numpy(cases(2))) is None


def test_pixels_folded_into_channels_go_with_their_channel() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelUnshuffle(2), nn.Conv2d(32, 4, 1)))
    (group,) = trace(start).groups
    assert group.consumers[0].index.tolist() == np.arange(32).reshape(8, 4).tolist()
    assert check_cut(start.module, group, torch.from_numpy(cases(2))) is None


def test_misfit_sees_a_wrong_plan() -> None:
    """A group whose reader was numbered wrongly by one."""
    start = candidate(nets.chain())
    index = np.arange(8)[:, None]
    wrong = ChannelGroup(8, (Slot("0", "out", index), Slot("2", "in", np.roll(index, 1, axis=0))))
    assert check_cut(start.module, wrong, torch.from_numpy(cases(2))) == "something mixes the channels"


def test_cut_networks_can_be_cut_again() -> None:
    start = candidate(nets.Transposed())
    once = Candidate(keep_channels(start.module, trace(start).groups[0], np.array([0, 2, 5])), start.example)
    for group in trace(once).groups:
        assert check_cut(once.module, group, once.example) is None
