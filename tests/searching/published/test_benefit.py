"""Benefits of the 5-CNN computed by hand, of other layers by the macs they save."""

from __future__ import annotations

import pytest
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.macs import macs
from optimize.graph.trace import trace
from optimize.searching.published.benefit import benefit, nearness, priors
from optimize.searching.published.layout import blocks, feature_maps
from optimize.steps.remove_channels import RemoveChannels
from tests import nets
from tests.nets import TOPOLOGIES
from tests.searching.nets import built, five, untrained


def test_the_5_cnn_by_hand() -> None:
    of = untrained(built("cnn5.py:cnn5"), 3, 224, 224)
    groups, maps = trace(of).groups, feature_maps(of)
    scale = priors(groups, blocks(of, groups))
    found = [benefit(of.module, group, maps, scale[group.name]) for group in groups]
    own = [224 * 224 * 3 * 9, 112 * 112 * 64 * 9, 56 * 56 * 128 * 9, 28 * 28 * 256 * 9, 14 * 14 * 512 * 9]
    after = [112 * 112 * 128 * 9, 56 * 56 * 256 * 9, 28 * 28 * 512 * 9, 14 * 14 * 512 * 9, 0]
    near = [1 / 8, 0, 0, 0, 0]  # 64 is eight above 56; the others are farther from what is below them
    prior = [0.90, 0.95, 1.0, 1.10, 1.15]
    want = [p * (o + 0.25 * n + 0.10 * a) for p, o, n, a in zip(prior, own, after, near, strict=True)]
    assert want == pytest.approx([4_470_681.61125, 8_580_096, 4_515_840, 2_235_340.8, 1_038_643.2], rel=1e-12)
    assert found[:5] == pytest.approx(want, rel=1e-12)
    assert found[5:] == [0.0]  # the linear layer of 1024: plateaus end at 512


@pytest.mark.parametrize(
    ("width", "share"),
    [(20, 0), (32, 0), (33, 1), (40, 1 / 8), (41, 1), (47, 1 / 7), (48, 1 / 8), (64, 1 / 8), (80, 0), (81, 1), (264, 1 / 8), (265, 0)],
)
def test_steps_to_the_next_lower_plateau(width: int, share: float) -> None:
    assert nearness(width) == share


@pytest.mark.parametrize("name", ["chain with batch norm", "residual", "transposed", "depthwise", "concat", "reused"])
def test_own_and_next_are_what_a_removal_saves(name: str) -> None:
    """Own and next count whole, they are the macs that go with one channel; linear layers, which count nothing, aside."""
    of = nets.candidate(TOPOLOGIES[name]())
    maps = feature_maps(of)
    for group in trace(of).groups:
        both = benefit(of.module, group, maps) + 0.75 * _read(of, group.name)
        made = RemoveChannels(group.name, (1,), "none")(of, Reference(of, nets.cases(4)))
        linear = sum(layer.in_features * layer.out_features for layer in of.module.modules() if isinstance(layer, nn.Linear))
        left = sum(layer.in_features * layer.out_features for layer in made.module.modules() if isinstance(layer, nn.Linear))
        saved = macs(of) - macs(made) - (linear - left)
        # a layer that makes and reads the group loses a row and a column, which share their corner
        corner = 3 * 64 * 9 if (name, group.name) == ("reused", "enter") else 0
        assert both == pytest.approx(saved + corner), group.name


def _read(of: Candidate, name: str) -> float:
    """The macs of the convolutions that read one channel of the group, counted as positions x filters."""
    group = next(group for group in trace(of).groups if group.name == name)
    maps, total = feature_maps(of), 0.0
    for slot in group.consumers:
        layer = of.module.get_submodule(slot.module)
        if isinstance(layer, nn.ConvTranspose2d):
            total += maps[slot.module].positions_read * layer.out_channels * 4
        elif isinstance(layer, nn.Conv2d):
            total += maps[slot.module].positions_made * layer.out_channels * layer.kernel_size[0] ** 2
    return total


def test_priors_of_five_single_layers_and_of_more() -> None:
    of = five()
    groups = trace(of).groups
    assert list(priors(groups, blocks(of, groups)).values()) == [0.90, 0.95, 1.0, 1.10, 1.15]
    vgg = untrained(built("vgg.py:vgg16_compact", width=0.0625), 3, 32, 32)
    groups = trace(vgg).groups
    found = list(priors(groups, blocks(vgg, groups)).values())
    assert (found[0], found[6], found[12]) == pytest.approx((0.88, (0.88 + 1.15) / 2, 1.15))
    assert found == sorted(found)
    assert len(found) == 13


def test_one_layer_and_linear_ones_weigh_one() -> None:
    of = untrained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 30), nn.ReLU(), nn.Linear(30, 2)), 3, 8, 8)
    groups = trace(of).groups
    assert priors(groups, blocks(of, groups)) == {"0": 1.0, "2": 1.0}
