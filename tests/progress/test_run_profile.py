"""Where time and memory go, worked out by hand from made-up clocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from optimize import progress
from optimize.progress import begin_part, current_profile, stage, timed, track, whole_run
from optimize.progress.run_profile import FURTHER, OWN, START, ProfileRow, RunProfile, shortened


@dataclass
class Machine:
    """A clock, CPU time and memory that a test sets."""

    now: float = 100.0
    cpu: float = 7.0
    resident: int = 50
    highest: int = 60
    readings: list[float] = field(default_factory=list)

    def profile(self) -> RunProfile:
        return RunProfile(lambda: self.now, lambda: self.cpu, self.read, lambda: self.highest)

    def read(self) -> int:
        self.readings.append(self.now)
        return self.resident

    def work(self, seconds: float, cores: float = 1.0) -> None:
        self.now += seconds
        self.cpu += cores * seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


def table(profile: RunProfile) -> dict[tuple[str, str], tuple[int, float, float]]:
    return {(row.part, row.stage): (row.calls, row.seconds, row.cpu_seconds) for row in profile.rows()}


def test_the_example_of_the_module(machine: Machine) -> None:
    profile = machine.profile()
    judge = profile.open("judge")
    machine.work(3)
    export = profile.open("export")
    machine.work(1, cores=2)
    simplify = profile.open("simplify")
    machine.work(2)
    profile.close(simplify)
    machine.work(2)
    profile.close(export)
    machine.work(2)
    profile.close(judge)
    assert table(profile) == {
        (START, "judge"): (1, 5.0, 5.0),
        (START, "export"): (1, 3.0, 4.0),
        (START, "simplify"): (1, 2.0, 2.0),
    }


def test_the_rows_add_up_to_the_run(machine: Machine) -> None:
    profile = machine.profile()
    machine.work(1)
    for part in ("load", "search", "load"):
        profile.begin_part(part)
        machine.work(2)
        for _ in range(3):
            opened = profile.open("judge")
            machine.work(4, cores=1.5)
            profile.close(opened)
    assert table(profile) == {
        (START, OWN): (1, 1.0, 1.0),
        ("load", OWN): (2, 4.0, 4.0),
        ("load", "judge"): (6, 24.0, 36.0),
        ("search", OWN): (1, 2.0, 2.0),
        ("search", "judge"): (3, 12.0, 18.0),
    }
    whole = profile.as_dict()
    assert (whole["seconds"], whole["cpu_seconds"]) == (machine.now - 100, machine.cpu - 7)
    assert profile.seconds_of("load") == 28


def test_a_stage_that_is_not_the_innermost_may_end(machine: Machine) -> None:
    profile = machine.profile()
    outer, inner = profile.open("outer"), profile.open("inner")
    machine.work(1)
    profile.close(outer)
    profile.close(outer)
    machine.work(2)
    profile.close(inner)
    machine.work(4)
    assert table(profile) == {(START, "outer"): (1, 0.0, 0.0), (START, "inner"): (1, 3.0, 3.0), (START, OWN): (1, 4.0, 4.0)}


def test_memory_is_that_of_the_stage_and_of_what_is_inside(machine: Machine) -> None:
    profile = machine.profile()
    outer, inner = profile.open("outer"), profile.open("inner")
    machine.work(1)
    machine.resident = 80
    profile.tick()
    machine.resident = 55
    machine.work(1)
    profile.close(inner)
    profile.close(outer)
    machine.work(1)
    machine.highest = 300  # a new high of the process, which no reading saw
    after = profile.open("after")
    profile.close(after)
    peaks = {row.stage: row.peak_memory_bytes for row in profile.rows()}
    assert peaks == {"outer": 80, "inner": 80, OWN: 300, "after": 55}


def test_memory_is_not_read_at_every_call(machine: Machine) -> None:
    profile = machine.profile()
    for _ in range(1000):
        machine.work(0.001)
        profile.close(profile.open("x"))
        profile.tick()
    assert len(machine.readings) < 25


def test_of_many_stages_the_longest_stay() -> None:
    rows = [ProfileRow(part, f"{part}{number}", 2, float(number), 1.0, number) for part in ("a", "b") for number in range(100)]
    kept = shortened(rows, 10)
    assert sum(row.seconds for row in kept) == sum(row.seconds for row in rows)
    assert [(row.part, row.stage) for row in kept if row.stage != FURTHER] == [(p, f"{p}{n}") for p in "ab" for n in range(95, 100)]
    assert [(row.part, row.calls, row.peak_memory_bytes) for row in kept if row.stage == FURTHER] == [("a", 190, 94), ("b", 190, 94)]


def test_a_run_is_recorded_also_when_nobody_watches() -> None:
    assert current_profile() is None
    with timed("nothing"):
        pass
    with whole_run({"load": 1.0, "search": 1.0}):
        begin_part("load")
        with stage("read"), timed("decode"):
            pass
        begin_part("search")
        for turn in track(range(5), "narrow"):
            if turn == 2:
                break
        profile = current_profile()
        assert profile is not None
        with whole_run({"inner": 1.0}):
            assert current_profile() is profile
        calls = {(row.part, row.stage): row.calls for row in profile.rows()}
    assert {("load", "read"): 1, ("load", "decode"): 1, ("search", "narrow"): 1}.items() <= calls.items()
    assert current_profile() is None


def test_the_real_clocks_advance() -> None:
    profile = RunProfile()
    with_work = profile.open("work")
    total = sum(number * number for number in range(200_000))
    profile.close(with_work)
    row = next(row for row in profile.rows() if row.stage == "work")
    assert total
    assert row.seconds > 0
    assert row.cpu_seconds > 0
    assert row.peak_memory_bytes > 10**6


def test_without_getrusage_time_is_still_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.progress.run_profile.resource", None)
    profile = RunProfile()
    profile.close(profile.open("work"))
    assert profile.as_dict()["peak_memory_bytes"] > 10**6
    assert progress.current_profile() is None
