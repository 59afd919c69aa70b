"""Which counts of lost and gained cases pass a limit, for a test split of a given size: the verdict's rule as a table.

A drop of a share passes when its bound stays within the limit (`optimize.guard.exact`). The bound grows with the lost cases and falls with
the gained ones. So one number for every number of gained cases says it all: the largest number of lost cases that still passes.

Example: 122 cases of a class, a limit of 6 pp, 95 % confidence. Up to 2 lost cases pass where none is gained, and up to 3 where one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor

import numpy as np

from optimize.guard.exact import drop_passes
from optimize.guard.score_intervals import Booleans, Integers

MAX_ROWS = 48
"""Number of gained cases for which the border is computed; between them it is interpolated, and rounded down."""
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class PassingCounts:
    """The largest number of lost cases that passes, for each number of gained cases.

    Args:
        most_lost: entry g is the largest number of lost cases that passes where g are gained; -1 where not even 0 passes.
    """

    most_lost: Integers

    def passes(self, lost: Integers, gained: Integers) -> Booleans:
        """Whether each pair of counts passes; the arrays have one shape."""
        # Beyond the table the last entry is taken: more gained cases could only let more lost ones pass, so this errs on the safe side.
        return np.asarray(lost <= self.most_lost[np.minimum(gained, len(self.most_lost) - 1)])


@lru_cache(maxsize=2048)
def passing_counts(cases: int, limit: float, alpha: float | None, most_gained: int) -> PassingCounts:
    """The counts that pass, for up to `most_gained` gained cases.

    Args:
        cases: number of cases of the test.
        limit: the largest drop that passes.
        alpha: chance that the verdict's bound misses; None where the measured drop is compared with the limit.
        most_gained: largest number of gained cases that the table covers.

    Example:
        >>> passing_counts(122, 0.06, 0.05, 2).most_lost.tolist(), passing_counts(122, 0.06, None, 2).most_lost.tolist()
        ([2, 3, 4], [7, 8, 9])
    """
    gained = np.arange(min(most_gained, cases) + 1)
    if alpha is None:
        return PassingCounts(np.minimum(gained + floor(limit * cases + TOLERANCE), cases).astype(np.int64))
    rows = np.unique(np.linspace(0, len(gained) - 1, min(len(gained), MAX_ROWS)).round().astype(int))
    most, found = -1, []
    for count in rows:
        # The border hardly falls from one row to the next, and rises by about as many cases as are gained: so it is followed in steps.
        most = _largest(int(count), cases, limit, alpha, most)
        found.append(most)
    # Interpolation on the straight line between two rows, rounded down, never lets more pass than the line does.
    return PassingCounts(np.floor(np.interp(gained, rows, found) + TOLERANCE).astype(np.int64))


def _largest(gained: int, cases: int, limit: float, alpha: float, guess: int) -> int:
    """The largest number of lost cases that passes, found upwards and downwards from a guess; -1 where none does."""
    lost = max(guess, 0)
    while lost >= 0 and not drop_passes(lost, gained, cases, alpha, limit):
        lost -= 1
    if lost < max(guess, 0):
        return lost
    step = 1
    # Doubled steps: the rows may lie dozens of gained cases apart.
    while lost + step + gained <= cases and drop_passes(lost + step, gained, cases, alpha, limit):
        lost, step = lost + step, 2 * step
    while step > 1:
        step //= 2
        if lost + step + gained <= cases and drop_passes(lost + step, gained, cases, alpha, limit):
            lost += step
    return lost
