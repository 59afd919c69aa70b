"""A pass that follows a network while it is cut gives what passes from the input give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.graph import replay
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from tests import nets
from tests.nets import TOPOLOGIES, candidate, cases, reference


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_values_at_hand_change_no_result(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory nothing is kept, and every pass starts at the input."""
    start, inputs = candidate(TOPOLOGIES[name]()), cases(8, seed=5)
    kept = Prune(0.1, rows=500)(start, reference(start, 48))
    monkeypatch.setattr(replay, "MEMORY_BYTES", 0)
    from_input = Prune(0.1, rows=500)(start, reference(start, 48))
    one, other = ({layer: index.tolist() for layer, index in made.kept.items()} for made in (kept, from_input))
    assert one == other
    np.testing.assert_allclose(kept.predict(inputs), from_input.predict(inputs), rtol=1e-3, atol=1e-4)


def test_each_layer_of_a_chain_runs_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cut layer gave is narrowed: of the passes over the batch, each reads one layer's input and runs the layer before it."""
    layers = [part for ends in ((3, 8), (8, 7), (7, 6), (6, 5)) for part in (nn.Conv2d(*ends, 3, padding=1), nn.ReLU())]
    start = candidate(nn.Sequential(*layers, nn.Flatten(), nn.Linear(320, 4)))
    aim = reference(start, 48)
    ran: list[int] = []
    plain = nn.Conv2d.forward

    def forward(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 48:  # not the single cases of traces and checks
            ran.append(self.in_channels)
        return plain(self, x)

    PruneToWidths((("0", 7), ("2", 6), ("4", 5), ("6", 4)), rows=500)(start, aim)  # the original's outputs are known from now on
    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    PruneToWidths((("0", 5), ("2", 4), ("4", 3), ("6", 2)), rows=500)(start, aim)
    # each reads what is left of the layer in front; 8, 7 and 6 would be their widths before the cuts
    assert ran == [3, 5, 4, 3]


class Asks(nn.Module):
    """Divides by a width that is a constant of the trace: after a cut, the trace computes something else than the network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x)) * (6 / self.second.out_channels)
        out: torch.Tensor = self.third(x)
        return out


def test_a_trace_that_became_wrong_on_the_way_is_seen_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    start, inputs = candidate(Asks()), cases(8, seed=5)
    step = PruneToWidths((("first", 6), ("second", 3)), rows=500)
    made = step(start, reference(start, 48))
    monkeypatch.setattr(replay, "_trace", lambda _: [])
    by_hooks = step(start, reference(start, 48))
    np.testing.assert_allclose(made.predict(inputs), by_hooks.predict(inputs), rtol=1e-3, atol=1e-4)


def test_what_one_layer_alone_reads_is_narrowed() -> None:
    module, batch = nets.ready(nets.chain()), torch.from_numpy(cases(4))
    follower = replay.Replay(module, [batch])
    given = dict(follower.inputs(module, ["2"], 0, lambda _, x: x.clone(), ["0", "2", "6"]))
    follower.narrow(["0"], "2", np.array([1, 3]), 1, ["2", "6"])
    place, values = follower._saved[0]
    (value,) = values.values()
    assert str(follower._nodes[place].target) == "2"
    assert torch.equal(value, given["2"][:, [0, 2, 4, 5, 6, 7]])


class Fork(nn.Module):
    """Two layers read what the first one makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        out: torch.Tensor = self.left(x) + self.right(x)
        return out


@pytest.mark.parametrize("names", [["left"], ["left", "right"]])
def test_what_two_layers_read_is_run_again(names: list[str]) -> None:
    module, batch = nets.ready(Fork()), torch.from_numpy(cases(4))
    follower = replay.Replay(module, [batch])
    follower.inputs(module, names, 0, lambda _, x: x.clone(), ["first", "left", "right"])
    follower.narrow(["first"], "left", np.array([1, 3]), 1, ["first", "left", "right"])
    assert not any(str(follower._nodes[place].target) == "left" for place, _ in follower._saved.values())
