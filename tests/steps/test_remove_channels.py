"""Named channels of one group: what is cut, what stands for it, and what a repair makes of the readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from optimize.errors import InputError
from optimize.graph.trace import trace
from optimize.reconstruction.moments import WIDEST
from optimize.steps.merge import Merge, RepairMode
from optimize.steps.merging.operators import Operator
from optimize.steps.merging.pairing import plan_removals
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from optimize.steps.remove_channels import RemoveChannels
from tests import nets
from tests.nets import TOPOLOGIES, candidate, cases, reference

EVERY = 10**6


def outputs_at(module: nn.Module, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What a layer reads of the reference's cases and gives, as matrices; a linear layer."""
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, given, output: seen.extend((given[0], output)))
    with torch.inference_mode():
        module(torch.from_numpy(cases(200)))
    handle.remove()
    return seen[0].double().numpy(), seen[1].double().numpy()


def test_dropping_is_reading_zeros() -> None:
    start = candidate(nets.chain_bn())
    made = RemoveChannels("0", (1, 5), "none")(start, reference(start))
    silent = candidate(nets.chain_bn())
    with torch.no_grad():
        silent.module.get_parameter("3.weight")[:, [1, 5]] = 0
    np.testing.assert_allclose(made.predict(cases(8)), silent.predict(cases(8)), atol=1e-5)
    assert made.kept["0"].tolist() == made.kept["1"].tolist() == [0, 2, 3, 4, 6, 7]
    assert made.parameters == start.parameters - 2 * (3 * 9 + 2 + 6 * 9)


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("repair", get_args(RepairMode))
def test_one_group_alone_becomes_narrower_purely_and_repeatably(name: str, repair: RepairMode) -> None:
    start = candidate(TOPOLOGIES[name]())
    aim, before = reference(start, 24), start.fingerprint
    for group in trace(start).groups:
        step = RemoveChannels(group.name, (0, 2), repair, rows=200)
        made = step(start, aim)
        assert start.fingerprint == before
        assert made.fingerprint == step(start, aim).fingerprint != before
        sizes = {each.name: each.size - 2 * (each.name == group.name) for each in trace(start).groups}
        assert {each.name: each.size for each in trace(made).groups} == sizes
        assert made.lineage == (step,)
        assert np.isfinite(made.predict(cases(2))).all()
    assert np.array_equal(aim.calibration, cases(24))


@pytest.mark.parametrize("repair", get_args(RepairMode))
def test_no_channels_change_nothing(repair: RepairMode) -> None:
    start = candidate(nets.chain_bn())
    made = RemoveChannels("0", (), repair)(start, reference(start))
    assert (made.fingerprint, made.kept) == (start.fingerprint, start.kept)
    assert made.lineage == (RemoveChannels("0", (), repair),)


@pytest.mark.parametrize("operator", get_args(Operator))
def test_the_same_channels_and_heirs_give_what_a_merge_gives(operator: Operator) -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    found = plan_removals(start, aim, choose="norm", rows=500, ridge=1e-4)[0]
    assert found is not None
    heirs = found.merge_into(0.25)
    gone = tuple(int(channel) for channel in np.flatnonzero(heirs != np.arange(8)))
    assert len(gone) == 2
    # the chosen medoid is the merge's own business: with pairs alone it is the heir, which the removal keeps in any case
    merged = Merge(0.25, operator, "least squares", rows=500).with_plans(start, aim, [found, None])
    named = () if operator == "drop" else tuple(int(heirs[channel]) for channel in gone)
    made = RemoveChannels("0", gone, "least squares", operator, named, rows=500)(start, aim)
    assert made.fingerprint == merged.fingerprint
    assert {name: left.tolist() for name, left in made.kept.items()} == {name: left.tolist() for name, left in merged.kept.items()}


def test_a_medoid_is_the_heir_it_is_told() -> None:
    """The heir computes what it did; its reader takes it for both."""
    start = candidate(nets.chain_bn())
    made = RemoveChannels("0", (6,), "none", "medoid", (2,))(start, reference(start))
    want = start.module.get_parameter("3.weight").detach().clone()
    want[:, 2] += want[:, 6]
    torch.testing.assert_close(made.module.get_parameter("3.weight"), want[:, [0, 1, 2, 3, 4, 5, 7]])
    assert torch.equal(made.module.get_parameter("0.weight"), start.module.get_parameter("0.weight")[[0, 1, 2, 3, 4, 5, 7]])


@pytest.mark.parametrize(
    ("build", "group", "last"), [(nets.Residual, "stem", "head"), (nets.Concat, "join", "head"), (nets.chain_bn, "3", "8")]
)
def test_the_reader_becomes_the_best_map_of_what_is_left(build: Callable[[], nn.Module], group: str, last: str) -> None:
    start = candidate(build())
    made = RemoveChannels(group, (0, 3), rows=EVERY, ridge=1e-9)(start, reference(start, 200))
    x, got = outputs_at(made.module, last)
    _, want = outputs_at(start.module, last)
    ones = np.column_stack([x, np.ones(len(x))])
    np.testing.assert_allclose(got, ones @ np.linalg.lstsq(ones, want, rcond=None)[0], atol=2e-3)
    plain = RemoveChannels(group, (0, 3), "none")(start, reference(start))
    assert np.square(got - want).mean() < 0.9 * np.square(outputs_at(plain.module, last)[1] - want).mean()


def test_batch_norm_alone_is_recalibrated_after_the_cut() -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    plain = RemoveChannels("0", (1, 2), "none")(start, aim)
    assert RemoveChannels("0", (1, 2), "batchnorm", cases=50)(start, aim).fingerprint == RecalibrateBatchNorm(50)(plain, aim).fingerprint


def test_a_second_removal_numbers_what_is_there_and_remembers_what_was() -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    twice = RemoveChannels("0", (0, 1), "none")(RemoveChannels("0", (0, 4), "none")(start, aim), aim)
    assert twice.kept["0"].tolist() == [3, 5, 6, 7]
    assert torch.equal(twice.module.get_parameter("0.weight"), start.module.get_parameter("0.weight")[[3, 5, 6, 7]])


def test_a_reader_that_cannot_be_solved_is_only_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    start = candidate(nets.chain_bn())
    aim = reference(start)
    monkeypatch.setattr("optimize.steps.remove_channels.WIDEST", 6 * 9 - 1)
    assert WIDEST > 6 * 9
    assert RemoveChannels("0", (1, 5))(start, aim).fingerprint == RemoveChannels("0", (1, 5), "none")(start, aim).fingerprint
    wide, narrow = RemoveChannels("0", (1, 2, 5))(start, aim), RemoveChannels("0", (1, 2, 5), "none")(start, aim)
    assert wide.fingerprint != narrow.fingerprint


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"group": "1"}, r"`group` \(='1'\) is none of this network's: write one of 0, 3"),
        ({"channels": (8,)}, r"`channels` \(=\(8,\)\) of 0 must be numbers below 8, its width"),
        ({"channels": (-1,)}, r"must be numbers below 8"),
        ({"channels": tuple(range(8))}, r"are all that 0 has: leave at least one"),
        ({"channels": (1, 1)}, r"`channels` \(=\(1, 1\)\) must name each channel once"),
        ({"repair": "bn"}, r"`repair` \(='bn'\) is not known: write one of 'none', 'batchnorm', 'least squares'"),
        ({"operator": "mean"}, r"`operator` \(='mean'\) is not known"),
        ({"target": "min"}, r"`target` \(='min'\) is not known"),
        ({"operator": "average"}, r"`merge_into` \(=\(\)\) does not fit .*'average' takes one channel for each"),
        ({"merge_into": (3,)}, r"`merge_into` \(=\(3,\)\) does not fit .*'drop' takes none"),
        ({"operator": "average", "merge_into": (1,)}, r"`merge_into` \(=\(1,\)\) must stay, but 1 is one of `channels`"),
        ({"operator": "average", "merge_into": (9,)}, r"must be numbers below 8"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], text: str) -> None:
    start = candidate(nets.chain_bn())
    with pytest.raises(InputError, match=text):
        RemoveChannels(**{"group": "0", "channels": (1,), **wrong})(start, reference(start, 4))
