"""Factors against the matrix they stand for."""

from __future__ import annotations

import pytest
import torch

from optimize.errors import InputError
from optimize.reconstruction.cholesky import RankDeficiency, cholesky, lifted_cholesky, require_finite


def test_a_sound_matrix_is_not_lifted() -> None:
    root = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = root @ root.T
    factor, lift = lifted_cholesky(matrix)
    assert lift == 0
    torch.testing.assert_close(factor, torch.linalg.cholesky(matrix))


@pytest.mark.parametrize("short", [1e-13, 1e-7])
def test_what_rounding_left_indefinite_is_mended_by_the_least_that_does(short: float) -> None:
    low_rank = torch.ones(4, 4, dtype=torch.float64)
    low_rank[0, 0] -= short
    factor, lift = lifted_cholesky(low_rank)
    assert 0 < lift <= 20 * max(short, 1e-12)
    torch.testing.assert_close(factor @ factor.T, low_rank + lift * torch.eye(4, dtype=torch.float64), atol=1e-14, rtol=0)
    assert torch.equal(cholesky(low_rank), factor)
    assert torch.linalg.cholesky_ex(low_rank + lift / 10 * torch.eye(4, dtype=torch.float64))[1] or lift == 1e-11


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_ends_and_is_named(bad: float) -> None:
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 1] = bad
    with pytest.raises(InputError, match="values at a layer on calibration images are too large or not finite"):
        lifted_cholesky(matrix)
    with pytest.raises(InputError, match="values at layer head"):
        require_finite("layer head", torch.ones(3), matrix)
    require_finite("layer head", torch.ones(3))


def test_zeros_have_the_factor_of_the_lift() -> None:
    factor, lift = lifted_cholesky(torch.zeros(3, 3, dtype=torch.float64))
    torch.testing.assert_close(factor @ factor.T, lift * torch.eye(3, dtype=torch.float64))
    assert lift == 1e-11


def test_a_matrix_of_no_moments_ends() -> None:
    # eigenvalues 1e4 and -1e4, and nothing on the diagonal that a lift could be measured by
    with pytest.raises(InputError, match="far from positive"):
        lifted_cholesky(torch.tensor([[0.0, 1e4], [1e4, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("deficit", "missing", "text"),
    [
        (
            RankDeficiency("fc", 100, 40, 0.0),
            61,
            "fc was refitted with 100 unknowns from 40 rows, 61 independent ones too few: the ridge decides between equals",
        ),
        (
            RankDeficiency("fc", 30, 40, 1e-10),
            0,
            "fc was refitted with 30 unknowns; 1e-10 of the largest variance had to be added to solve it",
        ),
        (RankDeficiency("fc", 39, 40, 0.0), 0, "fc was refitted with 39 unknowns"),
        (
            RankDeficiency("fc", 40, 40, 0.0),
            1,
            "fc was refitted with 40 unknowns from 40 rows, 1 independent ones too few: the ridge decides between equals",
        ),
    ],
    ids=lambda value: "",
)
def test_a_deficit_says_what_was_missing(deficit: RankDeficiency, missing: int, text: str) -> None:
    assert (deficit.missing, str(deficit)) == (missing, text)
