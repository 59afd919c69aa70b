"""Percentiles with an upper bound that holds whatever the distribution of the samples is.

With n independent samples, sorted, X(1) <= … <= X(n), and q the true quantile of share p, the number of samples below q is at most
binomial, B(n, p). So

    P(X(k) >= q) >= P(B(n, p) <= k - 1)

and the smallest k whose right side reaches the confidence makes X(k) an upper bound of q (Conover, Practical Nonparametric Statistics,
3rd edition, 1999, section 3.2; Hahn and Meeker, Statistical Intervals, 1991, section 5.2). With k = n the right side is 1 - p^n: below
n = ln(1 - confidence) / ln(p) samples there is no such bound, only a largest sample (Wilks, 1941). At 95 % these are 5 samples for the
median, 29, 59 and 299 for the percentiles 90, 95 and 99.

Worked example, the median of n = 10 samples: P(B(10, 0.5) <= 7) = 0.945 and P(B(10, 0.5) <= 8) = 0.989. The smallest k with at least 0.95
is k - 1 = 8, so the 9th smallest sample bounds the median at 95 %.

Calls in a row are not quite independent: what disturbs one often disturbs the next. The bound is then somewhat too low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from optimize.errors import InputError

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
CONFIDENCE = 0.95


def bounded(samples: Sequence[float]) -> dict[str, dict[str, float | int | None]]:
    """Return the percentiles of `SHARES`, each with its bound, in the unit of the samples.

    For each: `value`, linear between order statistics; `at_most`, which the true percentile exceeds with less than 5 % probability, or None
    where the samples are too few for that; `samples_needed`, the fewest that give one.
    """
    ordered = sorted(samples)
    percentiles: dict[str, dict[str, float | int | None]] = {}
    for name, share in SHARES.items():
        rank = upper_rank(len(ordered), share)
        percentiles[name] = {
            "value": float(np.percentile(ordered, 100 * share)),
            "at_most": None if rank is None else float(ordered[rank - 1]),
            "samples_needed": samples_needed(share),
        }
    return percentiles


def upper_rank(n: int, share: float, confidence: float = CONFIDENCE) -> int | None:
    """Return the rank k, from 1, of the sample that bounds the quantile of `share` of `n` samples from above; None where none does.

    Raises:
        InputError: when `share` or `confidence` does not lie between 0 and 1.
    """
    _require_between(share, confidence)
    if n < samples_needed(share, confidence):
        return None
    # log P(B = k) for k = 0 … n - 1, each from the one before: powers of p alone would underflow.
    k = np.arange(1, n)
    steps = np.log((n - k + 1) / k) + math.log(share) - math.log1p(-share)
    logs = n * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    reached = np.cumsum(np.exp(logs)) >= confidence
    # Where it takes the largest sample, rounding may leave the sum a hair below what `samples_needed` knows exactly.
    return int(np.argmax(reached)) + 1 if reached.any() else n


def samples_needed(share: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest samples whose largest bounds the quantile of `share`.

    Raises:
        InputError: when `share` or `confidence` does not lie between 0 and 1.
    """
    _require_between(share, confidence)
    return math.ceil(math.log1p(-confidence) / math.log(share))


def _require_between(share: float, confidence: float) -> None:
    for name, value in (("share", share), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"`{name}` (={value}) must lie between 0 and 1, such as 0.95.")
