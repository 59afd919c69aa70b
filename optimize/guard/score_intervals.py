"""Score intervals of shares: quick, and accurate with many cases. The search uses them; a verdict uses `optimize.guard.exact`.

Every bound is one-sided; z is the point of the normal distribution at its confidence. The formulas:

*Difference of two shares.* Of n cases, b were right and are wrong, c were wrong and are right; the share fell by (b - c) / n. The bounds
are those of Tango's score interval (Statistics in Medicine 17, 1998): all d with

    |b - c - n d| <= z sqrt(n (2 q + d (1 - d))),      q = (sqrt(B^2 - 8 n C) - B) / 4 n,
    B = (2 n - b + c) d - b - c,      C = -c d (1 - d)

where q is the likeliest share of c given d. With c = 0 the upper bound is Wilson's. Example: n = 150, b = 2, c = 0 at 95 % confidence. The
share fell by 1.3 pp, with bounds from -0.5 to 3.9 pp.

*A single share.* Of n cases h are hits; the bounds are Wilson's (Journal of the American Statistical Association 22, 1927):

    (h + z^2 / 2 -+ z sqrt(h (n - h) / n + z^2 / 4)) / (n + z^2).

*Ratio of two shares.* With a cases right in both, the artifact's share is r times the original's; the bounds are those of the score
interval of Tang, Tang and Chan (Statistics in Medicine 22, 2003): all r with

    |a + c - r (a + b)| <= z sqrt(n r ((1 - r) m + (1 + r) q)),      q = (sqrt(B^2 - 4 A C) - B) / 2 A,      m = (a + b + c) / n,
    A = n r (1 + r),      B = a + c - r^2 (a + b + 2 c),      C = -c r (1 - r) m

where q is the likeliest share of c given r.
"""

from __future__ import annotations

from math import sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Booleans: TypeAlias = npt.NDArray[np.bool_]
Doubles: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]


def wilson(hits: float, cases: float, z: float) -> Interval:
    """Wilson's bounds of a share: 95 of 100 hits with z = 1.645 (95 % confidence each) give 0.901 and 0.975."""
    if cases <= 0:
        return 0.0, 1.0
    # 0 of 50 hits: the upper bound is z^2 / (n + z^2) = 2.7 / 52.7 = 5.1 %. The simple interval, mean -+ z standard errors, would end at 0.
    middle, spread = hits + z**2 / 2, z * sqrt(max(0.0, hits * (cases - hits) / cases + z**2 / 4))
    return max(0.0, (middle - spread) / (cases + z**2)), min(1.0, (middle + spread) / (cases + z**2))


def tango(lost: float, gained: float, cases: float, z: float) -> Interval:
    """Tango's bounds of the drop of a share of `cases` cases."""
    return -tango_high(gained, lost, cases, z), tango_high(lost, gained, cases, z)


def tango_high(lost: float, gained: float, cases: float, z: float) -> float:
    """The upper bound of `tango`; 1 where no drop is ruled out."""
    if cases <= 0 or lost >= cases:
        return 1.0
    from scipy.optimize import brentq

    def beyond(drop: float) -> float:
        # B, C and q of the formula above. Rounding may make what is under a root a little negative, hence the `max`.
        linear = (2 * cases - lost + gained) * drop - lost - gained
        constant = -gained * drop * (1 - drop)
        share = (sqrt(max(0.0, linear**2 - 8 * cases * constant)) - linear) / (4 * cases)
        return lost - gained - cases * drop + z * sqrt(max(0.0, cases * (2 * share + drop * (1 - drop))))

    # The root is above the measured drop. The search starts just above it, since at the drop itself the spread may be 0.
    near = min((lost - gained) / cases + 1e-9, 1.0)
    if beyond(1.0) >= 0:
        return 1.0
    return float(brentq(beyond, near, 1.0)) if beyond(near) > 0 else near


def tang(both: float, lost: float, gained: float, cases: float, z: float) -> Interval:
    """Bounds of the ratio of the candidate's share to the original's; (0, infinity) where the original got nothing right."""
    # 10 of 150 right decisions lost and none gained: the ratio is 0.933, with bounds 0.892 and 0.960 at 95 % confidence.
    baseline, candidate, any_right = both + lost, both + gained, (both + lost + gained) / max(cases, 1e-300)
    if baseline <= 0:
        return 0.0, float("inf")
    from scipy.optimize import brentq

    def score(ratio: float) -> Interval:
        square, linear = cases * ratio * (1 + ratio), candidate - ratio**2 * (baseline + 2 * gained)
        constant = -gained * ratio * (1 - ratio) * any_right
        share = (sqrt(max(0.0, linear**2 - 4 * square * constant)) - linear) / (2 * square)
        spread = sqrt(max(0.0, cases * ratio * ((1 - ratio) * any_right + (1 + ratio) * share)))
        return candidate - ratio * baseline, spread

    def above(ratio: float) -> float:
        distance, spread = score(ratio)
        return distance + z * spread

    def below(ratio: float) -> float:
        distance, spread = score(ratio)
        return distance - z * spread

    middle = candidate / baseline
    far, near = middle * 1e-6, middle * (1 - 1e-9)
    low = 0.0
    # A candidate that gets nothing right has the ratio 0, and no lower bound above it.
    if middle > 0 and below(far) > 0:
        low = near if below(near) >= 0 else float(brentq(below, far, near))
    # A ratio has no natural end: the upper end is doubled until the bound is below it.
    top = max(2.0, 2 * middle)
    while above(top) > 0 and top < 1e6:
        top *= 2
    near = middle * (1 + 1e-9) + 1e-12
    if top >= 1e6:
        return low, float("inf")
    return low, float(brentq(above, near, top)) if above(near) > 0 else near
