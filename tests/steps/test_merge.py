"""Every operator on the same channels: what is exact, what is lost, what a repair finds, and where an operator has to fall back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.graph.surgery import with_tensors
from optimize.graph.trace import trace
from optimize.steps.merge import Merge, RepairMode
from optimize.steps.merging.operators import Operator
from optimize.steps.merging.pairing import RemovalPlan, plan_removals
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from tests import nets
from tests.graph.test_surgery import MISFITS
from tests.nets import TOPOLOGIES, candidate, cases, reference

OPERATORS: tuple[Operator, ...] = get_args(Operator)
LOSSY = ("drop", "average", "crossover-sgd")
EVERY = 10**6


def widths(start: Candidate) -> dict[str, int]:
    return {group.name: group.size for group in trace(start).groups}


def with_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def with_norm_and_bias() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def without_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3))


def flattened() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4))


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4))


ONE_GROUP = (with_norm, with_norm_and_bias, without_norm, flattened, linear)


def planted(build: Callable[[], nn.Module], scale: float = 1.0) -> Candidate:
    """Channels 2 and 6 have the smallest norms, and 6 gives `scale` times what 2 gives; both are on about half of the time."""
    start = candidate(build())
    module, (maker, *norm) = start.module, [slot.module for slot in trace(start).groups[0].slots if slot.side == "out"]
    for name in (maker, *norm):
        layer = module.get_submodule(name)
        tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        for key, old in tensors.items():
            if not old.dim():
                continue
            new = old.detach().clone()
            if name == maker:
                new[2] *= 0.1
            else:
                new[2] *= {"running_mean": 0.0, "running_var": 0.01}.get(key, 1.0)
            new[6] = new[2]
            if scale != 1 and (not norm or key in ("weight", "bias")) and (name != maker or not norm):
                new[6] *= scale
            module = with_tensors(module, name, **{key: new})
    return Candidate(module, start.example)


@pytest.mark.parametrize("repair", get_args(RepairMode))
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["chain with batch norm", "residual"])
def test_no_share_is_the_identity(name: str, operator: Operator, repair: RepairMode) -> None:
    start = candidate(TOPOLOGIES[name]())
    same = Merge(0.0, operator, repair, rows=200)(start, reference(start, 16))
    assert same.fingerprint == start.fingerprint
    assert np.array_equal(same.predict(cases(8)), start.predict(cases(8)))
    assert same.kept == start.kept


@dataclass(frozen=True, eq=False)
class Halved:
    """A topology, and what every operator must make of it: which widths are left and which channels."""

    start: Candidate
    aim: Reference
    surveys: tuple[RemovalPlan | None, ...]
    widths: dict[str, int]
    kept: dict[str, list[int]]


@cache
def halved(name: str) -> Halved:
    start = candidate(TOPOLOGIES[name]())
    aim = reference(start, 24)
    surveys = plan_removals(start, aim, choose="norm", rows=200, ridge=Merge(0.5).ridge)
    cut = {
        group.name: group.size - int(group.size / 2 + 0.5) * (found is not None)
        for group, found in zip(trace(start).groups, surveys, strict=True)
    }
    plain = Merge(0.5, rows=200).with_plans(start, aim, surveys)
    return Halved(start, aim, surveys, cut, {layer: kept.tolist() for layer, kept in plain.kept.items()})


@pytest.mark.parametrize("repair", get_args(RepairMode))
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_all_remove_the_same_channels_purely_and_repeatably(name: str, operator: Operator, repair: RepairMode) -> None:
    found = halved(name)
    start, aim, before, step = found.start, found.aim, found.start.fingerprint, Merge(0.5, operator, repair, rows=200)
    made = step.with_plans(start, aim, found.surveys)
    assert start.fingerprint == before
    assert np.array_equal(aim.calibration, cases(24))
    assert made.lineage == (step,)
    assert widths(made) == found.widths
    assert {layer: kept.tolist() for layer, kept in made.kept.items()} == found.kept
    assert np.isfinite(made.predict(cases(2))).all()
    assert made.fingerprint == step.with_plans(start, aim, found.surveys).fingerprint


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_step_is_a_survey_and_what_follows_from_it(name: str, operator: Operator) -> None:
    found, step = halved(name), Merge(0.5, operator, rows=200)
    assert step(found.start, found.aim).fingerprint == step.with_plans(found.start, found.aim, found.surveys).fingerprint


@pytest.mark.parametrize("build", ONE_GROUP)
@pytest.mark.parametrize("operator", OPERATORS)
def test_merging_twins_changes_nothing_unless_the_readers_columns_are_lost(build: Callable[[], nn.Module], operator: Operator) -> None:
    """Channel 2 goes, 6 is the same. What discards 2's outgoing weights halves what the two gave together."""
    start = planted(build)
    made = Merge(1 / 8, operator, rows=EVERY)(start, reference(start))
    inputs = cases(8, seed=5)
    want, got = start.predict(inputs), made.predict(inputs)
    assert 2 not in made.kept[trace(start).groups[0].name]
    if operator in LOSSY:
        assert np.abs(got - want).max() > 1e-2
    else:
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


@pytest.mark.parametrize("target", ["mean", "importance", "post-activation"])
@pytest.mark.parametrize("build", ONE_GROUP)
def test_twins_are_exact_for_every_target(build: Callable[[], nn.Module], target: Any) -> None:
    start = planted(build)
    made, inputs = Merge(1 / 8, "crossover", target=target, rows=EVERY)(start, reference(start)), cases(8, seed=5)
    np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), rtol=1e-3, atol=1e-3 * np.abs(start.predict(inputs)).max())


@pytest.mark.parametrize("build", [with_norm, with_norm_and_bias, without_norm, flattened])
def test_neuron_merging_is_exact_for_a_multiple(build: Callable[[], nn.Module]) -> None:
    """Without data: the reference holds zeros. 6 is three times 2 after the norm; a norm's scale and shift are what multiplies there."""
    start = planted(build, scale=3.0)
    aim, inputs = reference(start), cases(8, seed=5)
    surveys = plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4)
    aim.calibration[:] = 0
    made = Merge(1 / 8, "neuron-merging").with_plans(start, aim, surveys)
    np.testing.assert_allclose(made.predict(inputs), start.predict(inputs), rtol=1e-3, atol=1e-3)
    off = np.abs(Merge(1 / 8, "average-add").with_plans(start, aim, surveys).predict(inputs) - start.predict(inputs)).max()
    assert off > 1e-3


@pytest.mark.parametrize("operator", ["average", "average-add"])
def test_averages_by_hand(operator: Operator) -> None:
    start = candidate(with_norm_and_bias())
    aim = reference(start)
    (found,) = (each for each in plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4) if each is not None)
    heirs = found.merge_into(0.5)
    made = Merge(0.5, operator, rows=500)(start, aim)
    for layer, keys in (("0", ("weight", "bias")), ("1", ("weight", "bias", "running_mean", "running_var"))):
        for key in keys:
            old, new = (each.module.state_dict()[f"{layer}.{key}"].double().numpy() for each in (start, made))
            expected = [old[heirs == k].mean(0) for k in np.unique(heirs)]
            np.testing.assert_allclose(new, expected, atol=1e-6)
    old, new = (each.module.get_parameter("3.weight").detach().numpy() for each in (start, made))
    expected = [old[:, heirs == k].sum(1) if operator == "average-add" else old[:, k] for k in np.unique(heirs)]
    np.testing.assert_allclose(new, np.stack(expected, 1), atol=1e-6)


@pytest.mark.parametrize("build", [with_norm, flattened])
def test_readers_take_a_crossover_times_the_scale_that_fits_each_member(build: Callable[[], nn.Module]) -> None:
    start = candidate(build())
    aim, last = reference(start), str(len(list(start.module.children())) - 1)
    (found,) = (each for each in plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4) if each is not None)
    heirs = found.merge_into(0.5)
    made = Merge(0.5, "crossover", rows=EVERY)(start, aim)
    upto = 3 if last == "3" else 4
    with torch.inference_mode():  # before the reader: (N, C, H, W)
        was, now = (each.module[:upto](torch.from_numpy(aim.calibration)).double().numpy() for each in (start, made))  # type: ignore[index]
    if last == "3":
        # a 3x3 reader sees inner places nine times, the rim less often
        times = np.convolve(np.ones(6), np.ones(3))
        was, now = (each * np.sqrt(np.outer(times, times)) for each in (was, now))
    old, new = (each.module.get_parameter(f"{last}.weight").detach().double().numpy() for each in (start, made))
    old, new = (each.reshape(4, each.shape[1] if last == "3" else -1, 9) for each in (old, new))
    for place, k in enumerate(np.unique(heirs)):
        scale = {n: (was[:, n] * now[:, place]).sum() / (now[:, place] ** 2).sum() for n in np.flatnonzero(heirs == k)}
        np.testing.assert_allclose(new[:, place], sum(scale[n] * old[:, n] for n in scale), atol=1e-5)


def test_a_medoid_is_the_member_most_like_the_rest() -> None:
    start = candidate(without_norm())
    aim = reference(start)
    (found,) = (each for each in plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4) if each is not None)
    heirs = found.merge_into(0.75)
    made = Merge(0.75, "medoid", rows=500)(start, aim)
    old, new = (each.module.get_parameter("0.weight").detach().numpy() for each in (start, made))
    moved = 0
    for place, k in enumerate(np.unique(heirs)):
        family = np.flatnonzero(heirs == k)
        central = max(family, key=lambda n: (round(found.likeness[n, family].sum(), 8), n == k))
        assert np.array_equal(new[place], old[central])
        moved += central != k
    assert moved


def test_drop_is_what_is_left_when_nobody_reads_the_channels() -> None:
    start = candidate(flattened())
    made, inputs = Merge(0.5)(start, reference(start)), cases(8, seed=5)
    weight = start.module.get_parameter("5.weight").detach().clone()
    for channel in set(range(8)) - set(made.kept["0"].tolist()):
        weight[:, 9 * channel : 9 * channel + 9] = 0
    muted = Candidate(with_tensors(start.module, "5", weight=weight), start.example)
    np.testing.assert_allclose(made.predict(inputs), muted.predict(inputs), atol=1e-5)


def test_recalibration_follows_in_the_end() -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    both = Merge(0.5, "average", "batchnorm", rows=500)(start, aim)
    assert both.fingerprint == RecalibrateBatchNorm()(Merge(0.5, "average", rows=500)(start, aim), aim).fingerprint
    assert both.lineage == (Merge(0.5, "average", "batchnorm", rows=500),)


def outputs_at(module: nn.Module, name: str, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, given, output: seen.extend((given[0].clone(), output.clone())))
    with torch.inference_mode():
        module(torch.from_numpy(inputs))
    handle.remove()
    return seen[0].double().numpy(), seen[1].double().numpy()


@pytest.mark.parametrize("operator", ["drop", "crossover"])
@pytest.mark.parametrize("build", [nets.Residual, nets.Concat, nets.chain_bn])
def test_after_least_squares_the_last_layer_is_the_best_map_of_what_it_reads(build: Callable[[], nn.Module], operator: Operator) -> None:
    start = candidate(build())
    last = list(start.module.named_modules())[-1][0]
    aim = reference(start, 200)
    made = Merge(0.5, operator, "least squares", rows=EVERY, ridge=1e-9)(start, aim)
    x, got = outputs_at(made.module, last, aim.calibration)
    _, want = outputs_at(start.module, last, aim.calibration)
    ones = np.column_stack([x, np.ones(len(x))])
    best = ones @ np.linalg.lstsq(ones, want, rcond=None)[0]
    # a last step as small as the noise may be taken back, see `reconstruction/held_out.py`
    assert np.square(got - want).mean() <= 1.03 * np.square(best - want).mean() + 1e-6


class TwoBlocks(nn.Module):
    """stem -> x + conv2(conv1(x)) -> x + conv4(conv3(x)) -> head: conv3 reads a sum that changes after its first fit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.conv3, self.conv4, self.head = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.conv2(torch.relu(self.conv1(x)))
        x = x + self.conv4(torch.relu(self.conv3(x)))
        return self.head(torch.relu(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("operator", ["average", "average-add"])
def test_a_merge_behind_a_changed_sum_is_not_undone(operator: Operator) -> None:
    """The groups in front are merged first, and conv3 is repaired after that. Its own merge must then be the mean of these filters."""
    start = candidate(TwoBlocks())
    aim = reference(start, 60)
    names = [group.name for group in trace(start).groups]
    assert names == ["stem", "conv1", "conv3"]
    plans = plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4)
    merge = Merge(0.5, operator, "least squares", rows=2000)
    made = merge.with_plans(start, aim, plans)
    in_front = merge.with_plans(start, aim, [plans[0], plans[1], None])
    assert plans[2] is not None
    merge_into = plans[2].merge_into(0.5)
    filters = in_front.module.get_submodule("conv3").get_parameter("weight")
    means = torch.stack([filters[merge_into == k].mean(0) for k in np.unique(merge_into)])
    assert any((merge_into == k).sum() > 1 for k in merge_into)
    torch.testing.assert_close(made.module.get_submodule("conv3").get_parameter("weight"), means, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("operator", OPERATORS)
def test_least_squares_mends_every_operator(operator: Operator) -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start, 200)
    want, inputs = start.predict(cases(64, seed=5)), cases(64, seed=5)
    errors = [
        np.square(Merge(0.5, operator, repair, rows=5000)(start, aim).predict(inputs) - want).mean() for repair in ("none", "least squares")
    ]
    assert errors[1] < 0.7 * errors[0]


def test_output_error_chooses_other_channels_than_the_norm() -> None:
    start = candidate(nets.chain())
    aim = reference(start)
    by_norm, by_error = (Merge(0.5, repair="least squares", choose=choose, rows=5000)(start, aim) for choose in ("norm", "output error"))
    assert by_norm.kept["0"].tolist() != by_error.kept["0"].tolist()
    assert widths(by_norm) == widths(by_error)
    want, inputs = start.predict(cases(64, seed=5)), cases(64, seed=5)
    assert np.square(by_error.predict(inputs) - want).mean() < np.square(by_norm.predict(inputs) - want).mean()


@pytest.mark.parametrize("operator", OPERATORS)
def test_falling_back_is_dropping(operator: Operator) -> None:
    start = candidate(nets.depthwise())
    aim, graph = reference(start), trace(start)
    plans = plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4)
    only = {group.name: plan for group, plan in zip(graph.groups, plans, strict=True)}
    surveys = [only[group.name] if group.name == "0" else None for group in graph.groups]
    merged, dropped = (Merge(0.5, each, rows=500).with_plans(start, aim, surveys) for each in (operator, "drop"))
    assert merged.fingerprint == dropped.fingerprint != start.fingerprint


@pytest.mark.parametrize("build", MISFITS.values(), ids=MISFITS.keys())
def test_what_cannot_be_cut_is_left(build: Any) -> None:
    start = candidate(build[0]())
    assert Merge(0.5, "crossover", "least squares")(start, reference(start)).fingerprint == start.fingerprint


def test_a_second_merge_counts_in_the_originals_channels() -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    once = Merge(0.5, "drop", rows=500)(start, aim)
    twice = Merge(0.5, "drop", "least squares", rows=500)(once, aim)
    assert set(twice.kept["0"]) < set(once.kept["0"])
    assert torch.equal(twice.module.get_parameter("1.weight"), start.module.get_parameter("1.weight")[twice.kept["0"]])
    assert len(twice.lineage) == 2


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"share": 1.0}, r"`share` \(=1.0\) must lie in \[0, 1\): write 0.5"),
        ({"share": -0.1}, r"`share` \(=-0.1\)"),
        ({"share": float("nan")}, r"`share` \(=nan\)"),
        ({"share": 0.5, "operator": "mean"}, r"`operator` \(='mean'\) is not known: write one of 'drop', 'average'"),
        ({"share": 0.5, "repair": "bn"}, r"`repair` \(='bn'\) is not known: write one of 'none', 'batchnorm', 'least squares'"),
        ({"share": 0.5, "choose": "l1"}, r"`choose` \(='l1'\)"),
        ({"share": 0.5, "target": "min"}, r"`target` \(='min'\)"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Merge(**wrong)
