"""Who goes and who stands for whom: by hand, and against cosines of activations taken outside the package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from optimize.graph.surgery import with_tensors
from optimize.graph.trace import trace
from optimize.steps.merging.pairing import Choice, RemovalPlan, plan_removals
from tests import nets
from tests.nets import TOPOLOGIES, candidate, reference

LIKENESS = np.array(
    [
        [1.0, 0.9, 0.2, 0.1],
        [0.9, 1.0, 0.8, 0.3],
        [0.2, 0.8, 1.0, 0.4],
        [0.1, 0.3, 0.4, 1.0],
    ]
)


@pytest.mark.parametrize(
    ("share", "heirs"),
    [
        (0.0, [0, 1, 2, 3]),
        (0.12, [0, 1, 2, 3]),
        (0.13, [0, 0, 2, 3]),  # 0.52 channels round to one; of 0, 2 and 3, channel 1 is most like 0
        (0.5, [0, 0, 3, 3]),
        (0.75, [3, 3, 3, 3]),
        (0.99, [3, 3, 3, 3]),  # one stays whatever the share
    ],
)
def test_heirs_by_hand(share: float, heirs: list[int]) -> None:
    assert RemovalPlan(np.array([1, 2, 0]), LIKENESS).merge_into(share).tolist() == heirs


def found(start: Candidate, choose: Choice = "norm") -> RemovalPlan:
    first = plan_removals(start, reference(start), choose=choose, rows=10**6, ridge=1e-6)[0]
    assert first is not None
    return first


def activations(start: Candidate, upto: int) -> npt.NDArray[np.float64]:
    with torch.inference_mode():
        given = start.module[:upto](torch.from_numpy(reference(start).calibration))  # type: ignore[index]
    return np.asarray(given.double().transpose(0, 1).flatten(1).numpy())


def test_likeness_is_the_cosine_of_what_the_reader_reads() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    read = activations(start, 3)
    read /= np.linalg.norm(read, axis=1, keepdims=True)
    np.testing.assert_allclose(found(start).likeness, read @ read.T, atol=1e-5)


def test_a_flattened_channel_is_compared_with_all_its_places() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4)))
    read = activations(start, 3)
    read /= np.linalg.norm(read, axis=1, keepdims=True)
    np.testing.assert_allclose(found(start).likeness, read @ read.T, atol=1e-5)


def test_the_smallest_norms_go_first_summed_over_all_that_make_a_channel() -> None:
    start = candidate(nets.Residual())
    made = [start.module.get_submodule(name).get_parameter("weight").detach().numpy() for name in ("stem", "conv2")]
    total = sum((weight**2).sum((1, 2, 3)) for weight in made)
    assert found(start).order.tolist() == np.argsort(total)[:-1].tolist()


def test_a_transposed_convolution_has_its_outputs_second() -> None:
    start = candidate(nets.Transposed())
    at = [group.name for group in trace(start).groups].index("up")
    order = plan_removals(start, reference(start), choose="norm", rows=200, ridge=1e-4)[at]
    assert order is not None
    weight = start.module.get_submodule("up").get_parameter("weight").detach().numpy()
    assert order.order.tolist() == np.argsort((weight**2).sum((0, 2, 3)))[:-1].tolist()


def test_by_output_error_a_loud_channel_that_is_never_on_goes_first() -> None:
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    first = start.module.get_submodule("0")
    weight, bias = first.get_parameter("weight").detach().clone(), first.get_parameter("bias").detach().clone()
    weight[5], bias[5] = 20 * weight[5], -1e4
    start = Candidate(with_tensors(start.module, "0", weight=weight, bias=bias), start.example)
    assert found(start, "output error").order[0] == 5
    assert 5 not in found(start, "norm").order


@pytest.mark.parametrize("choose", ["norm", "output error"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_has_an_order_without_repetition(name: str, choose: Choice) -> None:
    start = candidate(TOPOLOGIES[name]())
    groups = trace(start).groups
    surveys = plan_removals(start, reference(start, 48), choose=choose, rows=200, ridge=1e-4)
    assert len(surveys) == len(groups)
    for group, each in zip(groups, surveys, strict=True):
        if each is not None:
            assert len(set(each.order.tolist())) == len(each.order) == group.size - 1
            np.testing.assert_allclose(each.likeness.diagonal(), 1.0)
