"""The published floors, as they stand in the study and in proportion elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from optimize.errors import InputError
from optimize.graph.trace import ChannelGroup, Slot, trace
from optimize.searching.published.floors import FLOORS, PUBLISHED_WIDTHS, least_widths
from optimize.searching.published.layout import blocks
from tests.searching.nets import built, five, untrained

# last block first, as the study lists them
PUBLISHED = {
    "S1": "160/96/160/96/56",
    "S2": "160/128/192/112/56",
    "S3": "192/160/192/112/60",
    "S4": "208/192/224/112/60",
    "S5": "256/256/192/112/60",
    "S6": "256/256/160/96/56",
}


def groups(*widths: int) -> list[ChannelGroup]:
    """Stand-ins of these widths, called "0", "1" and so on."""
    return [ChannelGroup(width, (Slot(str(k), "out", np.arange(width)[:, None]),)) for k, width in enumerate(widths)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers(name: str) -> None:
    want = [int(number) for number in PUBLISHED[name].split("/")][::-1]
    assert list(FLOORS[name]) == want
    found = least_widths(name, groups(*PUBLISHED_WIDTHS), {str(k): k for k in range(5)})
    assert list(found.values()) == want


def test_every_convolution_of_a_vgg_block_has_the_blocks_floor() -> None:
    of = untrained(built("vgg.py:vgg16_compact", width=0.25), 3, 32, 32)
    found = list(trace(of).groups)
    assert list(least_widths("S2", found, blocks(of, found)).values()) == [14] * 2 + [28] * 2 + [48] * 3 + [32] * 3 + [40] * 3


def test_a_share_is_rounded_up() -> None:
    # .875, .875, .75, .25 and .3125 of the widths
    of = five((9, 9, 9, 9, 9))
    found = trace(of).groups
    assert list(least_widths("S2", found, blocks(of, found)).values()) == [8, 8, 7, 3, 3]


def test_other_numbers_of_blocks_are_read_in_between() -> None:
    three = least_widths("S2", groups(1000, 1000, 1000), {"0": 0, "1": 1, "2": 2})
    assert list(three.values()) == [875, 750, 313]
    two = least_widths("S2", groups(1000, 1000), {"0": 0, "1": 1})
    assert list(two.values()) == [875, 313]
    # nine: every other one lies half way between its neighbours
    nine = least_widths("S6", groups(*[1000] * 9), {str(k): k for k in range(9)})
    assert list(nine.values()) == [875, 813, 750, 688, 625, 563, 500, 500, 500]
    assert least_widths("S2", groups(1000), {"0": 0}) == {"0": 875}


def test_a_linear_layer_keeps_half_and_256() -> None:
    assert list(least_widths("S2", groups(1024, 600, 512, 300, 100), {}).values()) == [512, 300, 256, 256, 100]


def test_none_leaves_one() -> None:
    of = untrained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 300), nn.ReLU(), nn.Linear(300, 2)), 3, 8, 8)
    found = trace(of).groups
    assert least_widths("none", found, blocks(of, found)) == {"0": 1, "2": 1}


def test_unknown_floors_are_named() -> None:
    with pytest.raises(InputError, match=r"`floors` \(='S7'\) is not known .*: write one of 'S1', .* 'S6', 'none'"):
        least_widths("S7", [], {})
