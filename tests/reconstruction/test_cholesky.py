"""Factors against the matrix they stand for."""

from __future__ import annotations

import pytest
import torch

from optimize.reconstruction.cholesky import RankDeficiency, cholesky, lifted_cholesky


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
