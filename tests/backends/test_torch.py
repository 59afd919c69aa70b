from __future__ import annotations

import numpy as np
import pytest
import torch

from optimize.backends import torch as eager
from optimize.candidate import Candidate, Floats
from optimize.errors import InputError


def test_predicts_what_the_module_computes(candidate: Candidate, inputs: Floats) -> None:
    with torch.no_grad():
        expected = candidate.module(torch.from_numpy(inputs)).numpy()
    with eager.build(candidate) as session:
        np.testing.assert_allclose(session.predict(inputs), expected, rtol=0, atol=1e-6)
        with pytest.raises(InputError, match=r"\(shape \(1, 3, 8, 9\)\) must have shape \(N, 3, 8, 8\)"):
            session.predict(np.zeros((1, 3, 8, 9), np.float32))


def test_threads_hold_until_the_session_closes(candidate: Candidate) -> None:
    before = torch.get_num_threads()
    with eager.build(candidate, threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_inspect_lists_the_layers_with_weights(candidate: Candidate) -> None:
    with eager.build(candidate) as session:
        assert eager.inspect(session) == dict.fromkeys(("stem.0", "stem.1", "body", "up", "tail", "head"), "f32")
