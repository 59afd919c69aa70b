"""The search as one call: what its arguments do; the walk itself is tested in `test_walk.py`."""

from __future__ import annotations

import numpy as np
from torch import nn

import optimize as opt


def test_a_time_that_is_up_leaves_the_original() -> None:
    rng = np.random.default_rng(0)
    splits = {name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")}
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    original, data = opt.load_model(net, input_shape=(1, 4, 4)), opt.load_data(splits)
    limits = opt.Limits(max_drop=0.9, max_class_drop=0.95)
    late, early = (opt.search(original, data, limits, strategy=opt.Budgets(), time_budget_s=seconds) for seconds in (1e-9, 600))
    assert (late.out_of_time, late.best, late.trials) == (True, original, ())
    assert (early.out_of_time, early.best.parameters < original.parameters) == (False, True)
