from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from optimize.candidate import Candidate
from tests.graph.test_trace import InPlace
from tests.nets import candidate, cases, chain


def test_predict_is_the_forward_in_batches() -> None:
    start, inputs = candidate(chain()), cases(300)
    with torch.inference_mode():
        want = start.module(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(start.predict(inputs), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "sizes"), [((1, 2, 2), [256, 44]), ((1, 512, 512), [32, 32, 6]), ((3, 2000, 2000), [1, 1])])
def test_large_inputs_go_in_small_batches(shape: tuple[int, ...], sizes: list[int]) -> None:
    seen: list[int] = []

    class Counts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x[:, :, 0, 0]

    inputs = np.broadcast_to(np.zeros((1, *shape), np.float32), (sum(sizes), *shape))
    assert Candidate(Counts().eval(), torch.zeros(1, *shape)).predict(inputs).shape == (sum(sizes), shape[0])
    assert seen == sizes


def test_predict_leaves_the_inputs_of_a_network_that_works_in_place() -> None:
    inputs = cases(3)
    assert np.array_equal(candidate(InPlace()).predict(inputs), cases(3) * 2)
    assert np.array_equal(inputs, cases(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fingerprint_tells_every_bit(dtype: torch.dtype) -> None:
    start = candidate(nn.Linear(3, 2).to(dtype), (3,))
    same = Candidate(candidate(nn.Linear(3, 2).to(dtype), (3,)).module, start.example)
    assert same.fingerprint == start.fingerprint
    with torch.no_grad():
        same.module.get_parameter("bias")[1] *= 1.01
    assert same.fingerprint != start.fingerprint


def test_training_mode_and_several_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="must be in eval mode"):
        Candidate(chain().train(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="must hold exactly one input"):
        Candidate(chain().eval(), torch.zeros(2, 3, 8, 8))
