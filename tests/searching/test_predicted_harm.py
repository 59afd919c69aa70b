"""Predicted harm against what the network does: changed outputs of the network itself are the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.trace import Graph, trace
from optimize.reconstruction.channel_removal import cut_and_refit, unprunable_reason
from optimize.reconstruction.held_out import CheckedProblem
from optimize.reconstruction.layer_repair import RIDGE, repairable
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem
from optimize.searching.harm_probes import PROBES, output_probes
from optimize.searching.predicted_harm import PredictedHarm
from optimize.searching.width_changes import ReaderChange, changed_module, width_changes
from tests import nets
from tests.nets import candidate, cases, reference

EVERY: dict[str, Callable[[], nn.Module]] = {**nets.TOPOLOGIES, **nets.INTRICATE}
SMALL = 1e-3


def problems_of(start: Candidate, graph: Graph, names: list[str], layers: list[str]) -> list[Problem]:
    aim = reference(start, count=64)
    targets = OriginalOutputs(start.module, aim.calibration, layers, rows=2000, seed=0)
    moments = targets.moments(start.module, names)
    return [build_problem(start.module, start.module, graph, name, moments[name], {}, RIDGE) for name in names]


def changes_of(start: Candidate) -> list[tuple[ReaderChange, ...]]:
    """Two widths of every group that can be cut."""
    graph = trace(start)
    layers = repairable(start.module, start.module, graph)
    changes = []
    for group in graph.groups:
        if unprunable_reason(group, start.module, layers, cases(2, tuple(start.example.shape[1:]))) is None:
            problems = problems_of(start, graph, [slot.module for slot in group.consumers], layers)
            removals = [np.arange(1), np.arange(group.size // 2)]
            changes.append(tuple(width_changes(start.module, group, problems, removals)))
    return changes


def weighted(outputs: torch.Tensor, moved: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Half of the weighted d' F d of each case, F written out as a matrix; (N, K) and (N, K, *spatial)."""
    logits = torch.cat([torch.zeros_like(outputs), outputs], 1) if outputs.shape[1] == 1 else outputs
    steps = torch.cat([torch.zeros_like(moved), moved], 1) if outputs.shape[1] == 1 else moved
    shares, d = (part.movedim(1, -1).double() for part in (logits.softmax(1), steps))
    matrix = torch.diag_embed(shares) - shares[..., :, None] * shares[..., None, :]
    squares = (d[..., None, :] @ matrix @ d[..., :, None])[..., 0, 0]
    return (squares * weights).flatten(1).sum(1) / 2 if squares.dim() > 1 else squares * weights / 2


def predicted(
    module: nn.Module, inputs: list[torch.Tensor], weights: list[torch.Tensor], changes: list[tuple[ReaderChange, ...]]
) -> list[torch.Tensor]:
    shares = PredictedHarm(module, "logits", inputs, weights, 0)(changes)
    assert not isinstance(shares, str), shares
    return shares


@pytest.mark.parametrize("name", EVERY)
def test_changes_at_full_width_are_the_cut_and_repaired_network(name: str) -> None:
    start = candidate(EVERY[name]())
    graph = trace(start)
    layers = repairable(start.module, start.module, graph)
    inputs = torch.from_numpy(cases(8, seed=3))
    for group in graph.groups:
        if unprunable_reason(group, start.module, layers, cases(2)) is not None:
            continue
        problems = problems_of(start, graph, [slot.module for slot in group.consumers], layers)
        gone = np.arange(group.size // 2)
        changes = width_changes(start.module, group, problems, [gone])
        cut, _ = cut_and_refit(start.module, group, np.setdiff1d(np.arange(group.size), gone), list(map(CheckedProblem, problems)), {})
        with torch.inference_mode():
            expected, actual = cut(inputs.clone()), changed_module(start.module, changes, 0)(inputs.clone())
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", EVERY)
def test_small_changes_move_the_outputs_as_predicted(name: str) -> None:
    """Changes are scaled down until the network is as good as linear; outputs are pooled, so that four probes are exact."""
    net = EVERY[name]()
    start = candidate(nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()) if name not in POOLED else net)
    changes = changes_of(start)
    if not changes:
        pytest.skip("nothing can be cut")
    small = [tuple(replace(part, weight=SMALL * part.weight, bias=SMALL * part.bias) for part in group) for group in changes]
    inputs = torch.from_numpy(cases(12, seed=3))
    weights = torch.full((12,), 1 / 12, dtype=torch.float64)
    found_shares = predicted(start.module, [inputs[:7], inputs[7:]], [weights[:7], weights[7:]], small)
    exact = nn.Module.double(changed_module(start.module, [], 0))
    for group, found in zip(small, found_shares, strict=True):
        for number, shares in enumerate(found):
            changed = _in_double(start.module, group, number)
            with torch.inference_mode():
                outputs, moved = exact(inputs.double()), changed(inputs.double())
            expected = weighted(outputs, moved - outputs, weights)
            assert float(shares.sum()) == pytest.approx(float(expected.sum()), rel=0.03)


POOLED = {"chain", "chain with batch norm", "residual", "concat", "reused", "grouped", "recurrent"}


def _in_double(module: nn.Module, group: tuple[ReaderChange, ...], number: int) -> nn.Module:
    double = nn.Module.double(changed_module(module, [], 0))
    return changed_module(double, [replace(part, weight=part.weight.double(), bias=part.bias.double()) for part in group], number)


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_probes_of_few_classes_are_exact(classes: int) -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, moved = torch.randn(6, classes, generator=draw) * 2, torch.randn(6, classes, generator=draw)
    weights = torch.rand(6, generator=draw)
    probes = output_probes(outputs, weights, torch.Generator().manual_seed(1))
    found = (probes * moved).sum(2).square().mean(0) / 2
    torch.testing.assert_close(found.double(), weighted(outputs, moved, weights.double()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(10,), (1, 3, 3), (3, 3, 3)])
def test_probes_are_right_on_average(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    outputs, moved = torch.randn(2, *shape, generator=draw), torch.randn(2, *shape, generator=draw)
    weights = torch.rand(2, *shape[1:], generator=draw)
    generator = torch.Generator().manual_seed(1)
    probes = torch.cat([output_probes(outputs, weights, generator) for _ in range(2000)])
    assert len(probes) == 2000 * PROBES
    found = (probes * moved).flatten(2).sum(2).square().mean(0) / 2
    torch.testing.assert_close(found.double(), weighted(outputs, moved, weights.double()), rtol=0.06, atol=0)


def test_memory_for_one_input_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(nets.Residual())
    changes, inputs, weights = changes_of(start), torch.from_numpy(cases(6)), torch.full((6,), 1 / 6, dtype=torch.float64)
    together = predicted(start.module, [inputs], [weights], changes)
    for limit in ("CHUNK_BYTES", "GRADIENT_BYTES"):
        monkeypatch.setattr(f"optimize.searching.predicted_harm.{limit}", 0)
    apart = predicted(start.module, [inputs], [weights], changes)
    for first, second in zip(together, apart, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-8)


def test_both_orders_of_the_products_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(nets.chain())
    # twenty widths, so that gradients of weights pay
    changes = [
        tuple(replace(part, weight=part.weight.repeat_interleave(10, 0), bias=part.bias.repeat_interleave(10, 0)) for part in group)
        for group in changes_of(start)[:1]
    ]
    inputs, weights = torch.from_numpy(cases(6)), torch.full((6,), 1 / 6, dtype=torch.float64)
    used: list[int] = []
    whole = nn.functional.unfold
    monkeypatch.setattr("torch.nn.functional.unfold", lambda *args: (used.append(1), whole(*args))[1])
    by_gradients = predicted(start.module, [inputs], [weights], changes)
    assert used
    monkeypatch.setattr("optimize.searching.predicted_harm._plain", lambda layer: False)
    by_outputs = predicted(start.module, [inputs], [weights], changes)
    torch.testing.assert_close(by_gradients, by_outputs, rtol=1e-3, atol=1e-8)


class Cut(nn.Module):
    """Gradients end in front of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(x.detach()).flatten(1)


def test_gradients_that_do_not_arrive_are_told() -> None:
    start = candidate(Cut())
    changes, inputs = changes_of(start), torch.from_numpy(cases(6))
    assert isinstance(PredictedHarm(start.module, "logits", [inputs], [torch.ones(6)], 0)(changes), str)


def test_weights_made_in_inference_mode_and_the_candidate_stay_as_they_are() -> None:
    start = candidate(nets.chain())
    with torch.inference_mode():
        frozen = changed_module(start.module, [], 0)
        for parameter in list(frozen.named_parameters()):
            owner, _, key = parameter[0].rpartition(".")
            setattr(frozen.get_submodule(owner), key, nn.Parameter(parameter[1].clone(), requires_grad=False))
    assert all(parameter.is_inference() for parameter in frozen.parameters())
    changes, inputs = changes_of(start), torch.from_numpy(cases(6))
    weights = torch.full((6,), 1 / 6, dtype=torch.float64)
    expected = predicted(start.module, [inputs], [weights], changes)
    torch.testing.assert_close(predicted(frozen, [inputs], [weights], changes), expected)
    assert not any(module._forward_hooks for module in start.module.modules())
