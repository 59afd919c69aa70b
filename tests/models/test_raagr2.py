from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from optimize.candidate import Candidate
from optimize.graph.cut_check import check_cut
from optimize.graph.trace import trace
from optimize.loading.factory import load_factory
from tests.models.conftest import ROOT

FILE = f"{ROOT}/models/raagr2.py"
UPS, GATES, RECURRENT = [1_180_416, 295_296, 73_920, 18_528], [99_840, 25_344, 6_528, 1_728], [269_056, 68_992, 18_112, 4_960]

PUBLISHED: dict[str, tuple[int, int, list[int], list[int]]] = {
    # variant: parameters, multiply-accumulates at 4x192x192, parameters of each encoder stage, of each decoder stage
    "base": (8_911_301, 7_730_380_800, [14_176, 82_880, 325_504, 1_289_984, 5_135_872], RECURRENT),
    "shared": (5_046_221, 5_779_832_832, [5_736, 36_032, 141_696, 561_920, 2_237_952], RECURRENT),
    "paired": (5_051_061, 5_779_832_832, [5_776, 36_352, 142_336, 563_200, 2_240_512], RECURRENT),
    "encoder-decoder": (
        6_621_141,
        7_933_575_168,
        [5_776, 36_352, 142_336, 563_200, 2_240_512],
        [1_450_496, 364_800, 92_288, 23_616],
    ),
}


def make(**args: object) -> nn.Module:
    module = load_factory(f"{FILE}:raagr2")(**args)
    assert isinstance(module, nn.Module)
    return module.eval()


def counts(modules: object) -> list[int]:
    return [sum(parameter.numel() for parameter in module.parameters()) for module in modules]  # type: ignore[attr-defined]


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_counts(variant: str) -> None:
    parameters, products, encoder, decoder = PUBLISHED[variant]
    with torch.device("meta"):
        module = make(variant=variant)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert module(torch.zeros(1, 4, 192, 192)).shape == (1, 5, 192, 192)
    assert counter.get_total_flops() == 2 * products
    assert counts(module.encoder) == encoder
    assert (counts(module.up), counts(module.gate), counts(module.decoder)) == (UPS, GATES, decoder)
    assert counts([module.head, module]) == [165, parameters]
    assert sum(encoder + decoder + UPS + GATES) + 165 == parameters


def test_published_modules_of_the_base() -> None:
    with torch.device("meta"):
        module = make()
    kinds = [type(layer) for layer in module.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.BatchNorm2d)) == (92, 69)
    assert sum(layer.num_features for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)) == 11_328
    assert sum(buffer.numel() for buffer in module.buffers()) == 22_725


def test_kernels_are_shared_as_the_variant_says() -> None:
    for variant, different in (("shared", 1), ("paired", 2), ("encoder-decoder", 1)):
        for stage in make(variant=variant, width=0.125).encoder:  # type: ignore[union-attr]
            kernels = [id(layer.weight) for layer in stage.depthwise]
            assert len(set(kernels)) == len({id(layer.bias) for layer in stage.depthwise}) == different
            assert kernels[0] == kernels[1]
            assert kernels[2] == kernels[3]
            assert [layer.dilation[0] for layer in stage.depthwise] == [1, 3, 6, 9]


def test_a_recurrent_unit_is_called_three_times_on_its_input_and_its_last_output() -> None:
    unit = load_factory(f"{FILE}:Recurrent")(3)
    assert isinstance(unit, nn.Module)
    x = torch.randn(1, 3, 5, 5)
    step = unit.eval().step
    torch.testing.assert_close(unit(x), step(x + step(x + step(x))))  # type: ignore[operator]


@pytest.mark.parametrize("variant", PUBLISHED)
def test_everything_but_the_head_can_be_cut_at_any_width(variant: str) -> None:
    module = make(variant=variant, width=0.25, outputs=2)
    start = Candidate(module, torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)))
    graph = trace(start)
    inside = {"head"} | ({f"{part}.depthwise" for part in ("encoder.0",)} if variant != "base" else set())
    assert {layer if layer == "head" else layer.rpartition(".")[0] for layer, _ in graph.fixed} <= inside
    sizes = {group.name: group.size for group in graph.groups}
    widths = [8, 16, 32, 64, 128]
    assert [sizes[f"encoder.{place}.fuse.0"] for place in range(5)] == widths
    assert [sizes[f"up.{place}.1"] for place in range(4)] == widths[-2::-1]
    assert [sizes[f"gate.{place}.of_gate.0"] for place in range(4)] == [width // 2 for width in widths[-2::-1]]
    skip = next(group for group in graph.groups if group.name == "encoder.1.fuse.0")
    slots = {(slot.module, slot.side) for slot in skip.slots}
    assert {("gate.2.weigh.0", "out"), ("gate.2.of_skip.0", "in"), ("encoder.2.fuse.0", "in")} <= slots
    for group in (skip, *graph.groups[:2]):
        assert check_cut(module, group, start.example) is None


def test_widths_have_to_be_multiples_for_the_base_only() -> None:
    build = load_factory(f"{FILE}:RAAGR2")
    for variant, widths in (("base", (6, 12, 24)), ("shared", (5, 7, 9))):
        net = build(3, 1, widths, variant)
        assert isinstance(net, nn.Module)
        assert net.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 1, 8, 8)
    assert all(after % before == 0 for before, after in pairwise((3, 6, 12, 24)))
