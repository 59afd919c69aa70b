"""Where the signals agree and where they cannot: each sees one kind of worthless channel, planted here."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup, trace
from optimize.importance.batchnorm import BatchNormScale
from optimize.importance.ilr import InsideLayerRanking
from optimize.importance.magnitude import Magnitude
from optimize.importance.output_error import Elimination, eliminate
from optimize.importance.rank import Rank
from optimize.importance.redundancy import Redundancy
from optimize.importance.signal import Signal
from optimize.importance.snip import Snip
from optimize.importance.taylor import Taylor
from optimize.reconstruction.layer_matrix import columns
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import build_problem
from tests.nets import INTRICATE, TOPOLOGIES, candidate, cases, chain, ready, reference

MEASURES: tuple[Literal["cosine", "pearson", "iou"], ...] = ("cosine", "pearson", "iou")
SIGNALS: tuple[Signal, ...] = (
    *(Magnitude(1), Magnitude(2), BatchNormScale(), Taylor(), Snip(), InsideLayerRanking(), Rank(), Rank(effective=True)),
    *(Redundancy(measure, pooled) for measure in MEASURES for pooled in (False, True)),
)


def eliminated(of: Candidate, inputs: np.ndarray, group: ChannelGroup) -> Elimination:
    """The order in which output error removes a group's channels."""
    graph, (slot,) = trace(of), group.consumers
    moments = OriginalOutputs(of.module, inputs, [slot.module], rows=2000, seed=0).moments(of.module, [slot.module])[slot.module]
    problem = build_problem(of.module, of.module, graph, slot.module, moments, {}, ridge=1e-4)
    return eliminate([(problem, columns(of.module.get_submodule(slot.module), slot.index))])  # type: ignore[arg-type]


def test_a_redundant_channel_is_found_by_output_error_and_missed_by_magnitude() -> None:
    """Channel 5 is three times channel 2: large filters, large activations, read like any other, and yet free."""
    net, inputs = ready(chain()), cases(200)
    with torch.no_grad():
        weight, bias = net.get_submodule("0").get_parameter("weight"), net.get_submodule("0").get_parameter("bias")
        weight[5], bias[5] = 3 * weight[2], 3 * bias[2]
    of = Candidate(net, torch.from_numpy(inputs[:1]))
    group = trace(of).groups[0]
    found = eliminated(of, inputs, group)
    assert found.order[0] in (2, 5)
    assert found.cost[0] < 1e-2 * found.cost[1]

    def score(signal: Signal) -> np.ndarray:
        return signal(of, Reference(of, inputs), [group])[0]

    for measure in MEASURES[:2]:
        assert set(np.argsort(score(Redundancy(measure)))[:2].tolist()) == {2, 5}
    for blind in (Magnitude(1), Magnitude(2), InsideLayerRanking()):
        assert score(blind).argmax() == 5


def test_a_channel_nobody_weighs_is_found_by_the_loss_and_by_output_error_alone() -> None:
    net, inputs = ready(chain()), cases(200)
    with torch.no_grad():
        net.get_submodule("2").get_parameter("weight")[:, 4] = 0
        net.get_submodule("0").get_parameter("weight")[4] *= 3
    of = Candidate(net, torch.from_numpy(inputs[:1]))
    group = trace(of).groups[0]
    found = eliminated(of, inputs, group)
    assert found.order[0] == 4
    for sees in (Taylor(), Snip()):
        (score,) = sees(of, Reference(of, inputs), [group])
        assert score[4] == 0 < np.delete(score, 4).min()
    for blind in (Magnitude(2), InsideLayerRanking()):
        assert blind(of, Reference(of, inputs), [group])[0].argmax() == 4


@pytest.mark.parametrize("signal", SIGNALS, ids=repr)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_signal_keeps_the_contract_on_every_topology(name: str, signal: Signal) -> None:
    of = candidate(TOPOLOGIES[name]())
    groups = trace(of).groups
    given, before = reference(of, 20), of.fingerprint
    found = signal(of, given, groups)
    assert [score.shape for score in found] == [(group.size,) for group in groups]
    assert all(score.dtype == np.float64 for score in found)
    norms = [any(isinstance(of.module.get_submodule(slot.module), nn.BatchNorm2d) for slot in group.slots) for group in groups]
    for score, normed in zip(found, norms, strict=True):
        assert (np.isnan(score).all() and not normed) if isinstance(signal, BatchNormScale) and not normed else np.isfinite(score).all()
    for score, again in zip(found, signal(of, given, groups), strict=True):
        np.testing.assert_array_equal(score, again)
    assert of.fingerprint == before


@pytest.mark.parametrize("name", INTRICATE)
def test_every_signal_scores_what_hangs_together_as_one(name: str) -> None:
    of = candidate(INTRICATE[name]())
    groups, given = trace(of).groups, reference(of, 8)
    for signal in SIGNALS:
        found = signal(of, given, groups)
        assert [score.shape for score in found] == [(group.size,) for group in groups], signal
        assert isinstance(signal, BatchNormScale) or all(np.isfinite(score).all() for score in found), signal
