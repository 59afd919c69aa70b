"""A pair of models is timed in turns or at the same time, by stand-ins whose blocks take what the test says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.errors import InputError
from optimize.measure import duet
from optimize.measure.duet import Mode, PairSample, choose_mode, core_halves, measure_pair

BASELINE, CANDIDATE = (SimpleNamespace(name=name, model={"path": f"{name}.pt"}) for name in ("baseline", "candidate"))
BLOCKS = st.lists(st.tuples(st.integers(10**6, 10**9), st.integers(10**6, 10**9)), min_size=1, max_size=9)


class Machine:
    """Stands in for `timing_processes`: a block of the baseline takes 10 ms, one of the candidate 12 ms; a log of what was asked."""

    def __init__(self, call_ns: int = 100_000, noise: Mapping[str, float] | None = None) -> None:
        self.call_ns = call_ns
        self.noise = noise or {}
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.slowdowns: dict[str, float] = {}
        self.opened: list[str] = []
        self.draw = np.random.default_rng(0)

    @contextmanager
    def processes(self, models: Sequence[Mapping[str, str]], *, slowdowns: Sequence[float], **settings: Any) -> Iterator[list[Any]]:
        names = [model["path"].removesuffix(".pt") for model in models]
        self.opened += names
        self.slowdowns |= dict(zip(names, slowdowns, strict=True))
        yield [self.process(name) for name in names]

    def process(self, name: str) -> Any:
        def answer() -> dict[str, int]:
            mode = "duet" if "cores" in self.log[-1][1] else "interleaved"
            length = {"baseline": 10_000_000, "candidate": 12_000_000}[name]
            return {"ns": round(length * math.exp(self.noise.get(mode, 0.0) * self.draw.standard_normal()))}

        return SimpleNamespace(call_ns=self.call_ns, request=lambda **command: self.log.append((name, command)), answer=answer)


class Clock:
    """Stands in for the module `time`: every look finds an eighth of a second gone."""

    def __init__(self) -> None:
        self.looks = 0

    def perf_counter(self) -> float:
        self.looks += 1
        return self.looks / 8

    def perf_counter_ns(self) -> int:
        return self.looks


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    stand_in = Machine()
    monkeypatch.setattr(duet, "time", Clock())
    monkeypatch.setattr(duet, "timing_processes", stand_in.processes)
    monkeypatch.setattr(duet, "core_halves", lambda threads: [[0], [1]])
    return stand_in


@pytest.mark.parametrize("mode", ["interleaved", "duet"])
@pytest.mark.parametrize("seed", range(4))
def test_the_ratio_is_candidate_over_baseline_whoever_is_first(seed: int, mode: Mode, machine: Machine) -> None:
    sample = measure_pair(BASELINE, CANDIDATE, seed=seed, mode=mode, slowdown=0.05)
    assert sample.log_ratio == pytest.approx(math.log(1.2))
    assert (sample.mode, sample.first) == (mode, machine.opened[0])
    assert machine.slowdowns == {"baseline": 0.0, "candidate": 0.05}
    # a block aims at 1 ms: 10 calls of 0.1 ms, that take 10 ms here
    assert (sample.calls, sample.baseline_ms, sample.candidate_ms) == (10, 1.0, 1.2)


def test_either_model_is_first_in_about_half_of_the_pairs(machine: Machine) -> None:
    first = [measure_pair(BASELINE, CANDIDATE, seed=seed, seconds=0.0).first for seed in range(100)]
    # 99.9 % of fair coins fall within 34 to 66 heads of 100
    assert 34 <= first.count("candidate") <= 66


def test_interleaved_blocks_change_their_order_with_every_round(machine: Machine) -> None:
    measure_pair(BASELINE, CANDIDATE, seconds=0.0)
    one, other = machine.opened
    assert [name for name, _ in machine.log] == [one, other, other, one] * (duet.MIN_ROUNDS // 2)
    assert all(command == {"calls": 10, "settle": 1} for _, command in machine.log)


def test_the_blocks_of_a_duet_start_together_and_change_their_cores(machine: Machine) -> None:
    measure_pair(BASELINE, CANDIDATE, seconds=0.0, mode="duet")
    rounds = list(zip(machine.log[::2], machine.log[1::2], strict=True))
    assert len(rounds) == duet.MIN_ROUNDS
    assert all(first["start_ns"] == second["start_ns"] for (_, first), (_, second) in rounds)
    assert [(first["cores"], second["cores"]) for (_, first), (_, second) in rounds] == [([0], [1]), ([1], [0])] * (duet.MIN_ROUNDS // 2)


@pytest.mark.parametrize(("call_ns", "calls", "settle"), [(100_000, 10, 1), (50_000_000, 1, 0), (2_000_000, 1, 0), (700, 1429, 142)])
def test_blocks_of_a_fast_model_are_many_calls_and_of_a_slow_one_a_single_call(
    call_ns: int, calls: int, settle: int, machine: Machine
) -> None:
    machine.call_ns = call_ns
    assert measure_pair(BASELINE, CANDIDATE, seconds=0.0).calls == calls
    assert {command["settle"] for _, command in machine.log} == {settle}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 10), (0.5, 13), (3.0, 33)])
def test_rounds_fill_the_time(seconds: float, rounds: int, machine: Machine) -> None:
    """Ten rounds without a look at the clock; then one for each eighth of a second that is not over: 3 in 0.5 s, 23 in 3 s."""
    assert len(measure_pair(BASELINE, CANDIDATE, seconds=seconds).baseline_ns) == rounds


@pytest.mark.parametrize(("noise", "mode"), [({"duet": 0.05}, "interleaved"), ({"interleaved": 0.05}, "duet"), ({}, "interleaved")])
def test_the_mode_with_less_spread_is_chosen(noise: dict[str, float], mode: Mode, machine: Machine) -> None:
    machine.noise = noise
    assert choose_mode(BASELINE, CANDIDATE, threads=1) == mode


def test_two_processes_never_share_a_gpu_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.noise = {"interleaved": 0.05}
    monkeypatch.setattr(duet, "runs_on_cpu", lambda runtime: runtime != "torch")
    assert choose_mode(BASELINE, CANDIDATE, threads=1) == "interleaved"
    assert machine.opened == []


def test_without_cores_for_two_no_process_is_opened_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duet.os, "sched_getaffinity", lambda _: {0})
    assert choose_mode(BASELINE, CANDIDATE, threads=1) == "interleaved"


@pytest.mark.parametrize(("cores", "threads", "halves"), [({0, 1}, 1, [[0], [1]]), ({4, 1, 9, 3, 8}, 2, [[1, 3], [4, 8]])])
def test_a_duet_divides_the_cores(cores: set[int], threads: int, halves: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duet.os, "sched_getaffinity", lambda _: cores)
    assert core_halves(threads) == halves


@pytest.mark.parametrize("threads", [None, 2])
def test_a_duet_of_more_threads_than_half_the_cores_is_refused(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duet.os, "sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(InputError, match=r"^`threads` \(=.*\) must be a number, at most 1, for a duet on 2 cores: measure interleaved\.$"):
        core_halves(threads)


def sample(blocks: Sequence[tuple[int, int]]) -> PairSample:
    baseline, candidate = zip(*blocks, strict=True)
    return PairSample("interleaved", "baseline", 1, baseline, candidate, 1.0)


@settings(deadline=None)
@given(BLOCKS)
def test_swapping_the_models_turns_the_sign(blocks: list[tuple[int, int]]) -> None:
    back = sample([(candidate, baseline) for baseline, candidate in blocks])
    assert back.log_ratio == pytest.approx(-sample(blocks).log_ratio, abs=1e-12)
    assert back.spread == pytest.approx(sample(blocks).spread, abs=1e-12)


@settings(deadline=None)
@given(BLOCKS, st.integers(2, 1000))
def test_the_unit_of_time_has_no_effect(blocks: list[tuple[int, int]], scale: int) -> None:
    scaled = sample([(baseline * scale, candidate * scale) for baseline, candidate in blocks])
    assert scaled.log_ratio == pytest.approx(sample(blocks).log_ratio, abs=1e-12)


def test_the_spread_is_that_of_the_median_deviation() -> None:
    """Log ratios 0, 0, 0.1, 0.2, 9: median 0.1, deviations 0.1, 0.1, 0, 0.1, 8.9, their median 0.1, over the root of 5."""
    blocks = [(10**9, round(10**9 * math.exp(log_ratio))) for log_ratio in (0, 0, 0.1, 0.2, 9)]
    assert sample(blocks).spread == pytest.approx(0.1 / math.sqrt(5), rel=1e-6)
