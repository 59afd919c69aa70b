"""Progress that costs a library caller nothing: silent unless someone up the stack asked to see it.

The command opens `shown()` once; everything below calls `track` and `note` and does not know who watches. What is found out on the way, and
belongs to a result, is collected by whoever asked for it with `gathered()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
_active: ContextVar[Progress | None] = ContextVar("progress", default=None)
_findings: ContextVar[list[object] | None] = ContextVar("findings", default=None)


@contextmanager
def shown() -> Iterator[None]:
    """Draw progress bars with time left on standard error while the block runs; of several processes that torchrun started, one does."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # Into a file or a pipe a bar would only be an empty line; what is noted is said all the same.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        token = _active.set(progress)
        try:
            yield
        finally:
            _active.reset(token)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items`, advancing a bar. `total` is needed only where `items` has no length."""
    progress = _active.get()
    if progress is None:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    task = progress.add_task(description, total=total)
    try:
        for item in items:
            yield item
            progress.advance(task)
    finally:
        progress.remove_task(task)


@contextmanager
def stage(description: str) -> Iterator[None]:
    """Show that something of unknown length is under way."""
    progress = _active.get()
    if progress is None:
        yield
        return
    task = progress.add_task(description, total=None)
    try:
        yield
    finally:
        progress.remove_task(task)


def note(text: str) -> None:
    """Say one line above the bars."""
    progress = _active.get()
    if progress is not None:
        progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def collect_findings() -> Iterator[list[object]]:
    """Collect what is found while the block runs."""
    found: list[object] = []
    token = _findings.set(found)
    try:
        yield found
    finally:
        _findings.reset(token)


def record_finding(what: object) -> None:
    """Report something that a caller may want to know of a result besides the result itself; `str(what)` is one line."""
    found = _findings.get()
    if found is not None:
        found.append(what)
    else:
        note(str(what))
