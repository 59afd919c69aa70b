"""What a terminal shows, on a console that writes into memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial

import pytest
from rich.console import Console

from optimize import progress
from optimize.progress import COLUMNS, begin_part, end_step, note, stage, track, whole_run
from optimize.progress.bars import Bars, opened
from optimize.progress.estimate import RunEstimate

SHARES = {"load": 10.0, "search": 60.0, "measure": 30.0}


def console(terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=COLUMNS, height=30, color_system=None, legacy_windows=False)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    """A terminal on which this test is shown its progress."""
    fake = console()
    with opened(False, fake) as opened_bars:
        token = progress._bars.set(opened_bars)
        yield fake
        progress._bars.reset(token)


def now() -> list[str]:
    """The lines of bars as they are drawn now."""
    opened_bars = progress._bars.get()
    assert isinstance(opened_bars, Bars)
    page = console(terminal=False)
    page.print(opened_bars._progress.get_renderable())
    return [line.rstrip() for line in text(page).splitlines() if line.strip()]


def test_one_bar_for_the_whole_run_stands_above_what_is_under_way(terminal: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "RunEstimate", partial(RunEstimate, clock=lambda: clock[0]))
    with whole_run(SHARES):
        assert re.fullmatch(r"whole run: start .*estimating", now()[0])
        begin_part("load")
        clock[0] += 10
        begin_part("search", 10)
        with stage("export"):
            whole, under_way = now()
            assert re.fullmatch(r"whole run: search .*estimating", whole)
            assert under_way.startswith("export ")
            assert not under_way.endswith("left")
        for _ in track(range(2), "prune"):
            clock[0] += 30
            end_step()
        # 2 of 10 steps took 60 s: 240 s to go, then 30 shares at (10 + 300) s for 70
        assert re.fullmatch(r"whole run: search .*about 6 min left", now()[0])
        assert "0/" not in now()[0]
    assert now() == []


def test_the_bar_of_the_whole_run_never_goes_back(terminal: Console) -> None:
    with whole_run(SHARES):
        opened_bars = progress._bars.get()
        assert isinstance(opened_bars, Bars)
        begin_part("search")
        begin_part("measure")
        now()
        (task,) = opened_bars._progress.tasks
        before = task.completed
        task.fields["estimate"]._known_share = 0.0
        now()
        assert opened_bars._progress.tasks[0].completed == before > 0


def test_bars_fit_and_end_with_what_they_are_for(terminal: Console) -> None:
    with whole_run({"x" * 90: 1.0}):
        begin_part("x" * 90)
        for _ in track(range(3), "y" * 90):
            lines = now()
            assert len(lines) == 2
            assert max(map(len, lines)) <= COLUMNS
        assert len(now()) == 1


def test_a_run_within_a_run_has_no_bar_of_its_own(terminal: Console) -> None:
    with whole_run(SHARES), whole_run({"inner": 1.0}):
        begin_part("inner")
        begin_part("load")
        assert [line.partition("  ")[0] for line in now()] == ["whole run: load"]


def test_notes_stand_above_the_bars_unchanged(terminal: Console) -> None:
    with whole_run(SHARES), stage("export"):
        note("[limits] 50 % kept")
    assert "[limits] 50 % kept\n" in text(terminal)


def test_no_bar_where_there_is_no_terminal() -> None:
    plain = console(terminal=False)
    with opened(False, plain) as opened_bars, opened_bars.task("export", None):
        opened_bars.print("a note")
    assert text(plain) == "a note\n"
