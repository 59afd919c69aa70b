"""Widths repaired at once: every reader is the regression on what it reads in the start, whatever was proposed before."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.trace import trace
from optimize.importance import start_equations
from optimize.reconstruction.moments import Moments, OriginalOutputs
from optimize.steps.prune_to_widths import PruneToWidths
from tests import nets
from tests.nets import TOPOLOGIES, candidate, cases, reference

ROWS = 500
EVERY = 10**6


def widths(of: Candidate) -> dict[str, int]:
    return {group.name: group.size for group in trace(of).groups}


@pytest.mark.parametrize("name", set(TOPOLOGIES) - {"sum onto a concat"})
def test_widths_are_reached_on_every_topology(name: str) -> None:
    start = candidate(TOPOLOGIES[name]())
    before, aim = start.fingerprint, reference(start, 48)
    wanted = {group: 1 + (size - 1) // (2 + turn) for turn, (group, size) in enumerate(widths(start).items())}
    made = PruneToWidths(tuple(wanted.items()), rows=ROWS, at_once=True)(start, aim)
    assert widths(made) == wanted
    assert start.fingerprint == before
    assert np.isfinite(made.predict(cases(2))).all()
    for group, width in wanted.items():
        assert len(made.kept.get(group, range(width))) == width


def test_readers_are_fitted_to_the_starts_own_inputs() -> None:
    """Two groups of a chain are narrowed. Least squares over unfolded patches, from the start's inputs, gives both readers."""
    start = candidate(nets.chain())
    aim = reference(start, 48)
    made = PruneToWidths((("0", 5), ("2", 4)), rows=EVERY, ridge=1e-10, l2=1e9, at_once=True)(start, aim)
    first, second = made.kept["0"], made.kept["2"]
    inputs = torch.from_numpy(aim.calibration)
    with torch.no_grad():
        read = torch.relu(start.module.get_submodule("0")(inputs))
        wanted = start.module.get_submodule("2")(read)
        patches = nn.functional.unfold(read[:, first], 3, stride=2).mT.flatten(0, 1).double()
        targets = wanted[:, second].flatten(2).mT.flatten(0, 1).double()
        pooled = torch.relu(wanted).mean((2, 3))[:, second].double()
        outputs = start.module(inputs).double()
    for layer, rows, aims in (("2", patches, targets), ("6", pooled, outputs)):
        found = torch.linalg.lstsq(torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], 1), aims).solution
        weight, bias = (made.module.get_submodule(layer).get_parameter(key).detach().double() for key in ("weight", "bias"))
        torch.testing.assert_close(weight.flatten(1), found[:-1].T, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(bias, found[-1], rtol=1e-3, atol=1e-4)


def test_nothing_depends_on_what_was_proposed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run makes the later proposals only, and has to end at the same bytes."""
    start = candidate(nets.chain_bn())
    steps = [PruneToWidths((("0", first), ("3", second)), rows=ROWS, at_once=True) for first, second in ((7, 5), (2, 5), (4, 2))]
    aim = reference(start, 48)
    in_order = [step(start, aim).fingerprint for step in steps]
    alone = [step(start, reference(start, 48)).fingerprint for step in steps]
    monkeypatch.setattr(start_equations, "MEMORY_BYTES", 0)
    monkeypatch.setattr(start_equations, "STARTS", 1)
    forgetful = [step(start, reference(start, 48)).fingerprint for step in reversed(steps)]
    assert in_order == alone == forgetful[::-1]


def test_one_pass_serves_all_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moments of a layer are asked for once, by the first proposal that narrows what it reads."""
    start = candidate(nets.chain())
    aim, asked, plain = reference(start, 48), list[list[str]](), OriginalOutputs.moments

    def moments(self: OriginalOutputs, module: nn.Module, names: Sequence[str], changing: Collection[str] = ()) -> dict[str, Moments]:
        asked.append(list(names))
        return plain(self, module, names, changing)

    monkeypatch.setattr(OriginalOutputs, "moments", moments)
    for widths_asked in ((("0", 6),), (("0", 5), ("2", 4)), (("0", 2), ("2", 2))):
        PruneToWidths(widths_asked, rows=ROWS, at_once=True)(start, aim)
    assert asked == [["2"], ["6"]]
    assert aim.memory["start equations"].keys() == {(start.fingerprint, ROWS)}
    assert aim.memory["start equations"][start.fingerprint, ROWS].moments.keys() == {"2", "6"}


def test_no_channel_less_is_no_change() -> None:
    start = candidate(nets.chain())
    made = PruneToWidths((("0", 8),), rows=ROWS, at_once=True)(start, reference(start))
    assert made.fingerprint == start.fingerprint


def test_a_layer_may_go_and_others_be_narrowed() -> None:
    start = candidate(nets.chain())
    made = PruneToWidths((("0", 0), ("2", 3)), rows=ROWS, at_once=True)(start, reference(start, 48))
    assert widths(made) == {"2": 3}
    assert np.isfinite(made.predict(cases(2))).all()
