"""How much of the permitted error each look at one test split may spend.

A test split that is looked at again and again passes a bad model in the end. So the error that the limits permit (5 % at a confidence of
95 %) is that of *all* looks together, and each look spends a part of it (alpha spending: Lan and DeMets, Biometrika 70, 1983).

A look whose model passes gives its part back, and the next look has it again (the fallback procedure: Wiens, Pharmaceutical Statistics 2,
2003; Bretz, Maurer, Brannath and Posch, Statistics in Medicine 28, 2009). So the n-th look after others that did not pass spends the n-th
part, and the error still holds: as long as no model that breaks a limit has passed, each of them that was looked at has used up a part, so
the i-th of them is judged at no more than the i-th part, and the chance that any of them passes is at most the sum (Bonferroni).

The first part is `FIRST_SHARE`, four fifths, since most splits are looked at once. Part n of the later ones is 1 / (n (n - 1)) of the
rest, and these add up to the rest however many there are: 1/2 + 1/6 + 1/12 + ... = 1. Example at 95 % confidence, with an error of 5 %:
the first look spends 4 %, so its bounds have 96 % confidence. If it does not pass, the second look spends 0.5 % (99.5 % confidence), the
third 0.17 %.

To show the same with a power of 80 %, the first part needs 1.09 times the cases that the whole error would need, the second 1.9 times,
the tenth 3.3 times.
"""

from __future__ import annotations

from dataclasses import replace

from optimize.guard.limits import Limits

FIRST_SHARE = 0.8
_DECIMALS = 12
"""Decimals of a confidence that are kept; later ones are rounding errors, as in 1 - 0.8 * (1 - 0.95) = 0.9600000000000001."""


def spent_by(part: int) -> float:
    """The share of the permitted error that a look spends.

    Args:
        part: one more than the number of earlier looks that did not pass.
    """
    # With an error of 5 %: 4 %, then 0.5 %, 0.17 %, 0.08 % and so on, which add up to 5 %.
    return FIRST_SHARE if part == 1 else (1 - FIRST_SHARE) / (part * (part - 1))


def at_share(limits: Limits, share: float) -> Limits:
    """The limits with the confidence of a look that spends this share of the permitted error.

    Limits whose verdict compares measured values stay as they are: no error was permitted, and none is held.
    """
    if limits.verdict == "point":
        return limits
    return replace(limits, confidence=round(1 - share * (1 - limits.confidence), _DECIMALS))
