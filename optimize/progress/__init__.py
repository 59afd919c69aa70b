"""Show the progress of long work; nothing is shown unless a caller asks for it.

The command opens `shown()` once. Everything below calls `track`, `stage` and `note`, and need not know whether somebody watches. A long job
also says which parts it has (`whole_run`) and which one begins (`begin_part`), so that one bar shows the estimated end of the whole.

Also when nobody watches, the time and the memory of every stage of a whole run are recorded (`run_profile.py`). `timed` adds a stage
without a bar, for work that is done too often to be shown:

    with timed("normal equations"):
        ...

What is noticed on the way and belongs to a result is recorded with `record_finding`; a caller collects it with `collect_findings()`.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from optimize.errors import printable
from optimize.progress.deadline import check_deadline
from optimize.progress.estimate import RunEstimate
from optimize.progress.run_profile import RunProfile, Timed

if TYPE_CHECKING:
    from optimize.progress.bars import Bars
    from optimize.progress.deadline import Deadline

T = TypeVar("T")
COLUMNS = 100
"""Width of a line of progress: a longer text goes on in a further line, which begins with spaces."""
_bars: ContextVar[Bars | None] = ContextVar("bars", default=None)
_estimate: ContextVar[RunEstimate | None] = ContextVar("estimate", default=None)
_profile: ContextVar[RunProfile | None] = ContextVar("profile", default=None)
_findings: ContextVar[list[object] | None] = ContextVar("findings", default=None)


@contextmanager
def shown(verbose: bool = False) -> Iterator[None]:
    """Show progress on standard error while the block runs; of several processes that torchrun started, one does.

    Args:
        verbose: whether notes come with their details.
    """
    # torchrun sets RANK; four processes would draw four bars into one terminal
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    from optimize.progress.bars import opened  # late: rich takes a while to import

    with opened(verbose) as bars:
        token = _bars.set(bars)
        try:
            yield
        finally:
            _bars.reset(token)


@contextmanager
def whole_run(parts: Mapping[str, float]) -> Iterator[None]:
    """Record the profile of a whole job while the block runs, and show one bar for it with an estimate of the time left.

    Args:
        parts: name of each part, in order -> the share of the job's time that it usually takes, in any unit.
    """
    if _profile.get() is not None:  # this job is part of a larger one
        yield
        return
    estimate, bars = RunEstimate(parts), _bars.get()
    tokens = _estimate.set(estimate), _profile.set(RunProfile())
    try:
        with nullcontext() if bars is None else bars.whole_run(estimate):
            yield
    finally:
        _estimate.reset(tokens[0])
        _profile.reset(tokens[1])


def expect_parts(seconds: Mapping[str, float]) -> None:
    """Say how long later parts of the whole run will take, as far as that is known by now; nothing happens outside of `whole_run`."""
    estimate = _estimate.get()
    if estimate is not None:
        estimate.expect(seconds)


def limit_part(name: str, deadline: Deadline) -> None:
    """Say that a part of the whole run ends at the deadline at the latest; nothing happens outside of `whole_run`."""
    estimate = _estimate.get()
    if estimate is not None:
        estimate.limit(name, deadline.left)


def current_profile() -> RunProfile | None:
    """Return the profile of the whole run that goes on, for its report; None outside of `whole_run`."""
    return _profile.get()


def timed(name: str) -> Timed:
    """Return a context manager that records a block of work as a stage of the run's profile, without a bar.

    It costs a few microseconds, and next to nothing outside of `whole_run`.

    Args:
        name: name of the stage, the same for every call, such as "normal equations": each name is one row of the profile.

    >>> with timed("normal equations"):
    ...     gram = [[2.0]]
    """
    return Timed(_profile.get(), name)


def begin_part(name: str, steps: int | None = None) -> None:
    """Say that a part of the whole run begins, and that the part before it has ended; nothing happens outside of `whole_run`.

    Args:
        name: name of the part.
        steps: about how many steps of equal length the part has, each ended by `end_step`; None where that is not known.
    """
    estimate, profile = _estimate.get(), _profile.get()
    if profile is not None:
        profile.begin_part(name)
    if estimate is not None:
        estimate.begin(name, steps)


def end_step() -> None:
    """Say that a step of the running part has ended."""
    estimate = _estimate.get()
    if estimate is not None:
        estimate.end_step()


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `items`, advancing a bar.

    Args:
        items: what to yield.
        description: name of the work, for the bar and for the run's profile.
        total: number of items; needed only where `items` has no length.

    Raises:
        OutOfTime: when a deadline is enforced (`deadline.py`) and has passed, before a further item.
    """
    bars, profile = _bars.get(), _profile.get()
    if total is None and isinstance(items, Sized):
        total = len(items)
    with timed(description), nullcontext(_nothing) if bars is None else bars.task(description, total) as advance:
        for turn, item in enumerate(items):
            if turn:  # not after the last item either: work that is complete is not thrown away
                check_deadline()
            yield item
            advance()
            if profile is not None:
                profile.tick()


@contextmanager
def stage(description: str) -> Iterator[None]:
    """Show that something of unknown length is under way."""
    bars = _bars.get()
    with timed(description), nullcontext() if bars is None else bars.task(description, None):
        yield


def _nothing() -> None:
    """Advance no bar: nobody watches."""


def note(text: str, details: Iterable[str] = ()) -> None:
    """Print a line above the bars.

    Args:
        text: one short sentence, in one line of `COLUMNS` characters where that is possible.
        details: further lines, printed only with `--verbose`.
    """
    bars = _bars.get()
    if bars is None:
        return
    for line in (text, *(f"    {detail}" for detail in details if bars.verbose)):
        bars.print("\n".join(folded(line)))


def folded(text: str) -> list[str]:
    """Return the lines of a text, of at most `COLUMNS` characters unless a single word is longer, without what a terminal would obey.

    >>> [len(line) for line in folded("word " * 40)]
    [99, 98, 8]
    """
    text = printable(text)
    if len(text) <= COLUMNS:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.wrap(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


@contextmanager
def collect_findings() -> Iterator[list[object]]:
    """Collect what is recorded while the block runs."""
    findings: list[object] = []
    token = _findings.set(findings)
    try:
        yield findings
    finally:
        _findings.reset(token)


def record_finding(finding: object) -> None:
    """Record something that a caller may want to know of a result beside the result itself; `str(finding)` is one line."""
    findings = _findings.get()
    if findings is not None:
        findings.append(finding)
    else:
        note(str(finding))
