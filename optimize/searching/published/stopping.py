"""Stopping rules: the published ones side by side, each a pure function of the proposals so far.

A rule is a frozen dataclass, its fields are its settings. It is called with the evidence of every proposal so far, the present one last and
not judged yet, and answers "go on", "pass over" (leave this one out) or "stop". Evidence costs forward passes, so `needs` says which kind a
rule looks at.

Let N be the number of cases, n10 those that are right only when the channel to be removed is masked, n01 those that are right only when its
nearest channel is masked (`importance/correction.py`), and r = min / max of the two counts:

    threshold   pass over where r < .80; .85 for the last 15 % of the removals
    wilson      look at the cases batch by batch, with the interval of r at z = 2 as if r were a share of N: go on once its lower end
                reaches .80, N >= 512 and as many cases are discordant as usual; pass over once its upper end is below .80 and N >= 1024;
                after all cases r itself decides
    mcnemar     pass over where the channel is needed more than its nearest channel: n01 > n10, exact p <= .05
    z-score     stop where the distance to the nearest channel is 4 standard deviations above those of the removals so far
    floor       go on until every floor is reached

"wilson" is offered as published, but r is a ratio of two counts and not a share of N, so that interval means nothing; "mcnemar" is the
sound form.

Example: n10 = 2 and n01 = 4 of 512 cases. r = .5, so "threshold" passes the proposal over. The 6 discordant cases split 2 to 4, which a
fair coin does as often as not (p = .69), so "mcnemar" goes on. With n10 = 2 and n01 = 14, p = .004, and "mcnemar" passes it over too:

    >>> def evidence(n10: int, n01: int) -> list[Evidence]:
    ...     return [Evidence(discordant=np.array([1] * n10 + [-1] * n01 + [0] * (512 - n10 - n01), dtype=np.int8))]
    >>> Threshold()(evidence(2, 4)), McNemar()(evidence(2, 4)), McNemar()(evidence(2, 14))
    ('pass over', 'go on', 'pass over')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.importance.correction import Paired, mcnemar, ratio

Decision: TypeAlias = Literal["go on", "pass over", "stop"]
Needs: TypeAlias = Literal["nothing", "distances", "discordance"]

ROUNDING = 1e-9
"""A standard deviation below this counts as zero."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One proposal as the rules see it.

    Args:
        distances: distance of each of its channels, 1 - the largest similarity with a staying channel; NaN for a silent channel.
        discordant: for every case, +1 where it is right only with the channel masked (n10), -1 where it is right only with its nearest
            channel masked (n01), else 0.
        usual_rate: the share of discordant cases that is usual in this network (the 60th percentile over random pairs of channels).
        progress: number of channels removed before, as a share of all that the floors allow to remove.
        kept: whether the proposal was kept; False for one that is not judged yet.
    """

    distances: tuple[float, ...] = ()
    discordant: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    usual_rate: float = 0.0
    progress: float = 0.0
    kept: bool = False

    def paired(self, cases: int | None = None) -> Paired:
        """Return the counts over the first `cases` cases, or over all with None."""
        part = self.discordant[:cases]
        return Paired(int((part > 0).sum()), int((part < 0).sum()), len(part))


class StoppingRule(Protocol):
    """A stopping rule."""

    needs: ClassVar[Needs]

    def __call__(self, proposals: Sequence[Evidence]) -> Decision:
        """Return what to do with the last of the proposals."""
        ...


@dataclass(frozen=True)
class Threshold:
    """Fixed thresholds on the ratio of benefits.

    Args:
        min_ratio: smallest ratio with which a proposal goes on.
        min_ratio_late: smallest ratio towards the end.
        late_share: share of the removals that counts as the end.
    """

    needs: ClassVar[Needs] = "discordance"
    min_ratio: float = 0.80
    min_ratio_late: float = 0.85
    late_share: float = 0.15

    def __call__(self, proposals: Sequence[Evidence]) -> Decision:
        """Return "go on" where the ratio is large enough, else "pass over"."""
        # Example: 170 of 200 channels above the floors are gone: progress is .85, and from here on r >= .85 is asked for.
        least = self.min_ratio_late if proposals[-1].progress >= 1 - self.late_share else self.min_ratio
        return "go on" if ratio(proposals[-1].paired()) >= least else "pass over"


@dataclass(frozen=True)
class Wilson:
    """Early acceptance and rejection by an interval, as published; see above for why it means nothing.

    Args:
        min_ratio: smallest ratio with which a proposal goes on.
        z: half width of the interval in standard errors.
        min_cases_accept: number of cases before an early "go on".
        min_cases_reject: number of cases before an early "pass over".
        min_discordant: number of discordant cases before an early "go on", however rare they usually are.
        batch_size: number of cases between two evaluations.
    """

    needs: ClassVar[Needs] = "discordance"
    min_ratio: float = 0.80
    z: float = 2.0
    min_cases_accept: int = 512
    min_cases_reject: int = 1024
    min_discordant: int = 2
    batch_size: int = 64

    def __call__(self, proposals: Sequence[Evidence]) -> Decision:
        """Return the decision of the first batch that decides; where none does, that of the ratio over all cases."""
        last = proposals[-1]
        for cases in range(self.batch_size, len(last.discordant) + 1, self.batch_size):
            paired = last.paired(cases)
            low, high = wilson_interval(ratio(paired), cases, self.z)
            # few discordant cases say little about their ratio, so an early "go on" waits for as many as two random channels would give
            enough = paired.n10 + paired.n01 >= max(self.min_discordant, last.usual_rate * cases)
            if low >= self.min_ratio and cases >= self.min_cases_accept and enough:
                return "go on"
            if high < self.min_ratio and cases >= self.min_cases_reject:
                return "pass over"
        return "go on" if ratio(last.paired()) >= self.min_ratio else "pass over"


@dataclass(frozen=True)
class McNemar:
    """The paired test of whether a channel is needed more than its nearest channel.

    Args:
        level: significance level of the exact two-sided test.
    """

    needs: ClassVar[Needs] = "discordance"
    level: float = 0.05

    def __call__(self, proposals: Sequence[Evidence]) -> Decision:
        """Return "pass over" where the loss is significant, else "go on"."""
        paired = proposals[-1].paired()
        # n01 > n10: more cases are right without the nearest channel than without this one, so it is this one that the network needs
        return "pass over" if paired.n01 > paired.n10 and mcnemar(paired) <= self.level else "go on"


@dataclass(frozen=True)
class ZScore:
    """A limit on how unusual a distance may be.

    Args:
        max_deviations: number of standard deviations above the mean from which a distance is too large.
        min_removals: number of removals before the rule acts.
        min_distances: number of their distances that must be known; a silent channel has none.
    """

    needs: ClassVar[Needs] = "distances"
    max_deviations: float = 4.0
    min_removals: int = 40
    min_distances: int = 30

    def __call__(self, proposals: Sequence[Evidence]) -> Decision:
        """Return "stop" where the largest distance of the proposal's channels is too far above the earlier ones, else "go on"."""
        # only what was really removed says which distances are usual; a refused proposal was not
        removed = np.array([distance for proposal in proposals[:-1] if proposal.kept for distance in proposal.distances])
        known = removed[~np.isnan(removed)]
        now = [distance for distance in proposals[-1].distances if not np.isnan(distance)]
        if len(removed) < self.min_removals or len(known) < self.min_distances or not now:
            return "go on"
        spread = known.std()
        # equal distances have no spread to count deviations in
        return "stop" if spread > ROUNDING and (max(now) - known.mean()) / spread > self.max_deviations else "go on"


@dataclass(frozen=True)
class Floor:
    """No rule but the minimum widths."""

    needs: ClassVar[Needs] = "nothing"

    def __call__(self, proposals: Sequence[Evidence]) -> Decision:
        """Return "go on", always."""
        return "go on"


STOPPING: Mapping[str, StoppingRule] = {
    "floor": Floor(),
    "threshold": Threshold(),
    "wilson": Wilson(),
    "mcnemar": McNemar(),
    "z-score": ZScore(),
}


def wilson_interval(share: float, cases: int, z: float) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a share of `cases`, at z standard errors."""
    centre = share + z * z / (2 * cases)
    half = z * sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases))
    scale = 1 + z * z / cases
    return (centre - half) / scale, (centre + half) / scale
