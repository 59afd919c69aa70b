"""Draw bars on standard error: one for the whole run, and below it one for each piece of work that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as RemainingColumn
from rich.text import Text

from optimize.progress.estimate import RunEstimate, in_words

WIDTH = 34
"""Characters of a description; a longer one is cut."""
_RESOLUTION = 1000
"""Steps of the bar of the whole run."""


class _CountColumn(MofNCompleteColumn):
    """The column "done/total"; empty for the bar of the whole run, which has no steps."""

    def render(self, task: Task) -> Text:
        return Text("") if "estimate" in task.fields else super().render(task)


class _LeftColumn(ProgressColumn):
    """The column of the time left: by the estimate for the whole run, by its speed for other work; empty where the length is unknown."""

    max_refresh = 0.5

    def __init__(self) -> None:
        super().__init__()
        self._by_speed = RemainingColumn()

    def render(self, task: Task) -> Text:
        if "estimate" in task.fields:
            return Text(in_words(task.fields["estimate"].remaining))
        if task.total is None:
            return Text("")
        return Text.assemble(self._by_speed.render(task), " left")


class _Progress(Progress):
    """Bars of which the one for the whole run moves with the clock, not with calls."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            if (estimate := task.fields.get("estimate")) is not None:
                # an estimate may turn worse, but a bar that goes back looks like a fault
                done = max(task.completed, _RESOLUTION * estimate.fraction)
                self.update(task.id, completed=done, description=_described(estimate))
        yield from super().get_renderables()


class Bars:
    """The bars in a terminal.

    Args:
        progress: draws the bars.
        verbose: whether notes come with their details.
    """

    def __init__(self, progress: Progress, verbose: bool) -> None:
        self._progress, self.verbose = progress, verbose

    def print(self, text: str) -> None:
        """Print lines above the bars, as they are."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Show a bar while the block runs, which is given a function that advances it by one.

        Args:
            description: name of the work.
            total: number of advances; None where that is not known, for a bar that only shows that work goes on.
        """
        task: TaskID = self._progress.add_task(description[:WIDTH], total=total)
        try:
            yield lambda: self._progress.advance(task)
        finally:
            self._progress.remove_task(task)

    @contextmanager
    def whole_run(self, estimate: RunEstimate) -> Iterator[None]:
        """Show the bar of a whole run while the block runs."""
        task = self._progress.add_task(_described(estimate), total=_RESOLUTION, estimate=estimate)
        try:
            yield
        finally:
            self._progress.remove_task(task)


@contextmanager
def opened(verbose: bool, console: Console | None = None) -> Iterator[Bars]:
    """Draw bars while the block runs.

    Args:
        verbose: whether notes come with their details.
        console: console to draw on; standard error by default.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn(f"{{task.description:<{WIDTH}}}"), BarColumn(20), _CountColumn(), TimeElapsedColumn(), _LeftColumn())
    # Into a file or a pipe a bar would only be an empty line; notes are printed all the same.
    with _Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bars(progress, verbose)


def _described(estimate: RunEstimate) -> str:
    """Return the description of the whole run: which part of it runs."""
    return f"whole run: {estimate.part or 'start'}"[:WIDTH]
