"""Curves of harm against width: what nobody would miss is free, what decides the answer is dear, and each is what it says it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.data.dataset import Split
from optimize.data.preprocessing import Preprocessing
from optimize.graph.surgery import copy_module
from optimize.graph.trace import trace
from optimize.guard.divergence import divergence, log_shares
from optimize.searching.scan import Curve, scan
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from tests import nets, runs
from tests.nets import candidate, cases, reference


def guard(count: int = 40) -> Split:
    return Split("guard", cases(count, seed=9), np.zeros(count, np.int64), Preprocessing())


def scanned(start: Candidate, original: Candidate | None = None) -> tuple[dict[str, Curve], float]:
    curves, before = scan(start, reference(original or start), guard())
    return {curve.group: curve for curve in curves}, before


@pytest.mark.parametrize("name", ["chain with batch norm", "residual", "concat", "depthwise", "transposed", "reused"])
def test_widths_fall_and_harm_rises_from_nothing(name: str) -> None:
    start = candidate(nets.TOPOLOGIES[name]())
    fingerprint = start.fingerprint
    curves, before = scanned(start)
    assert start.fingerprint == fingerprint
    assert before == pytest.approx(0.0, abs=1e-6)
    sizes = {group.name: group.size for group in trace(start).groups}
    assert {name: curve.widths[0] for name, curve in curves.items()} == sizes
    for curve in curves.values():
        assert curve.harm[0] == 0.0
        assert len(curve.widths) == len(curve.harm)
        assert all(np.diff(curve.widths) < 0)
        channels = [harm for width, harm in zip(curve.widths, curve.harm, strict=True) if width]
        assert all(np.diff(channels) >= 0)
        assert min(curve.harm) >= 0


def doubled() -> Candidate:
    """In the first group channel 1 makes what channel 0 makes."""
    module = copy_module(candidate(nets.chain()).module, share=False)
    with torch.no_grad():
        for key in ("weight", "bias"):
            tensor = module.get_submodule("0").get_parameter(key)
            tensor[1] = tensor[0]
    return Candidate(module, torch.from_numpy(cases(1)))


def test_a_channel_that_says_nothing_new_costs_nothing() -> None:
    curve = scanned(doubled())[0]["0"]
    assert curve.widths[1] <= 7
    free = dict(zip(curve.widths, curve.harm, strict=True))
    assert free[7] == pytest.approx(0.0, abs=1e-5)
    assert all(harm > 1e-4 for width, harm in free.items() if width < 7)


def test_harm_is_what_the_narrowed_network_does() -> None:
    """One group and one reader: the same from the step, the network's own answers, and every guard case."""
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 6), nn.Flatten()))
    [curve] = scanned(start)[0].values()
    inputs = guard().inputs()
    assert len(curve.widths) > 1
    for width, harm in zip(curve.widths[1:], curve.harm[1:], strict=True):
        made = PruneToWidths((("0", width),), at_once=True)(start, reference(start))
        measured = divergence([(log_shares(start.predict(inputs)), log_shares(made.predict(inputs)))])
        assert harm >= measured - 1e-5  # it never falls
        assert harm == pytest.approx(measured, rel=0.02, abs=1e-4) or harm in curve.harm[: curve.widths.index(width)]


def test_a_move_towards_the_original_is_no_gift() -> None:
    """The reader was badly damaged: whatever narrows the group mends it, and still the harm is how far the answers move."""
    original = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 6), nn.Flatten()))
    module = copy_module(original.module, share=False)
    with torch.no_grad():
        weight = module.get_submodule("2").get_parameter("weight")
        weight += 3 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    start = Candidate(module, original.example)
    curves, done = scanned(start, original)
    [curve], inputs = curves.values(), guard().inputs()
    width, harm = curve.widths[1], curve.harm[1]
    made = PruneToWidths((("0", width),), at_once=True)(start, reference(original))
    now, then, aim = (log_shares(each.predict(inputs)) for each in (start, made, original))
    assert divergence([(aim, then)]) < done / 2
    assert harm == pytest.approx(divergence([(now, then)]), rel=0.02)
    assert harm > done / 2


class Branches(nn.Module):
    """Two branches of one kind; the answer listens to the first a hundred times more."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.quiet = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        self.of_loud, self.of_quiet = nn.Conv2d(8, 4, 6), nn.Conv2d(8, 4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        loud, quiet = self.of_loud(torch.relu(self.loud(x))), self.of_quiet(torch.relu(self.quiet(x)))
        return (5 * loud + 0.05 * quiet).flatten(1)


def test_a_group_that_decides_the_answer_costs_more() -> None:
    curves = scanned(candidate(Branches()))[0]
    assert curves["loud"].harm[-1] > 100 * curves["quiet"].harm[-1]


def test_harm_already_done_is_told_apart() -> None:
    original = candidate(nets.chain())
    start = Prune(0.1)(original, reference(original))
    curves, before = scanned(start, original)
    inputs = guard().inputs()
    done = divergence([(log_shares(original.predict(inputs)), log_shares(start.predict(inputs)))])
    assert 0 < before == pytest.approx(done, rel=1e-4)
    assert all(curve.harm[0] == 0 for curve in curves.values())


def test_normal_equations_that_do_not_fit_together_are_made_one_group_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(nets.Residual())
    together = scanned(start)
    monkeypatch.setattr("optimize.searching.scan.MEMORY_BYTES", 0)
    apart = scanned(start)
    assert together[0].keys() == apart[0].keys()
    for name, curve in together[0].items():
        assert apart[0][name].widths == curve.widths
        np.testing.assert_allclose(apart[0][name].harm, curve.harm, rtol=1e-3, atol=1e-5)


def test_nothing_to_cut_is_no_curve() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()))
    assert scan(start, Reference(start, cases(8)), guard())[0] == []


def test_friendly_widths_are_looked_at() -> None:
    original = runs.original()
    curves, _ = scan(original, Reference(original, runs.split("train").inputs()), runs.split())
    for curve in curves:
        assert set(curve.widths[1:]) >= {-(-width // 8) * 8 for width in curve.widths if -(-width // 8) * 8 < curve.widths[0]}


def test_harm_is_measured_on_unseen_inputs_where_there_are_any() -> None:
    start = candidate(nets.chain_bn())
    aim, other = reference(start), Split("guard", cases(40, seed=11), np.zeros(40, np.int64), Preprocessing())
    unseen = replace(aim, unseen=other.inputs())
    assert scan(start, unseen, guard()) == scan(start, aim, other) != scan(start, aim, guard())


def test_the_last_width_is_the_network_without_the_layer() -> None:
    """The same from the step, and the network's own answers; a layer with a stride stays."""
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 8), nn.Flatten()))
    [curve] = scanned(start)[0].values()
    assert curve.widths[-1] == 0
    made = PruneToWidths((("0", 0),))(start, reference(start))
    assert trace(made).groups == ()
    inputs = guard().inputs()
    measured = divergence([(log_shares(start.predict(inputs)), log_shares(made.predict(inputs)))])
    assert curve.harm[-1] == pytest.approx(measured, rel=0.02)
    strided = candidate(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()))
    assert scanned(strided)[0]["0"].widths[-1] > 0


def test_a_layer_that_only_copies_is_not_missed() -> None:
    """Removing what it copies would be dear, removing the layer costs nothing: not even as much as one of its channels."""
    start = candidate(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten()))
    module = copy_module(start.module, share=False)
    module.get_submodule("2").weight.data, module.get_submodule("2").bias.data = torch.eye(6)[:, :, None, None], torch.zeros(6)
    curve = scanned(Candidate(module, start.example))[0]["2"]
    assert curve.widths[-1] == 0
    assert curve.harm[-1] == pytest.approx(0.0, abs=1e-5)
    assert min(curve.harm[1:-1]) > 1e-3
