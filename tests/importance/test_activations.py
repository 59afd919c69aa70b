"""What is read of each group against the networks' own forward, written out."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import Slot, trace
from optimize.importance.activations import channel_maps, over_activations, sample_calibration, thin_positions
from tests.nets import Concat, Residual, Reused, cases, chain_bn, ready


def gathered(module: nn.Module, inputs: np.ndarray) -> dict[str, torch.Tensor]:
    """Everything read of each group, one batch after the other."""
    of = Candidate(module, torch.from_numpy(inputs[:1]))
    groups = trace(of).groups
    parts = defaultdict(list)
    for place, read in over_activations(of, inputs, groups, torch.clone):
        parts[groups[place].name].append(read)
    return {name: torch.cat(found) for name, found in parts.items()}


def agree(found: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(found.clone(), want.detach(), rtol=1e-4, atol=1e-5)


def test_after_norm_relu_and_pooling_with_flattened_maps_given_back() -> None:
    net, inputs = ready(chain_bn()), cases(150)
    found = gathered(net, inputs)
    layers = list(net.children())
    first = nn.Sequential(*layers[:3])(torch.from_numpy(inputs))
    pooled = nn.Sequential(*layers[3:7])(first)  # (n, 6, 3, 3)
    agree(found["0"], first)
    agree(found["3"], pooled.flatten(2))


def test_a_sum_is_read_as_a_sum_and_a_concatenation_by_its_parts() -> None:
    net, x = Residual(), torch.from_numpy(cases(10))
    found = gathered(ready(net), cases(10))
    agree(found["stem"], net.stem(x))
    agree(found["conv1"], functional.relu(net.norm1(net.conv1(net.stem(x)))))
    concat = Concat()
    found = gathered(ready(concat), cases(10))
    both = functional.relu(concat.norm(torch.cat([concat.left(x), concat.right(x)], 1)))
    agree(found["left"], both[:, :6])
    agree(found["right"], both[:, 6:])
    agree(found["join"], functional.relu(concat.join(both)).mean((2, 3))[..., None])


def test_the_first_reader_is_read_at_its_own_positions() -> None:
    class Dense(nn.Module):
        """`start` is read alone first, then behind what `more` made of it."""

        def __init__(self) -> None:
            super().__init__()
            self.start, self.more, self.join = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(9, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.relu(self.start(x))
            out: torch.Tensor = self.join(torch.cat([functional.relu(self.more(x)), x.neg()], 1))
            return out

    net, x = Dense(), torch.from_numpy(cases(10))
    found = gathered(ready(net), cases(10))
    start = functional.relu(net.start(x))
    agree(found["start"], start)
    agree(found["more"], functional.relu(net.more(start)))


def test_a_layer_called_three_times_is_read_three_times() -> None:
    net, x = Reused(), torch.from_numpy(cases(10))
    found = gathered(ready(net), cases(10))
    states = [functional.relu(net.enter(x))]
    for _ in range(2):
        states.append(functional.relu(net.again(states[-1])))
    agree(found["enter"], torch.cat(states))


def test_steps_of_a_sequence_are_positions() -> None:
    slot = Slot("head", "in", np.array([[0, 2], [1, 3]]))
    given = torch.arange(24.0).reshape(2, 3, 4)
    found = channel_maps(nn.Linear(4, 2), slot, given)
    assert found.shape == (2, 2, 3, 2)
    assert found[1, 0].tolist() == [[12.0, 14.0], [16.0, 18.0], [20.0, 22.0]]


def test_stacked_channels_keep_all_their_positions() -> None:
    slot = Slot("head", "in", np.array([[0, 1], [2, 3]]))
    given = torch.arange(24.0).reshape(1, 4, 2, 3)
    found = channel_maps(nn.Conv2d(4, 2, 1), slot, given)
    assert found.shape == (1, 2, 2, 2, 3)
    assert found[0, 1].flatten().tolist() == list(range(12, 24))


@pytest.mark.parametrize(("side", "count"), [(64, 4096), (65, 4096), (3, 9)])
def test_large_maps_are_thinned_evenly(side: int, count: int) -> None:
    channels = torch.arange(side * side).reshape(1, 1, side, side)
    picked = thin_positions(channels)[0, 0]
    assert len(picked) == count
    steps = np.diff(picked.numpy())
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1
    assert picked[-1] >= side * side - 2


def test_the_draw_is_the_seed_s_and_keeps_the_order() -> None:
    of = Candidate(ready(chain_bn()), torch.from_numpy(cases(1)))
    inputs = np.arange(50, dtype=np.float32).reshape(50, 1)
    first, again, other = (sample_calibration(Reference(of, inputs, seed), 20).ravel() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (np.diff(first) > 0).all()
    assert len(first) == 20
    np.testing.assert_array_equal(sample_calibration(Reference(of, inputs, 0), 99), inputs)
