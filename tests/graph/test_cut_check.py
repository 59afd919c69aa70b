"""All cuts tried at once give what each gives alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models import mobilenet, resnet_cifar, unet, vgg
from optimize.candidate import Candidate
from optimize.graph.channel_groups import ChannelGroup, Slot
from optimize.graph.cut_check import check_cut, check_cuts
from optimize.graph.surgery import copy_module, mask_in_place
from optimize.graph.trace import trace
from tests.graph.test_surgery import MISFITS
from tests.nets import INTRICATE, TOPOLOGIES, candidate, cases

EVERY: dict[str, Callable[[], nn.Module]] = {**TOPOLOGIES, **INTRICATE, **{name: build for name, (build, _, _) in MISFITS.items()}}


@pytest.mark.parametrize("name", EVERY)
def test_all_at_once_is_each_alone(name: str) -> None:
    start = candidate(EVERY[name]())
    inputs, groups = torch.from_numpy(cases(2)), trace(start).groups
    assert check_cuts(start.module, groups, inputs) == [check_cut(start.module, group, inputs) for group in groups]


WRONG: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda x: x.softmax(1),
    "shuffle": nn.ChannelShuffle(2),
    "group norm": nn.GroupNorm(2, 8, affine=False),
    "unit length": lambda x: functional.normalize(x, dim=1),
    "fixed shape": lambda x: x.view(-1, 8, 6, 6),
    "constant per channel": lambda x: x - torch.arange(8.0)[:, None, None],
    "first half": lambda x: torch.cat([x[:, :4].relu(), x[:, 4:].tanh()], 1),
}


class Row(nn.Module):
    """Convolutions in a row, something between each and the next, and channels of one of them in the output if asked for."""

    def __init__(self, between: Sequence[Callable[[torch.Tensor], torch.Tensor]], output: int | None = None) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 8, 3), *(nn.Conv2d(8, 8, 1) for _ in between)])
        self.between, self.output, self.runs = between, output, [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [self.convs[0](x)]
        for between, conv in zip(self.between, self.convs[1:], strict=True):
            values.append(conv(between(values[-1])))
        return values[-1] if self.output is None else torch.cat([values[-1], values[self.output]], 1)


def row(between: Sequence[Callable[[torch.Tensor], torch.Tensor]], output: int | None = None) -> tuple[Candidate, list[ChannelGroup]]:
    """The network, and the groups that a trace would find that sees nothing between two layers."""
    index = np.arange(8)[:, None]
    slots = [(Slot(f"convs.{i}", "out", index), Slot(f"convs.{i + 1}", "in", index)) for i in range(len(between))]
    return candidate(Row(between, output)), [ChannelGroup(8, pair) for pair in slots]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cut_among_right_ones_is_found_and_no_other(name: str) -> None:
    start, groups = row([torch.relu, torch.tanh, WRONG[name], torch.relu, WRONG[name], torch.relu])
    reasons = check_cuts(start.module, groups, torch.from_numpy(cases(2)))
    assert reasons == [check_cut(start.module, group, torch.from_numpy(cases(2))) for group in groups]
    assert [place for place, reason in enumerate(reasons) if reason] == [2, 4]


def test_a_wrong_plan_and_channels_in_the_output_are_found_among_right_ones() -> None:
    start, groups = row([torch.relu] * 5, output=3)
    maker, reader = groups[1].slots
    groups[1] = ChannelGroup(8, (maker, Slot(reader.module, "in", np.roll(reader.index, 1, axis=0))))
    reasons = check_cuts(start.module, groups, torch.from_numpy(cases(2)))
    assert reasons == [None, "something mixes the channels", None, "the channels are part of the network's output", None]


def test_a_signal_that_dies_out_hides_nothing() -> None:
    """With half of the channels at every layer, the output of twenty layers in a row would hardly depend on the input."""
    start, groups = row([*[torch.relu] * 3, lambda x: x.softmax(1), *[lambda x: 1.5 * x] * 20])
    inputs, masked = torch.from_numpy(cases(2)), copy_module(start.module)
    for group in groups:
        mask_in_place(masked, group, np.arange(4))
    with torch.inference_mode():
        assert masked(inputs).std((0, 2, 3)).mean() < 0.1 * start.module(inputs).std((0, 2, 3)).mean()
    reasons = check_cuts(start.module, groups, inputs)
    assert [place for place, reason in enumerate(reasons) if reason] == [3]


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_a_sum_that_the_trace_missed_is_no_two_groups(size: int) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.read = nn.Conv2d(3, size, 3), nn.Conv2d(3, size, 3), nn.Conv2d(size, 4, 1)
            self.also = nn.Conv2d(size, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            joined = self.left(x) + self.right(x)
            return self.read(joined) + self.also(joined)

    start, index = candidate(Sum()), np.arange(size)[:, None]
    groups = [ChannelGroup(size, (Slot(a, "out", index), Slot(b, "in", index))) for a, b in (("left", "read"), ("right", "also"))]
    reasons = check_cuts(start.module, groups, torch.from_numpy(cases(2)))
    assert reasons == [check_cut(start.module, group, torch.from_numpy(cases(2))) for group in groups]
    assert None not in reasons


def test_the_number_of_runs_does_not_grow_with_the_layers() -> None:
    def runs(layers: int, wrong: int = 0) -> int:
        start, groups = row([*[torch.relu] * layers, *[WRONG["fixed shape"]] * wrong])
        counted: list[object] = []
        # a hook is copied with the network, and the list it closes over too; an object of its own class is shared
        with pytest.MonkeyPatch.context() as patch:
            run = Row.forward
            patch.setattr(Row, "forward", lambda net, x: counted.append(net) or run(net, x))
            assert sum(reason is not None for reason in check_cuts(start.module, groups, torch.from_numpy(cases(2)))) == wrong
        return len(counted)

    assert runs(4) == runs(32) == 5
    # one wrong group of 33 is found in six halvings, each of at most twice five runs
    assert runs(32, wrong=1) <= 5 + 6 * 8 + 4


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: resnet_cifar.resnet20(4), (3, 16, 16)),
        (lambda: unet.unet(3, 1, width=4, depth=2), (3, 16, 16)),
        (lambda: mobilenet.mobilenet(4, 0.25), (3, 32, 32)),
        (lambda: vgg.vgg16_compact(4, 0.0625), (3, 32, 32)),
    ],
    ids=["resnet", "unet", "mobilenet", "vgg"],
)
def test_architectures(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    start = candidate(build(), shape)
    inputs, groups = torch.from_numpy(cases(2, shape)), trace(start).groups
    assert groups
    assert check_cuts(start.module, groups, inputs) == [check_cut(start.module, group, inputs) for group in groups]
