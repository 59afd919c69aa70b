"""When to leave a proposal out, and when to stop: the published rules side by side, each a pure function of what was proposed so far.

A rule is a frozen dataclass, its fields are its settings. It is called with the evidence of every proposal so far, the present one last and
not judged yet, and answers "go on", "pass over" (leave this one out) or "stop". What a rule needs to see it says in `needs`, since evidence
costs forward passes.

With n10 and n01 the cases that only masking the channel to be removed, or only masking the one it resembles most, leaves right
(`importance/correction.py`), r = min / max of the two and N the cases:

    threshold   pass over where r < .80; .85 for the last 15 % of the removals
    wilson      look at the cases batch by batch, with the interval of r at z = 2 as if r were a share of N: go on once its lower end
                reaches .80, N >= 512 and there are as many flips as usual; pass over once its upper end is below .80 and N >= 1024; after
                all cases r itself decides
    mcnemar     pass over where the channel is needed more than the one it resembles: n01 > n10, exact p <= .05
    z-score     stop where the distance to what stays lies 4 standard deviations above those of the removals so far
    floor       go on until every floor is reached

"wilson" is offered as published, but r is a ratio of two counts and no share of N, so that interval means nothing; "mcnemar" is the sound
form.
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
"""A deviation below this is none."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One proposal as the rules see it.

    Args:
        distances: of each of its channels, 1 - the largest similarity with a channel that stays; NaN for a silent one.
        flips: for every case, +1 where only masking the channel leaves it right (n10), -1 where only masking its double does (n01), else 0.
        usual: the rate of flips that is usual in this network (the 60th percentile over random pairs of channels).
        progress: share of what can be removed at all that was removed before.
        kept: how it was judged; False for one that is not judged yet.
    """

    distances: tuple[float, ...] = ()
    discordant: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    usual_rate: float = 0.0
    progress: float = 0.0
    kept: bool = False

    def paired(self, cases: int | None = None) -> Paired:
        """The counts over the first `cases`; None for all."""
        seen = self.discordant[:cases]
        return Paired(int((seen > 0).sum()), int((seen < 0).sum()), len(seen))


class Stopping(Protocol):
    """A rule."""

    needs: ClassVar[Needs]

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        """What to do with the last of these."""
        ...


@dataclass(frozen=True)
class Threshold:
    """Fixed thresholds on the ratio of benefits.

    Args:
        least: ratio that is enough.
        least_late: ratio that is enough towards the end.
        late: share of the removals that counts as the end.
    """

    needs: ClassVar[Needs] = "discordance"
    least: float = 0.80
    least_late: float = 0.85
    late: float = 0.15

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        """Whether the ratio is enough."""
        least = self.least_late if seen[-1].progress >= 1 - self.late else self.least
        return "go on" if ratio(seen[-1].paired()) >= least else "pass over"


@dataclass(frozen=True)
class Wilson:
    """Early acceptance and rejection by an interval, as published; see above for why it means nothing.

    Args:
        least: ratio that is enough.
        z: half width of the interval in standard errors.
        accept: cases before one may accept.
        reject: cases before one may reject.
        flips: least flips before one may accept, however unusual flips are.
        batch: cases between two looks.
    """

    needs: ClassVar[Needs] = "discordance"
    least: float = 0.80
    z: float = 2.0
    min_cases_accept: int = 512
    min_cases_reject: int = 1024
    min_discordant: int = 2
    batch_size: int = 64

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        """The first batch that decides; where none does, the ratio over all cases."""
        last = seen[-1]
        for cases in range(self.batch_size, len(last.discordant) + 1, self.batch_size):
            paired = last.paired(cases)
            low, high = wilson(ratio(paired), cases, self.z)
            flips = paired.n10 + paired.n01
            if low >= self.least and cases >= self.min_cases_accept and flips >= max(self.min_discordant, last.usual_rate * cases):
                return "go on"
            if high < self.least and cases >= self.min_cases_reject:
                return "pass over"
        return "go on" if ratio(last.paired()) >= self.least else "pass over"


@dataclass(frozen=True)
class McNemar:
    """The paired test of whether a channel is needed more than its double.

    Args:
        level: of the exact two-sided test.
    """

    needs: ClassVar[Needs] = "discordance"
    level: float = 0.05

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        """Whether the loss shows."""
        paired = seen[-1].paired()
        return "pass over" if paired.n01 > paired.n10 and mcnemar(paired) <= self.level else "go on"


@dataclass(frozen=True)
class ZScore:
    """The brake on distances.

    Args:
        most: standard deviations above the mean that are too far.
        accepts: removals before the brake acts.
        samples: distances it must know of them; silent channels have none.
    """

    needs: ClassVar[Needs] = "distances"
    most: float = 4.0
    accepts: int = 40
    samples: int = 30

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        """Whether the farthest of the proposal's channels is out of line."""
        taken = np.array([distance for each in seen[:-1] if each.kept for distance in each.distances])
        known = taken[~np.isnan(taken)]
        now = [distance for distance in seen[-1].distances if not np.isnan(distance)]
        if len(taken) < self.accepts or len(known) < self.samples or not now:
            return "go on"
        spread = known.std()
        return "stop" if spread > ROUNDING and (max(now) - known.mean()) / spread > self.most else "go on"


@dataclass(frozen=True)
class Floor:
    """No rule but the floors."""

    needs: ClassVar[Needs] = "nothing"

    def __call__(self, seen: Sequence[Evidence]) -> Decision:
        """Go on."""
        return "go on"


STOPPING: Mapping[str, Stopping] = {
    "floor": Floor(),
    "threshold": Threshold(),
    "wilson": Wilson(),
    "mcnemar": McNemar(),
    "z-score": ZScore(),
}


def wilson(share: float, cases: int, z: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `cases`."""
    centre = share + z * z / (2 * cases)
    half = z * sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases))
    scale = 1 + z * z / cases
    return (centre - half) / scale, (centre + half) / scale
