"""Repair against least squares done by hand, layer after layer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.graph.surgery import copy_module, with_tensors
from optimize.graph.trace import trace
from optimize.reconstruction.layer_repair import repairable, unchanged_layers
from optimize.steps.merge import Merge
from optimize.steps.repair import Repair
from tests import nets
from tests.graph.test_trace import Attention, SomeUnused, Untraceable
from tests.nets import TOPOLOGIES, candidate, cases, reference

Array = npt.NDArray[np.float64]
EXACT = Repair(rows=10**6, ridge=1e-9)


def disturbed(start: Candidate, name: str, by: float = 0.3) -> Candidate:
    weight = start.module.get_submodule(name).get_parameter("weight")
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))
    return Candidate(with_tensors(start.module, name, weight=weight + by * weight.std() * noise), start.example)


def affine(x: Array, y: Array) -> Array:
    ones = np.column_stack([x, np.ones(len(x))])
    fitted: Array = ones @ np.linalg.lstsq(ones, y, rcond=None)[0]
    return fitted


def test_layers_are_fitted_in_turn_each_on_what_the_repaired_one_before_gives() -> None:
    start = candidate(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 3)), (5,))
    aim = reference(start, 400)
    mended = Repair(rows=10**6, ridge=1e-9, layers=("2", "4"))(disturbed(start, "0", 1.0), aim)

    def made(module: nn.Module, upto: int) -> Array:
        with torch.inference_mode():
            rows: Array = module[:upto](torch.from_numpy(aim.calibration)).double().numpy()  # type: ignore[index]
        return rows

    middle = affine(made(disturbed(start, "0", 1.0).module, 2), made(start.module, 3))
    np.testing.assert_allclose(made(mended.module, 3), middle, atol=1e-3)
    np.testing.assert_allclose(made(mended.module, 5), affine(np.tanh(middle), made(start.module, 5)), atol=2e-3)
    assert torch.equal(mended.module.get_submodule("0").weight, disturbed(start, "0", 1.0).module.get_submodule("0").weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_an_untouched_network_stays_as_it_is(name: str) -> None:
    start = candidate(TOPOLOGIES[name]())
    same = Repair()(start, reference(start))
    assert same.fingerprint == start.fingerprint
    assert same.lineage == (Repair(),)


def test_layers_in_front_of_the_first_change_stay_and_those_behind_it_are_fitted() -> None:
    start = candidate(TOPOLOGIES["chain"]())
    first, second = repairable(start.module, start.module, trace(start))[:2]
    broken = disturbed(start, second)
    unchanged = unchanged_layers(broken.module, start.module, start.example)
    assert first in unchanged
    assert second not in unchanged
    before, after = (dict(each.module.named_parameters()) for each in (broken, Repair()(broken, reference(start))))
    assert torch.equal(before[f"{first}.weight"], after[f"{first}.weight"])
    assert not torch.equal(before[f"{second}.weight"], after[f"{second}.weight"])


def test_a_layer_that_is_called_again_behind_a_change_is_not_unchanged() -> None:
    again, between = nn.Linear(4, 4), nn.Linear(4, 4)
    start = candidate(nn.Sequential(again, nn.Tanh(), between, nn.Tanh(), again, nn.Linear(4, 2)), (4,))
    assert unchanged_layers(disturbed(start, "2").module, start.module, start.example) == {"1"}
    assert unchanged_layers(start.module, start.module, start.example) == {"0", "1", "2", "3", "5"}


def test_networks_with_other_layers_have_no_unchanged_ones() -> None:
    start = candidate(nets.chain())
    wrapped = nn.Sequential(start.module).eval()
    assert unchanged_layers(wrapped, start.module, start.example) == set()


@pytest.mark.parametrize("build", [Untraceable, Attention, SomeUnused], ids=lambda build: build.__name__)
def test_networks_with_nothing_to_cut_are_still_repaired(build: type[nn.Module]) -> None:
    start = candidate(build())
    first = "patch" if build is Attention else next(iter(trace(start).order))
    inputs, aim = cases(50, seed=5), reference(start)
    np.testing.assert_allclose(Repair()(start, aim).predict(inputs), start.predict(inputs), rtol=1e-3, atol=1e-4)
    broken = disturbed(start, first)
    before, after = (np.abs(each.predict(inputs) - start.predict(inputs)).max() for each in (broken, EXACT(broken, aim)))
    assert after < 1e-2 * before


@pytest.mark.parametrize("name", ["chain", "chain with batch norm", "chain with ReLU in place", "residual", "concat", "reused"])
def test_a_disturbed_first_layer_is_found_again(name: str) -> None:
    """It reads what the original's read, so least squares returns the original's weights."""
    start = candidate(TOPOLOGIES[name]())
    first = next(iter(trace(start).order))
    inputs = cases(8, seed=5)
    mended = EXACT(disturbed(start, first), reference(start))
    np.testing.assert_allclose(mended.predict(inputs), start.predict(inputs), rtol=1e-2, atol=2e-3)


def test_weights_that_are_computed_are_never_written() -> None:
    """Setting such a weight would write into the tensors it is computed from, which copies share."""
    start = candidate(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    before = start.fingerprint
    mended = Repair()(start, reference(start))
    assert start.fingerprint == before
    assert repairable(start.module, start.module, trace(start)) == ["2"]
    assert torch.equal(mended.module.get_submodule("0").weight, start.module.get_submodule("0").weight)  # type: ignore[arg-type]


def test_layers_without_a_counterpart_in_the_original_are_left() -> None:
    start = candidate(nets.chain())
    other = nn.Sequential(*list(start.module)[:-1], nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 4))).eval()  # type: ignore[call-overload]
    changed = Candidate(other, start.example)
    assert repairable(other, start.module, trace(changed)) == ["0", "2"]
    mended = Repair()(changed, reference(start))
    assert all(torch.equal(a, b) for a, b in zip(mended.module[-1].parameters(), other[-1].parameters(), strict=True))  # type: ignore[index]


def test_no_labels_and_no_shapes() -> None:
    start = candidate(nets.chain_bn())
    mended = Repair()(disturbed(start, "3"), Reference(start, cases(40)))
    assert mended.lineage == (Repair(),)
    assert [p.shape for p in mended.module.state_dict().values()] == [p.shape for p in start.module.state_dict().values()]


def test_an_instance_norm_with_running_statistics_takes_the_intercept_as_a_batch_norm_does() -> None:
    norms = [nn.InstanceNorm2d(6, affine=True, track_running_stats=True), nn.BatchNorm2d(6), nn.InstanceNorm2d(6, affine=True)]
    front = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, bias=False))
    starts = [candidate(copy_module(nn.Sequential(*front, norm, nn.Conv2d(6, 4, 1)), share=False)) for norm in norms]
    made = [Merge(0.5, repair="least squares", rows=2000)(start, reference(start)) for start in starts]
    np.testing.assert_allclose(made[0].predict(cases(9)), made[1].predict(cases(9)), rtol=1e-4, atol=1e-5)
    # its mean and spread being taken from each image, a plain one has none to give: the layer gets a bias
    assert [each.module.get_submodule("2").bias is None for each in made] == [True, True, False]
