"""The label-free loss against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate, Reference
from optimize.importance.loss import batches, total_loss
from tests.nets import cases, chain, ready


def test_the_loss_of_two_classes_is_the_logistic_one() -> None:
    outputs, classes = torch.tensor([[2.0, -1.0], [0.5, 0.5]]), torch.tensor([0, 1])
    assert float(total_loss(outputs, classes)) == pytest.approx(np.log1p(np.exp(-3.0)) + np.log(2))


def test_dense_outputs_count_each_case_once() -> None:
    row = torch.tensor([3.0, 1.0, 0.0])
    outputs = row[None, :, None, None].expand(2, 3, 4, 5)
    dense = total_loss(outputs, torch.zeros(2, 4, 5, dtype=torch.int64))
    assert float(dense) == pytest.approx(2 * float(np.log(np.exp(row.numpy()).sum()) - 3.0))


def test_batches_carry_what_the_original_predicts_in_order() -> None:
    original = Candidate(ready(chain()), torch.from_numpy(cases(1)))
    inputs = cases(75)
    seen = list(batches(Reference(original, inputs)))
    assert [len(batch) for batch, _ in seen] == [32, 32, 11]
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch, _ in seen]), inputs)
    with torch.no_grad():
        want = original.module(torch.from_numpy(inputs)).argmax(1)
    np.testing.assert_array_equal(torch.cat([classes for _, classes in seen]), want)


def test_inputs_that_may_not_be_written_to_are_copied() -> None:
    original = Candidate(ready(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(192, 3))), torch.from_numpy(cases(1)))
    inputs = cases(10)
    inputs.setflags(write=False)
    before = inputs.copy()
    for batch, _ in batches(Reference(original, inputs)):
        original.module(batch)
    np.testing.assert_array_equal(inputs, before)
