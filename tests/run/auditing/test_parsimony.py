"""Information criteria: against figures counted by hand, and the published ones with what is wrong about them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optimize.run.auditing.parsimony import as_published, parsimony


def test_a_coin_takes_one_bit_a_label_and_says_nothing_for_its_weights() -> None:
    """8 labels at 1/2 are 8 bits; which 2 of 4 weights are not zero is log2 6; that there are 2 of 0 to 4 is log2 5; 2 x 32 bits."""
    found = parsimony(np.full((8, 2), 0.5), np.tile([0, 1], 4), parameters=4, nonzeros=2)
    assert found.mdl_bits == pytest.approx(8 + math.log2(6) + math.log2(5) + 64)
    assert found.aic == pytest.approx(2 * 2 + 2 * 8 * math.log(2))
    assert found.bic == pytest.approx(2 * math.log(8) + 2 * 8 * math.log(2))
    in_int8 = parsimony(np.full((8, 2), 0.5), np.tile([0, 1], 4), parameters=4, nonzeros=2, bits=8)
    assert found.mdl_bits - in_int8.mdl_bits == 2 * 24


def test_better_answers_and_fewer_weights_are_more_parsimonious() -> None:
    labels = np.array([0, 1, 1, 0])
    sure = np.eye(2)[labels] * 0.8 + 0.1
    one = parsimony(sure, labels, 10, 10)
    assert one.aic < parsimony(np.full((4, 2), 0.5), labels, 10, 10).aic
    assert parsimony(sure, labels, 10, 5).bic < one.bic
    assert np.isfinite(parsimony(np.array([[0.0, 1.0]]), np.array([0]), 1, 1).nll)


def test_the_published_figures_are_of_parameters_alone() -> None:
    baseline, svd = as_published(139_603_016), as_published(21_603_400)
    assert [f"{baseline[name]:.4g}" for name in ("aic", "bic", "mdl")] == ["2.792e+08", "1.136e+09", "1.42e+08"]
    assert f"{svd['aic']:.3g}" == "4.32e+07"
    assert [f"{value / 1e6:.1f}" for value in svd.values()] == ["43.2", "175.8", "22.0"]


def test_the_published_gated_network_has_three_sizes() -> None:
    """Its printed AIC of 71.1 million is of 35.55 million parameters; the printed widths give 35,089,819."""
    widths = [40, 47, 97, 112, 122, 116, 127, 133, 115, 112, 123, 124, 114, 97, 110, 83]
    channels = [3, *widths]
    convolutions = sum(9 * into * out + out for into, out in zip(channels, widths, strict=False))
    assert convolutions == 1_613_203
    head = 83 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 8 + 8
    assert convolutions + head == 35_089_819
    assert f"{as_published(convolutions + head)['aic'] / 1e6:.2f}" == "70.18"
    assert round(71.1 / 2, 2) == 35.55
