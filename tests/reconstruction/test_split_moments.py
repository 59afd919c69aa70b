"""Moments of two parts of the rows, together, against those of all rows measured at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optimize.graph.surgery import copy_module
from optimize.reconstruction import layer_matrix
from optimize.reconstruction.moments import OriginalOutputs
from optimize.reconstruction.split_moments import pooled, split_moments
from tests.nets import candidate, cases


@pytest.mark.parametrize("wide", [False, True], ids=["by moments", "by rows"])
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 6, 3), nn.Conv2d(8, 6, 3, groups=2), nn.ConvTranspose2d(8, 6, 3, 2)], ids=str)
def test_both_parts_together_are_the_moments_of_all_rows(layer: nn.Module, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if wide:
        monkeypatch.setattr(layer_matrix, "MAX_GRAM_COLUMNS", 1)
    start = candidate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), copy_module(layer, share=False)))
    targets = OriginalOutputs(start.module, cases(40), ["2"], rows=400, seed=0)
    whole = targets.moments(start.module, ["2"])["2"]
    fit, held_out = split_moments(targets, start.module, ["2"])["2"]
    assert held_out is not None
    assert held_out.rows == pytest.approx(0.2 * whole.rows, abs=1)
    both = pooled(fit, held_out)
    assert both.rows == whole.rows
    for name in ("gram", "cross", "energy", "mean_in", "mean_out"):
        torch.testing.assert_close(getattr(both, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
    columns = torch.arange(4)
    torch.testing.assert_close(both.between(columns), whole.between(columns), rtol=1e-4, atol=1e-5)
    if both.inputs is not None:
        assert both.targets is not None
        assert whole.inputs is not None
        assert whole.targets is not None
        torch.testing.assert_close(both.inputs.T @ both.targets, whole.inputs.T @ whole.targets, rtol=1e-4, atol=1e-5)


def test_of_a_handful_of_rows_none_is_held_out() -> None:
    start = candidate(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (4,))
    fit, held_out = split_moments(OriginalOutputs(start.module, cases(4, (4,)), ["2"], rows=400, seed=0), start.module, ["2"])["2"]
    assert (fit.rows, held_out) == (4, None)
