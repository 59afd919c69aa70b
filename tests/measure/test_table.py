from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.backends import backend
from optimize.errors import InputError, TargetUnavailable
from optimize.files import cache_folder
from optimize.measure import table as module
from optimize.measure.layers import LayerShape
from optimize.measure.table import LatencyTable
from optimize.progress import shown

RUNTIME: Any = SimpleNamespace(NAME="fake", preflight=lambda: None, precisions=lambda: ("f32", "bf16"), version=lambda: "1.2")


def conv(in_channels: int, out_channels: int) -> LayerShape:
    return LayerShape("conv", in_channels, out_channels, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))


class Timer:
    """Says `scale` microseconds for a thousand MACs, and remembers what it was asked."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.asked = scale, list[LayerShape]()
        self.calls = 0

    def __call__(self, shapes: Sequence[LayerShape]) -> Mapping[LayerShape, float]:
        self.calls += 1
        self.asked.extend(shapes)
        return {shape: self.scale * shape.macs * 1e-6 for shape in shapes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "table.json"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Percent that others use of the machine: the last of the list, while something is timed and at any other moment."""
    percent = [0.0]
    monkeypatch.setattr(module, "watch_foreign_load", lambda: lambda: percent[-1])
    monkeypatch.setattr(module, "foreign_load", lambda: percent[-1])
    return percent


def test_a_cell_is_timed_once_ever(path: Path) -> None:
    timer = Timer()
    table = LatencyTable(RUNTIME, path=path, timer=timer)
    table.fill([conv(8, 8), conv(8, 16), conv(8, 8)])
    assert (table.ms(conv(8, 8)), table.ms(conv(8, 16))) == (9 * 64 * 64 * 1e-6, 9 * 64 * 128 * 1e-6)
    table.fill([conv(8, 16), conv(16, 16)])
    assert table.ms(conv(4, 4)) == 9 * 64 * 16 * 1e-6
    assert sorted(timer.asked, key=str) == sorted([conv(8, 8), conv(8, 16), conv(16, 16), conv(4, 4)], key=str)
    assert timer.calls == 3
    again = Timer(scale=7)
    assert LatencyTable(RUNTIME, path=path, timer=again).ms(conv(16, 16)) == table.ms(conv(16, 16))
    assert not again.asked


def test_a_clock_that_knows_orders_layers(path: Path) -> None:
    """Four milliseconds and a tenth: with figures that the clock tells, the table tells them back, in order."""
    small, large = conv(16, 16), conv(64, 64)
    told = {small: 0.1, large: 4.0}
    table = LatencyTable(RUNTIME, path=path, timer=lambda shapes: {shape: told[shape] for shape in shapes})
    assert large.macs == 16 * small.macs
    assert table.ms(small) == 0.1 < table.ms(large) == 4.0


def test_iterators_are_taken_too(path: Path) -> None:
    timer = Timer()
    LatencyTable(RUNTIME, path=path, timer=timer).fill(conv(8, width) for width in (8, 16))
    assert len(timer.asked) == 2


def test_portions_are_kept_as_they_come(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.measure.layer_benchmark._MOST_CELLS", 1)
    timer = Timer()

    def breaks_off(shapes: Sequence[LayerShape]) -> Mapping[LayerShape, float]:
        if timer.calls:
            raise KeyboardInterrupt
        return timer(shapes)

    with pytest.raises(KeyboardInterrupt):
        LatencyTable(RUNTIME, path=path, timer=breaks_off).fill([conv(8, 8), conv(8, 16)])
    resumed = Timer()
    LatencyTable(RUNTIME, path=path, timer=resumed).fill([conv(8, 8), conv(8, 16)])
    assert (timer.asked, resumed.asked) == ([conv(8, 8)], [conv(8, 16)])


def _damaged(stored: dict[str, Any]) -> list[str]:
    cells = stored["cells"]
    line = next(iter(cells))
    wrong: list[Any] = [
        [],
        None,
        {**stored, "format": stored["format"] + 1},
        {**stored, "cells": [1, 2]},
        {**stored, "cells": {line: "fast"}},
        {**stored, "cells": {line: None}},
        {**stored, "cells": {line: -1.0}},
        {**stored, "cells": {line: float("nan")}},
        {**stored, "doubtful": None},
        {"format": stored["format"], "cells": cells},
    ]
    return ["", "{", json.dumps(stored)[:-9], *map(json.dumps, wrong)]


def test_a_damaged_file_is_ignored_and_written_anew(path: Path) -> None:
    LatencyTable(RUNTIME, path=path, timer=Timer()).fill([conv(8, 8)])
    good = path.read_text(encoding="utf-8")
    for text in _damaged(json.loads(good)):
        path.write_text(text, encoding="utf-8")
        timer = Timer()
        LatencyTable(RUNTIME, path=path, timer=timer).fill([conv(8, 8)])
        assert timer.asked == [conv(8, 8)], text
        assert path.read_text(encoding="utf-8") == good
    path.write_bytes(b"\xff\xfe\x00")
    assert LatencyTable(RUNTIME, path=path, timer=Timer()).ms(conv(8, 8)) > 0


@pytest.mark.parametrize("change", ["version", "precision", "threads", "batch", "cpu", "method"])
def test_another_fingerprint_is_ignored(change: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LatencyTable(RUNTIME, path=path, timer=Timer()).fill([conv(8, 8)])
    runtime, settings = RUNTIME, dict[str, Any]()
    if change == "version":
        runtime = SimpleNamespace(**{**vars(RUNTIME), "version": lambda: "1.3"})
    elif change == "method":
        monkeypatch.setattr(module, "METHOD", module.METHOD + 1)
    elif change == "cpu":
        here = module.machine()
        monkeypatch.setattr(module, "machine", lambda: {**here, "cpu": "another"})
    else:
        settings = {change: {"precision": "bf16", "threads": 3, "batch": 8}[change]}
    timer = Timer()
    other = LatencyTable(runtime, path=path, timer=timer, **settings)
    assert other.ms(conv(8, 8)) > 0
    assert timer.asked == [conv(8, 8)]


def test_two_processes_keep_what_both_found(path: Path) -> None:
    one, other = LatencyTable(RUNTIME, path=path, timer=Timer()), LatencyTable(RUNTIME, path=path, timer=Timer(scale=2))
    one.fill([conv(8, 8), conv(8, 16)])
    other.fill([conv(8, 8), conv(8, 32)])
    one.fill([conv(8, 32), conv(16, 16)])
    third = Timer(scale=9)
    table = LatencyTable(RUNTIME, path=path, timer=third)
    table.fill([conv(8, 8), conv(8, 16), conv(8, 32), conv(16, 16)])
    assert not third.asked
    # What the other process had found was taken over instead of timed again.
    assert table.ms(conv(8, 32)) == one.ms(conv(8, 32)) == 2 * 9 * 64 * 256 * 1e-6
    assert one.ms(conv(8, 8)) == 9 * 64 * 64 * 1e-6


def test_what_was_timed_on_a_busy_machine_serves_until_it_is_quiet(path: Path, busy: list[float]) -> None:
    """The run that took a doubtful figure keeps to it, one that resumes it there does too; on a quiet machine only the sure ones stand."""
    LatencyTable(RUNTIME, path=path, timer=Timer()).fill([conv(8, 8)])
    busy.append(60.0)
    table = LatencyTable(RUNTIME, path=path, timer=Timer(scale=5))
    table.fill([conv(8, 8), conv(8, 16)])
    resumed = Timer(scale=7)
    assert LatencyTable(RUNTIME, path=path, timer=resumed).ms(conv(8, 16)) == table.ms(conv(8, 16)) == 5 * 9 * 64 * 128 * 1e-6
    assert not resumed.asked
    busy.append(3.0)
    quiet = Timer(scale=2)
    anew = LatencyTable(RUNTIME, path=path, timer=quiet)
    anew.fill([conv(8, 8), conv(8, 16)])
    assert (quiet.asked, anew.ms(conv(8, 16))) == ([conv(8, 16)], 2 * 9 * 64 * 128 * 1e-6)
    assert table.ms(conv(8, 16)) == 5 * 9 * 64 * 128 * 1e-6  # a run in between goes on as it began
    table.fill([conv(16, 16)])  # and what it writes spoils no sure figure
    last = Timer(scale=3)
    LatencyTable(RUNTIME, path=path, timer=last).fill([conv(8, 8), conv(8, 16), conv(16, 16)])
    assert not last.asked
    assert LatencyTable(RUNTIME, path=path, timer=last).ms(conv(8, 16)) == 2 * 9 * 64 * 128 * 1e-6


def test_a_short_disturbance_costs_a_second_timing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    percent, timer = iter([60.0, 3.0]), Timer()
    monkeypatch.setattr(module, "watch_foreign_load", lambda: lambda: next(percent))
    LatencyTable(RUNTIME, path=path, timer=timer).fill([conv(8, 8)])
    assert (timer.calls, json.loads(path.read_text(encoding="utf-8"))["doubtful"]) == (2, [])


def test_doubtful_figures_are_told(path: Path, busy: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        LatencyTable(RUNTIME, path=path, timer=Timer()).fill([conv(8, 8)])
        assert "other processes" not in capsys.readouterr().err
        busy.append(60.0)
        LatencyTable(RUNTIME, path=path, timer=Timer()).fill([conv(8, 8), conv(8, 16)])
    assert "1 of 2 layers were timed while other processes used the machine" in capsys.readouterr().err


def test_nothing_but_the_table_is_left_behind(path: Path) -> None:
    LatencyTable(RUNTIME, path=path, timer=Timer()).fill([conv(8, 8)])
    assert [each.name for each in path.parent.iterdir()] == ["table.json"]


def test_same_cells_give_the_same_bytes(tmp_path: Path) -> None:
    orders = ([conv(8, 8), conv(8, 16)], [conv(8, 16), conv(8, 8)])
    for name, shapes in zip("ab", orders, strict=True):
        for shape in shapes:
            LatencyTable(RUNTIME, path=tmp_path / name, timer=Timer()).ms(shape)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_that_cannot_be_written_costs_only_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    timer = Timer()
    with shown():
        table = LatencyTable(RUNTIME, path=tmp_path / "file" / "table.json", timer=timer)
        assert table.ms(conv(8, 8)) == table.ms(conv(8, 8)) > 0
    assert len(timer.asked) == 1
    assert "The latency table is not kept:" in capsys.readouterr().err


def test_by_default_it_lies_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tables = [LatencyTable(RUNTIME, precision, timer=Timer()) for precision in ("f32", "bf16", "int8")]
    assert {table.path.parent for table in tables} == {tmp_path / "optimize" / "latency"}
    assert len({table.path for table in tables}) == 3
    assert all(table.path.name.startswith("fake-") for table in tables)
    assert LatencyTable(RUNTIME, timer=Timer()).path == tables[0].path
    tables[0].fill([conv(8, 8)])
    assert tables[0].path.is_file()


@pytest.mark.parametrize("value", [None, "", "relative/folder"])
def test_without_a_cache_folder_it_is_the_one_at_home(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/someone"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder("latency") == Path("/home/someone/.cache/optimize/latency")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LatencyTable(RUNTIME, "f16"), r"`precision` \(='f16'\) must be one that fake runs natively .*: f32, bf16, int8"),
        (lambda: LatencyTable(RUNTIME, batch=0), r"`batch` \(=0\) must be at least 1"),
    ],
)
def test_settings_are_checked(make: Callable[[], LatencyTable], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_target_that_cannot_run_is_refused_before_any_work() -> None:
    with pytest.raises(TargetUnavailable, match="target 'tensorrt' cannot run here"):
        LatencyTable(backend("tensorrt"))


def test_a_real_runtime_fills_it(any_target: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.measure.layer_benchmark.SECONDS", 0)
    monkeypatch.setattr("optimize.measure.layer_benchmark.SECONDS_PER_CELL", 0)
    table = LatencyTable(backend(any_target), threads=1, path=path)
    shapes = [conv(4, 4), conv(8, 8), LayerShape("linear", 16, 4)]
    table.fill(shapes)
    assert all(table.ms(shape) > 0 for shape in shapes)
    again = LatencyTable(backend(any_target), threads=1, path=path, timer=Timer())
    assert [again.ms(shape) for shape in shapes] == [table.ms(shape) for shape in shapes]
