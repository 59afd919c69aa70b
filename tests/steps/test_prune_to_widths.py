"""Narrow reaches the widths it is given, and goes about it as Prune does; Chain is the steps one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.trace import trace
from optimize.steps.chain import Chain
from optimize.steps.factorize import Factorize
from optimize.steps.fit_output import FitOutput
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from optimize.steps.repair import Repair
from tests import nets
from tests.nets import TOPOLOGIES, candidate, cases, reference

ROWS = 500


def widths(of: Candidate) -> dict[str, int]:
    return {group.name: group.size for group in trace(of).groups}


@pytest.mark.parametrize("name", set(TOPOLOGIES) - {"sum onto a concat"})
def test_widths_are_reached_exactly(name: str) -> None:
    start = candidate(TOPOLOGIES[name]())
    before, aim = start.fingerprint, reference(start, 48)
    wanted = {group: 1 + (size - 1) // (2 + turn) for turn, (group, size) in enumerate(widths(start).items())}
    step = PruneToWidths(tuple(wanted.items()), rows=ROWS)
    made = step(start, aim)
    assert widths(made) == wanted
    assert (made.lineage, start.lineage) == ((step,), ())
    assert start.fingerprint == before
    assert step(start, aim).fingerprint == made.fingerprint
    assert np.isfinite(made.predict(cases(2))).all()
    for group, width in wanted.items():
        assert len(made.kept.get(group, range(width))) == width


def test_a_group_that_is_not_named_stays() -> None:
    start = candidate(nets.Concat())
    made = PruneToWidths((("right", 2),), rows=ROWS)(start, reference(start))
    assert widths(made) == {"left": 6, "right": 2, "join": 7}
    for key in ("left.weight", "left.bias"):
        assert torch.equal(made.module.get_parameter(key), start.module.get_parameter(key))


@pytest.mark.parametrize("asked", [(), (("0", 8), ("2", 6)), (("0", 9), ("2", 10**6)), (("nowhere", 1),)], ids=str)
def test_what_is_no_narrower_changes_nothing_but_roundings(asked: tuple[tuple[str, int], ...]) -> None:
    start = candidate(nets.chain())
    made, inputs = PruneToWidths(asked)(start, reference(start)), cases(8, seed=5)
    assert widths(made) == widths(start)
    assert made.parameters == start.parameters
    np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("group", "width"), [("0", -3), ("2", 0), ("2", -1)])
def test_one_channel_is_left_of_a_layer_that_stays(group: str, width: int) -> None:
    """The second layer has a stride: the network does not run without it."""
    start = candidate(nets.chain())
    assert widths(PruneToWidths(((group, width),), rows=ROWS)(start, reference(start))) == {"0": 8, "2": 6} | {group: 1}


def test_a_width_of_nothing_takes_the_layer_out_and_fits_its_reader_to_what_the_layer_read() -> None:
    """The reader's weights, found by least squares over the patches of the network's input."""
    start = candidate(nets.chain())
    before, aim = start.fingerprint, reference(start, 48)
    made = PruneToWidths((("0", 0),), ridge=0.0, l2=1e6)(start, aim)
    assert (widths(made), start.fingerprint) == ({"2": 6}, before)
    assert made.kept["0"].tolist() == []
    inputs = torch.from_numpy(aim.calibration)
    with torch.no_grad():
        wanted = start.module[:3](inputs).flatten(2).mT.flatten(0, 1)  # type: ignore[index]
        given = torch.nn.functional.unfold(torch.relu(inputs), 3, stride=2).mT.flatten(0, 1)
    found = torch.linalg.lstsq(torch.cat([given, torch.ones(len(given), 1)], 1), wanted).solution
    np.testing.assert_allclose(made.module.get_parameter("2.weight").detach().flatten(1), found[:-1].T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(made.module.get_parameter("2.bias").detach(), found[-1], rtol=1e-3, atol=1e-4)


def test_layers_in_a_row_go_together_and_others_are_narrowed_as_well() -> None:
    layers = [part for ends in ((3, 8), (8, 7), (7, 6), (6, 5)) for part in (nn.Conv2d(*ends, 3, padding=1), nn.ReLU())]
    start = candidate(nn.Sequential(*layers, nn.Flatten(), nn.Linear(320, 4)))
    made = PruneToWidths((("0", 0), ("2", 0), ("4", 3)), rows=ROWS)(start, reference(start))
    assert widths(made) == {"4": 3, "6": 5}
    assert made.module.get_submodule("4").in_channels == 3
    assert np.isfinite(made.predict(cases(2))).all()


@pytest.mark.parametrize("name", ["chain", "chain with batch norm", "residual", "concat", "depthwise", "transposed"])
def test_it_is_what_prune_makes_of_the_same_widths(name: str) -> None:
    """The elimination's order does not depend on where it ends, so both keep the same channels and fit the same readers."""
    start = candidate(TOPOLOGIES[name]())
    aim = reference(start, 48)
    pruned = Prune(0.2, rows=ROWS)(start, aim)
    assert widths(pruned) != widths(start)
    made = PruneToWidths(tuple(widths(pruned).items()), rows=ROWS)(start, aim)
    assert {layer: index.tolist() for layer, index in made.kept.items()} == {layer: index.tolist() for layer, index in pruned.kept.items()}
    assert made.fingerprint == FitOutput(rows=ROWS)(pruned, aim).fingerprint


def test_a_chain_is_its_steps_by_hand() -> None:
    start = candidate(nets.chain_bn())
    before, aim = start.fingerprint, reference(start)
    steps = (PruneToWidths((("0", 5),), rows=ROWS), Repair(rows=ROWS), Factorize(0.5))
    made, by_hand = Chain(steps)(start, aim), start
    for step in steps:
        by_hand = step(by_hand, aim)
    assert made.fingerprint == by_hand.fingerprint
    assert made.lineage == by_hand.lineage == steps
    assert {layer: index.tolist() for layer, index in made.kept.items()} == {layer: index.tolist() for layer, index in by_hand.kept.items()}
    assert start.fingerprint == before


def test_a_chain_of_nothing_is_what_it_was_given() -> None:
    start = candidate(nets.chain())
    assert Chain(())(start, reference(start)) is start
