"""The table of counts that pass, against the verdict's own bounds; and against the binomial test where nothing is gained."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from optimize.guard.exact import NUISANCE, drop_passes, paired_high
from optimize.guard.passing_counts import MAX_ROWS, passing_counts


@pytest.mark.parametrize(("cases", "limit"), [(122, 0.06), (333, 0.06), (60, 0.15), (30, 0.06)])
def test_a_count_passes_where_its_bound_is_within_the_limit(cases: int, limit: float) -> None:
    table = passing_counts(cases, limit, 0.05, 6).most_lost
    for gained, most in enumerate(table):
        bounds = [paired_high(lost, gained, cases, 0.05) <= limit for lost in range(int(most) + 3)]
        assert bounds == [lost <= most for lost in range(int(most) + 3)]


def test_without_gained_cases_it_is_the_binomial_test() -> None:
    for cases, limit in ((122, 0.06), (200, 0.02), (49, 0.06), (48, 0.06)):
        # a little of the 5 % is spent on cases that may be gained
        passing = [k for k in range(cases) if stats.binom.cdf(k, cases, limit) <= 0.05 * (1 - NUISANCE)]
        assert passing_counts(cases, limit, 0.05, 0).most_lost.tolist() == [max(passing, default=-1)]


def test_by_points_the_measured_drop_decides() -> None:
    assert passing_counts(50, 0.06, None, 3).most_lost.tolist() == [3, 4, 5, 6]
    assert passing_counts(50, 0.0, None, 1).most_lost.tolist() == [0, 1]


def test_many_gained_cases_are_interpolated_and_never_let_more_pass() -> None:
    counts = passing_counts(1711, 0.02, 0.05, 100)
    assert len(counts.most_lost) == 101 > MAX_ROWS
    assert (np.diff(counts.most_lost) >= 0).all()
    for gained in (0, 13, 50, 77, 100):
        most = int(counts.most_lost[gained])
        assert drop_passes(most, gained, 1711, 0.05, 0.02)
        assert not drop_passes(most + 2, gained, 1711, 0.05, 0.02)
    assert counts.passes(np.array([int(counts.most_lost[100])]), np.array([500])).all(), "beyond the table its last row counts"
