"""Threads that run the model, behind a queue that does not grow beyond its bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .errors import Full

Result = TypeVar("Result")


class Workers:
    """A bounded number of places for requests, and threads that serve them in the order in which they came.

    A request has its place from its first byte to its last, so that bodies which are still on their way count as well: at most
    `threads + max_waiting` bodies lie in memory at once.

    Args:
        threads: number of threads that run the model.
        max_waiting: number of requests that may wait besides those that run.
        time_limit_s: longest time in seconds from a place to its result.
    """

    def __init__(self, threads: int, max_waiting: int, time_limit_s: float) -> None:
        self.places, self.time_limit_s = threads + max_waiting, time_limit_s
        self.taken = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")

    def __enter__(self) -> Workers:
        """Take a place.

        Raises:
            Full: when none is free.
        """
        if self.taken >= self.places:
            raise Full(f"all {self.places} places are taken")
        self.taken += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.taken -= 1

    async def run(self, work: Callable[[], Result], deadline: float) -> Result:
        """Return the result of `work`, which a thread runs.

        A run that has begun cannot be broken off. Its thread stays busy until it ends, and only then another request begins.

        Args:
            work: function without arguments.
            deadline: time of the event loop at which the client is told to come back.

        Raises:
            Full: when the time was up first.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError:
            raise Full(f"no answer within {self.time_limit_s:g} s") from None

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
