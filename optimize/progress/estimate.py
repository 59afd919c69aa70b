"""Estimate when a run of several parts will end, from the time that its parts have taken so far.

How long a run takes depends on the network, the data and the machine, so it is not known before. Roughly known is the share that each part
usually takes. So the time of the parts that have ended gives a pace, in seconds per share, and the pace gives the rest:

    shares         load 5, search 50, compile 25, measure 20
    so far         load took 6 s, search 54 s: 60 s for 55 shares, a pace of 1.09 s
    compile began  10 s ago, and should take 25 * 1.09 = 27 s: 17 s left
    measure        20 * 1.09 = 22 s
    left           about 39 s

Two things are known better than by shares. A part that consists of steps, such as the proposals of a search, is known by them: half of its
steps take half of its time. And a caller that has measured something may say what a later part will take, in seconds (`expect`), or when it
ends at the latest (`limit`). Until a fifth of the run is known in one of these ways there is no estimate, since a pace from the short first
part would be a guess.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

KNOWN_SHARE = 0.2
"""Share of the run that must be known before its end is estimated."""
MIN_STEPS = 2
"""Steps that must have ended before a part is known by its steps: the first one is often unlike the others."""
OVERTIME = 0.25
"""A part that takes longer than expected, or has more steps, is expected to go on for this share of what it has taken already."""


class RunEstimate:
    """Estimates the time left of a run from the parts that have ended.

    Args:
        parts: name of each part, in order -> the share of the time that it usually takes, in any unit, above 0.
        clock: seconds, monotonic.
    """

    def __init__(self, parts: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._shares, self._clock = dict(parts), clock
        self._started = self._part_started = clock()
        self._known_share = self._known_seconds = 0.0
        self._expected: dict[str, float] = {}
        self._limits: dict[str, float] = {}
        self._steps: int | None = None
        self._ended_steps = 0
        self._steps_started = self._started
        self.part: str | None = None
        """Name of the running part; None before the first."""

    def begin(self, part: str, steps: int | None = None) -> None:
        """End the running part and begin another one; parts that were left out count as ended, in no time.

        Args:
            part: name of the part; a name that is not among the shares changes nothing. The running part goes on: only its steps begin now.
            steps: about how many steps it has; None where that is not known.
        """
        if part not in self._shares:
            return
        now = self._clock()
        if part == self.part:
            self._steps, self._ended_steps, self._steps_started = steps or self._steps, 0, now
            return
        if self.part is not None:
            self._known_share += self._shares[self.part]
            self._known_seconds += now - self._part_started
        self.part, self._part_started, self._steps_started, self._steps, self._ended_steps = part, now, now, steps, 0

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take what parts will take from these seconds, instead of from shares."""
        self._expected |= {part: duration for part, duration in seconds.items() if part in self._shares}

    def limit(self, part: str, seconds: float) -> None:
        """Say that a part ends at the latest so many seconds from now."""
        self._limits[part] = self._clock() + seconds

    def end_step(self) -> None:
        """Count a step of the running part."""
        self._ended_steps += 1

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started

    @property
    def remaining(self) -> float | None:
        """Seconds until the end of the run, about; None where too little is known."""
        if self.part is None:
            return None
        spent, share = self._clock() - self._part_started, self._shares[self.part]
        known_share, known_seconds = self._known_share, self._known_seconds
        left, later = self._left_of_running(spent), self._later()
        if left is not None:
            known_share, known_seconds = known_share + share, known_seconds + spent + left
        elif known_share < KNOWN_SHARE * sum(self._shares.values()):
            return None
        unknown = sum(self._shares[part] for part in later if part not in self._expected)
        if unknown and known_share < KNOWN_SHARE * sum(self._shares.values()):
            return None
        pace = known_seconds / known_share if known_share else 0.0
        if left is None:
            left = _not_overdue(pace * share, spent)
        return left + pace * unknown + sum(self._expected.get(part, 0.0) for part in later)

    @property
    def fraction(self) -> float:
        """How much of the run is done, in 0..1: of its time where that is estimated, otherwise of its shares."""
        remaining = self.remaining
        if remaining is None:
            return self._known_share / sum(self._shares.values())
        return self.elapsed / (self.elapsed + remaining) if remaining else 1.0

    def _left_of_running(self, spent: float) -> float | None:
        """Seconds until the running part ends, by its steps or by what was expected, within its limit; None where nothing says that."""
        assert self.part is not None
        left = self._left_by_steps()
        if left is None and self.part in self._expected:
            left = _not_overdue(self._expected[self.part], spent)
        if self.part not in self._limits:
            return left
        to_limit = max(0.0, self._limits[self.part] - self._clock())
        return to_limit if left is None else min(left, to_limit)

    def _left_by_steps(self) -> float | None:
        """Seconds until the running part ends, by the steps that have ended; None where that is not known."""
        if self._steps is None or self._ended_steps < MIN_STEPS:
            return None
        spent = self._clock() - self._steps_started
        steps_left = max(self._steps - self._ended_steps, OVERTIME * self._ended_steps)
        return spent * steps_left / self._ended_steps

    def _later(self) -> list[str]:
        """Names of the parts that have not begun."""
        names = list(self._shares)
        return names[names.index(self.part or "") + 1 :]


def _not_overdue(expected: float, spent: float) -> float:
    """Return the seconds left; a part that is over its time is not about to end, so it is given a quarter more of what it took."""
    return max(expected - spent, OVERTIME * spent)


def in_words(seconds: float | None) -> str:
    """Return the time left as a person says it, never more exact than an estimate can be.

    >>> [in_words(seconds) for seconds in (None, 3, 42, 200, 4000, 30000)]
    ['estimating', 'a few seconds left', 'about 40 s left', 'about 3 min left', 'about 1 h 10 min left', 'about 8 h left']
    """
    if seconds is None:
        return "estimating"
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {10 * round(seconds / 10)} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min left"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"about {hours} h {rest} min left" if hours < 3 and rest else f"about {round(minutes / 60)} h left"
