"""Stop long work when its time is up, between two pieces of it.

A caller enforces a deadline while a block runs. `track` asks for it before every further item, so work that can be stopped need not know of
deadlines:

    with Deadline.after(180).enforced():
        for layer in track(layers, "repair"):     raises OutOfTime before the first layer that begins after 180 s
            ...

No item is cut in two, so the block ends at most one item late. What the block has finished before is the caller's to use.

A deadline that is only announced stops nothing. `time_left` tells it to work that can be shortened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf

from optimize.errors import OutOfTime

_enforced: ContextVar[Deadline | None] = ContextVar("enforced", default=None)
_announced: ContextVar[Deadline | None] = ContextVar("announced", default=None)


@dataclass(frozen=True)
class Deadline:
    """A moment at which work has to stop.

    Args:
        at: the moment, on the clock.
        clock: seconds, monotonic.
    """

    at: float
    clock: Callable[[], float] = time.perf_counter

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is so many seconds from now."""
        return cls(time.perf_counter() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then; negative afterwards."""
        return self.at - self.clock()

    def require(self, seconds: float = 0.0) -> None:
        """Check that so many seconds are left.

        Raises:
            OutOfTime: when they are not.
        """
        if self.left <= seconds:
            raise OutOfTime

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Let `track` raise `OutOfTime` after the deadline while the block runs. Of two deadlines the earlier one counts."""
        outer = _enforced.get()
        token = _enforced.set(self if outer is None or self.left < outer.left else outer)
        try:
            yield
        finally:
            _enforced.reset(token)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Let `time_left` return the time until the deadline while the block runs; nothing is stopped by it."""
        token = _announced.set(self)
        try:
            yield
        finally:
            _announced.reset(token)


@contextmanager
def not_enforced() -> Iterator[None]:
    """Enforce no deadline while the block runs: work in which several processes wait for each other must not be left by one of them."""
    token = _enforced.set(None)
    try:
        yield
    finally:
        _enforced.reset(token)


def check_deadline() -> None:
    """Raise `OutOfTime` when the deadline that is enforced has passed; without one nothing happens."""
    deadline = _enforced.get()
    if deadline is not None:
        deadline.require()


def time_left() -> float:
    """Return the seconds until the deadline that was announced; infinite without one.

    Work that may be left out, such as repeating a measurement, asks for it.
    """
    deadline = _announced.get()
    return inf if deadline is None else deadline.left
