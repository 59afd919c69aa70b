"""Counts by masking against the network written out; probabilities against closed formulas."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import trace
from optimize.importance.correction import (
    Paired,
    least_certain,
    masked_channel,
    mcnemar,
    paired_outcomes,
    ratio,
)
from tests.nets import Residual, Transposed, cases, chain_bn, ready


def test_the_published_numbers_by_hand() -> None:
    assert ratio(Paired(n10=6, n01=8, cases=100)) == 0.75
    assert (ratio(Paired(0, 0, 9)), ratio(Paired(0, 4, 9)), ratio(Paired(5, 5, 20))) == (1, 0, 1)


@settings(deadline=None)  # the first call imports scipy
@given(st.integers(0, 25), st.integers(0, 25))
def test_mcnemar_is_a_fair_coin(n10: int, n01: int) -> None:
    total, low = n10 + n01, min(n10, n01)
    tail = sum(comb(total, k) for k in range(low + 1)) / 2**total
    assert mcnemar(Paired(n10, n01, 100)) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(("n10", "n01", "p"), [(1, 2, 1.0), (10, 20, 0.0987), (20, 40, 0.0135), (5, 0, 2 / 32), (0, 0, 1.0)])
def test_the_worked_example(n10: int, n01: int, p: float) -> None:
    assert mcnemar(Paired(n10, n01, 1000)) == pytest.approx(p, abs=1e-4)


def test_counts_of_a_network_written_out() -> None:
    net, inputs = Residual(), cases(150)
    of = Candidate(ready(net), torch.from_numpy(inputs[:1]))
    group = trace(of).groups[1]  # conv1 -> norm1 -> relu -> conv2
    x = torch.from_numpy(inputs)

    def right(channel: int) -> np.ndarray:
        with torch.no_grad():
            stem = net.stem(x)
            hidden = torch.relu(net.norm1(net.conv1(stem)))
            hidden[:, channel] = 0
            masked = net.head(torch.relu(stem + net.norm2(net.conv2(hidden))).mean((2, 3)))
            return np.asarray(masked.argmax(1) == net(x).argmax(1))

    before = of.fingerprint
    pairs = [(0, 1), (4, 2), (3, 3)]
    found = paired_outcomes(of, Reference(of, inputs), group, pairs)
    for (i, j), outcomes in zip(pairs, found, strict=True):
        a, b = right(i), right(j)
        assert outcomes.tolist() == (a.astype(int) - b.astype(int)).tolist()
    assert not found[2].any()
    assert found[0].any()
    assert of.fingerprint == before


def test_masking_the_channel_that_the_network_needs_loses_cases() -> None:
    net, inputs = ready(chain_bn()), cases(150)
    with torch.no_grad():
        reader = net.get_submodule("3").get_parameter("weight")
        reader[:, 2] *= 0  # nobody needs channel 2
        reader[:, 5] *= 6  # everybody needs channel 5
    of = Candidate(net, torch.from_numpy(inputs[:1]))
    (outcomes,) = paired_outcomes(of, Reference(of, inputs), trace(of).groups[0], [(2, 5)])
    assert set(outcomes.tolist()) == {0, 1}


def test_a_masked_channel_is_read_by_no_one() -> None:
    net, x = Transposed(), torch.from_numpy(cases(3))
    of = Candidate(ready(net), x[:1])
    groups = {group.name: group for group in trace(of).groups}
    with torch.no_grad():
        masked = masked_channel(net, groups["down"], 3)(x)
        net.down.weight[3] = 0
        assert net.down.bias is not None
        net.down.bias[3] = 0
        torch.testing.assert_close(masked, net(x))


def test_dense_outputs_are_counted_by_position_and_other_inputs_can_be_given() -> None:
    of = Candidate(ready(Transposed()), torch.from_numpy(cases(1)))
    (outcomes,) = paired_outcomes(of, Reference(of, cases(9)), trace(of).groups[0], [(0, 1)], inputs=cases(4))
    assert len(outcomes) == 4 * 64


def test_the_doubtful_cases_of_every_predicted_class() -> None:
    outputs = np.array([[3, 0, 0], [0, 1, 0.5], [2, 1.9, 0], [0, 4, 1], [5, 4.5, 0], [0, 2, 1.8]], dtype=np.float32)
    assert least_certain(outputs, per_class=2).tolist() == [1, 2, 4, 5]
    assert least_certain(outputs, per_class=1).tolist() == [2, 5]
    assert least_certain(outputs).tolist() == [0, 1, 2, 3, 4, 5]
