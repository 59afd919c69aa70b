"""Sizes of maps, and the blocks that show in them, against networks written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.trace import trace
from optimize.searching.published.layout import FeatureMaps, blocks, feature_maps
from tests import nets
from tests.searching.nets import built, five, untrained


def placed(of: Candidate) -> dict[str, int]:
    return blocks(of, trace(of).groups)


def test_maps_of_every_layer() -> None:
    of = untrained(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2)), 3, 8, 8
    )
    assert feature_maps(of) == {"0": FeatureMaps(64, 36, 6.0), "2": FeatureMaps(36, 4, 2.0), "5": FeatureMaps(1, 1, 1.0)}


def test_calls_add_up() -> None:
    assert feature_maps(nets.candidate(nets.Reused()))["again"] == FeatureMaps(3 * 64, 3 * 64, 8.0)


def test_maps_of_one_and_three_dimensions() -> None:
    line = untrained(nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 2, stride=2)), 1, 12)
    assert feature_maps(line) == {"0": FeatureMaps(12, 10, 10.0), "2": FeatureMaps(10, 5, 5.0)}
    volume = untrained(nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1)), 1, 4, 4, 4)
    assert feature_maps(volume)["0"] == FeatureMaps(64, 64, pytest.approx(4.0))


def test_five_pools_make_five_blocks_and_the_head_is_in_none() -> None:
    assert placed(five()) == {"0": 0, "4": 1, "8": 2, "12": 3, "16": 4}


def test_the_convolutions_of_vgg16() -> None:
    of = untrained(built("vgg.py:vgg16_compact", width=0.0625), 3, 32, 32)
    assert list(placed(of).values()) == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


def test_strides_count_and_missing_borders_do_not() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 2, 1)]
    assert placed(untrained(nn.Sequential(*layers), 3, 16, 16)) == {"0": 0, "2": 0, "4": 1}


def test_down_and_up_again_is_the_same_block() -> None:
    assert placed(nets.candidate(nets.Transposed())) == {"enter": 0, "down": 1, "up": 0, "join": 0}


def test_names_do_not_matter() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z, self.a, self.m = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.m(torch.relu(self.a(nn.functional.max_pool2d(torch.relu(self.z(x)), 2))))

    assert placed(untrained(Shuffled(), 3, 8, 8)) == {"z": 0, "a": 1}
