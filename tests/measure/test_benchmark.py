"""What is measured, in which order and under what load: sessions, processes and the machine are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from optimize.backends.session import Session
from optimize.candidate import Floats
from optimize.errors import InputError, OptimizeError
from optimize.hardware.gpu import Gpu
from optimize.measure import benchmark as module
from optimize.measure.benchmark import Contender, Plan, benchmark
from optimize.measure.energy import Meter, Meters
from optimize.measure.latency import Latency
from optimize.measure.memory import Memory
from optimize.measure.text_report import lines
from optimize.measure.warmup import Warmup

MIB = 2**20


@dataclass
class Stage:
    """All that happens, in order."""

    events: list[Any] = field(default_factory=list)
    loads: Iterator[float] = field(default_factory=lambda: iter([1.0, 2.0] * 9))
    settles: bool = True
    disturbances: Iterator[float] = field(default_factory=lambda: iter([3.0] * 9))

    def contender(self, name: str, ms: float = 4.0) -> Contender:
        """It takes so many milliseconds; what its model is, is its name."""

        def opened(threads: int | None) -> Session:
            self.events.append(("open", name, threads))
            return Session((1,), lambda inputs: inputs, None, lambda: self.events.append(("close", name)))

        def inputs(count: int) -> Floats:
            self.events.append(("inputs", name, count))
            return np.full((count, 1), ms, dtype=np.float32)

        return Contender(name, "torch", "f32", {"path": name}, 3 * MIB, (1,), opened, inputs)

    def interleave(self, calls: Any, *, seconds: float, min_rounds: int, warmup: int) -> dict[str, Latency]:
        self.events.append(("time", *calls, seconds))
        return {name: Latency((float(np.ravel(call())[0]),) * 60) for name, call in calls.items()}

    def memory(self, model: Any, *, batch: int, threads: int | None, limit_bytes: int | None = None) -> Memory:
        self.events.append(("process", model["path"], batch, threads, limit_bytes))
        if limit_bytes is not None and limit_bytes < 10 * MIB:
            raise OptimizeError("memory could not be measured: bad alloc.")
        starts = sum(event[0] == "process" for event in self.events)
        device = (300 * MIB, "") if model["path"] == "on gpu" else (None, "torch runs on the processor")
        return Memory(batch * 20 * MIB, 5 * MIB, 9 * MIB, 1, starts, 0.25, *device)

    @contextmanager
    def contending(
        self, model: Any, count: int, *, batch: int, threads: int | None, gpu_limit_bytes: int | None
    ) -> Iterator[list[int]]:
        self.events.append(("start", model["path"], count, batch, threads, *([gpu_limit_bytes] if gpu_limit_bytes else [])))
        yield []
        self.events.append(("stop", model["path"]))


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr("optimize.measure.latency._RESAMPLES", 50)
    monkeypatch.setattr(module, "interleave", made.interleave)
    monkeypatch.setattr(module, "peak_memory", made.memory)
    monkeypatch.setattr(module, "contending", made.contending)
    monkeypatch.setattr(module.energy, "meters", lambda: Meters((), ("no RAPL counter",)))
    monkeypatch.setattr(module, "gpu", lambda: Gpu((), "", ("3g.20gb, device 0 of GPU 1",)))
    monkeypatch.setattr(module, "foreign_load", lambda: next(made.loads))
    monkeypatch.setattr(module, "warm_up", lambda calls: Warmup(dict.fromkeys(calls, (4.0, 4.0 if made.settles else 5.0))))
    monkeypatch.setattr(module, "watch_foreign_load", lambda: lambda: next(made.disturbances))
    return made


def test_every_combination_is_measured_by_itself(acted: Stage) -> None:
    a, b = acted.contender("a"), acted.contender("b", 2)
    found = benchmark([a, b], Plan(batches=(1, 8), threads=(1, 2), seconds=3))
    assert [(each["threads"], each["batch"]) for each in found["measurements"]] == [(1, 1), (1, 8), (2, 1), (2, 8)]
    assert [event[2] for event in acted.events if event[:2] == ("open", "a")] == [1, 1, 2, 2]
    assert [event for event in acted.events if event[0] == "time"] == [("time", "a", "b", 3)] * 4
    assert sum(event[0] == "open" for event in acted.events) == sum(event[0] == "close" for event in acted.events) == 8


def test_figures_by_hand(acted: Stage) -> None:
    found = benchmark([acted.contender("a"), acted.contender("b", 2)], Plan(batches=(8,)))["measurements"][0]
    assert found["load_percent"] == {"before": 1, "during": 3, "after": 2}
    assert found["reliability"] == {name: {"answer": "steady", "reasons": []} for name in "ab"}
    fast = found["latency_ms"]["b"]
    assert fast["samples"] == [2.0] * 60
    assert fast["p50"] == {"value": 2, "at_most": 2, "samples_needed": 5}
    assert fast["p99"] == {"value": 2, "at_most": None, "samples_needed": 299}
    assert (fast["items_per_s"], fast["variation"], fast["block_variation"], fast["n"]) == (4000, 0, 0, 60)
    assert found["comparison"] == {
        "b": {"against": "a", "answer": "faster", "ratio": {"value": 2, "low": 2, "high": 2}, "reasons": []},
    }
    assert "under_load" not in found


def test_a_busy_machine_leaves_it_open(acted: Stage) -> None:
    acted.loads = iter([0.0, 55.0])
    found = benchmark([acted.contender("a"), acted.contender("b", 2)], Plan())["measurements"][0]["comparison"]["b"]
    assert found["answer"] == "inconclusive"
    assert found["reasons"] == ["other processes used 55 % of the CPU after the measurement, more than 20 %"]


@pytest.mark.parametrize(
    ("disturbance", "settles", "reason"),
    [
        (100.0, True, "other processes used 100 % of the CPU during the measurement, more than 20 %"),
        (3.0, False, "the medians of a had not settled when warm-up was given up"),
    ],
)
def test_one_alone_is_said_not_to_be_relied_on(acted: Stage, disturbance: float, settles: bool, reason: str) -> None:
    acted.disturbances, acted.settles = iter([disturbance]), settles
    result = benchmark([acted.contender("a")], Plan())
    found = result["measurements"][0]
    assert found["reliability"]["a"] == {"answer": "not to be relied on", "reasons": [reason]}
    assert found["comparison"] == {}
    text = list(lines(result))
    assert f"not to be relied on: {reason}" in text
    assert next(line for line in text if line.endswith("no")).split()[0] == "a"


def test_what_is_the_pairs_own_reason_stands_under_it(acted: Stage) -> None:
    text = list(lines(benchmark([acted.contender("a"), acted.contender("b")], Plan())))
    assert text[-1] == "  the interval of the ratio, 1.000 to 1.000, contains 1"
    assert not any("not to be relied on" in line for line in text)


def test_one_that_had_not_settled_leaves_it_open(acted: Stage) -> None:
    acted.settles = False
    result = benchmark([acted.contender("a"), acted.contender("b", 2)], Plan())
    found = result["measurements"][0]["comparison"]["b"]
    assert list(lines(result))[-1] == "batch 1: the medians had not settled when warm-up was given up."
    assert found["answer"] == "inconclusive"
    assert found["reasons"] == [f"the medians of {name} had not settled when warm-up was given up" for name in "ab"]


def test_a_contender_that_drifts_leaves_it_open(acted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 10 to 11 ms in 60 steps: ten block medians that vary by 2.9 %."""
    ramp = {"a": Latency(tuple(np.linspace(10, 11, 60))), "b": Latency((2.0,) * 60)}
    monkeypatch.setattr(module, "interleave", lambda *_, **__: ramp)
    found = benchmark([acted.contender("a"), acted.contender("b")], Plan())["measurements"][0]["comparison"]["b"]
    assert (found["answer"], found["reasons"]) == ("inconclusive", ["the block medians of a vary by 2.9 %, more than 2.5 %"])


def test_energy_stands_beside_the_latency_where_a_counter_can_be_read(acted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that moves by 3 J with every call, and one that stands still; the machine takes a second for each look at the clock."""
    calls, ticks = count(), count()
    two = Meter("package-0", lambda: 3 * sum(event[0] == "call" for event in acted.events), 1), Meter("package-1", lambda: 7, 1)
    monkeypatch.setattr(module.energy, "meters", lambda: Meters(two, ()))
    real = module.energy.measure
    quick = {"timer": lambda: float(next(ticks)), "sleep": lambda _: None}
    monkeypatch.setattr(module.energy, "measure", lambda made, found, **each: real(made, found, **each, **quick))

    def opened(threads: int | None) -> Session:
        return Session((1,), lambda inputs: (acted.events.append(("call", next(calls))), inputs)[1], None, lambda: None)

    a = replace(acted.contender("a"), open=opened)
    result = benchmark([a], Plan(batches=(4,), seconds=6))
    assert result["energy"] == {"meters": ["package-0", "package-1"], "notes": []}
    found = result["measurements"][0]["energy"]
    assert found["idle_w"] == {"package-0": 0, "package-1": 0}
    each = found["contenders"]["a"]
    assert each["meters"]["package-0"] == {"joules_per_item": 3 / 4, "watts": 3 * each["calls"] / each["seconds"]}
    assert each["meters"]["package-1"] == {"joules_per_item": 0, "watts": 0}
    table = [line.split() for line in lines(result)]
    assert ["a", "0.75", f"{3 * each['calls'] / each['seconds']:.1f}", "0", "0.0"] in table


def test_what_is_on_a_gpu_is_told_of_as_such(acted: Stage) -> None:
    there = replace(acted.contender("on gpu"), runtime="tensorrt")
    result = benchmark([acted.contender("a"), there], Plan(contend=1, gpu_memory_limit_bytes=5 * MIB))
    assert ("start", "on gpu", 1, 1, None, 5 * MIB) in acted.events
    assert result["contenders"]["on gpu"]["memory"]["device_bytes"] == 300 * MIB
    told = ["on gpu holds 300 MiB of GPU memory after its first batch", "no GPU memory: torch runs on the processor"]
    assert [line for line in lines(result) if "GPU memory" in line] == told
    assert result["notes"][-1].endswith("there are: 3g.20gb, device 0 of GPU 1.")
    assert benchmark([acted.contender("a")], Plan(contend=1))["notes"] == benchmark([there], Plan())["notes"] == []


def test_cold_starts_are_fresh_processes_and_their_middle_counts(acted: Stage) -> None:
    found = benchmark([acted.contender("a")], Plan(batches=(2, 8, 4), threads=(3, 1)))["contenders"]["a"]
    assert acted.events[:4] == [("process", "a", 2, 3, None)] * 3 + [("process", "a", 8, 3, None)]
    assert [each["open_s"] for each in found["cold_start"]["samples"]] == [1, 2, 3]
    assert (found["cold_start"]["open_s"], found["cold_start"]["first_s"], found["cold_start"]["batch"]) == (2, 0.25, 2)
    memory = {"imports_bytes": 5 * MIB, "opened_bytes": 9 * MIB, "peak_bytes": {"2": 40 * MIB, "8": 160 * MIB}}
    memory |= {"device_bytes": None, "device_note": "torch runs on the processor"}
    assert found["memory"] == memory
    assert (found["runtime"], found["precision"], found["input_shape"], found["size_bytes"]) == ("torch", "f32", [1], 3 * MIB)
    assert (found["parameters"], found["macs"]) == (None, None)


def test_a_memory_limit_is_kept_or_not(acted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(size_bytes: int) -> Any:
        return benchmark([acted.contender("a")], Plan(batches=(1, 4), memory_limit_bytes=size_bytes))["contenders"]["a"]["memory"]["limit"]

    # Batches of one take 20 MiB.
    too_much = {"peak_bytes": 80 * MIB, "resident_fits": False}
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert limit(10 * MIB) == {"bytes": 10 * MIB, "fits": True, "reason": None} | too_much
    assert ("process", "a", 4, None, 10 * MIB) in acted.events
    assert limit(9 * MIB) == {"bytes": 9 * MIB, "fits": False, "reason": "memory could not be measured: bad alloc."} | too_much
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert limit(9 * MIB) == {"bytes": 9 * MIB, "fits": None, "reason": "darwin enforces no limit of address space"} | too_much


def test_a_limit_of_address_space_says_whether_resident_memory_would_fit(acted: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading reserves what it never touches: 25 MiB of address space are not enough for 20 MiB in use."""
    monkeypatch.setattr(module.sys, "platform", "linux")

    def memory(model: Any, *, limit_bytes: int | None = None, **asked: Any) -> Memory:
        if limit_bytes is not None:
            raise OptimizeError("bad alloc.")
        return acted.memory(model, **asked)

    monkeypatch.setattr(module, "peak_memory", memory)
    result = benchmark([acted.contender("a")], Plan(memory_limit_bytes=25 * MIB))
    found = result["contenders"]["a"]["memory"]["limit"]
    assert found == {"bytes": 25 * MIB, "fits": False, "reason": "bad alloc.", "peak_bytes": 20 * MIB, "resident_fits": True}
    line = next(line for line in lines(result) if "does not run" in line)
    assert line.endswith("which is more than what it uses: peak resident memory was 20,971,520 bytes, which fits (bad alloc)")


def test_under_load_each_meets_copies_of_itself(acted: Stage) -> None:
    found = benchmark([acted.contender("a"), acted.contender("b", 2)], Plan(batches=(4,), threads=(1,), contend=3, seconds=1))
    after = acted.events[acted.events.index(("time", "a", "b", 1)) + 1 :]
    ours = [("start", "a", 3, 4, 1), ("time", "a", 1), ("stop", "a"), ("start", "b", 3, 4, 1), ("time", "b", 1), ("stop", "b")]
    assert after[:6] == ours
    under_load = found["measurements"][0]["under_load"]
    assert {name: each["times_quiet"] for name, each in under_load.items()} == {name: {"p50": 1, "p99": None} for name in "ab"}
    why = "no ratio of p99: it takes 299 samples on both sides, not 60 under load and 60 quiet"
    assert {name: each["no_ratio"] for name, each in under_load.items()} == {name: {"p99": why} for name in "ab"}
    assert {name: each["reliability"]["answer"] for name, each in under_load.items()} == dict.fromkeys("ab", "steady")


def test_a_ratio_of_a_percentile_takes_samples_enough_on_both_sides() -> None:
    few, enough, slow = Latency((2.0,) * 298), Latency((2.0,) * 299), Latency((5.0,) * 299)
    assert module.slowdown(slow, enough) == {"times_quiet": {"p50": 2.5, "p99": 2.5}, "no_ratio": {}}
    for one, other in ((few, slow), (slow, few)):
        assert module.slowdown(one, other)["times_quiet"]["p99"] is None
    assert module.slowdown(Latency((2.0,) * 4), enough)["times_quiet"] == {"p50": None, "p99": None}


def test_under_load_too_others_may_disturb(acted: Stage) -> None:
    """The background processes are children of this one, and not among the others."""
    acted.disturbances = iter([3.0, 60.0, 3.0])
    result = benchmark([acted.contender("a"), acted.contender("b")], Plan(contend=1))
    found = result["measurements"][0]["under_load"]
    reason = "other processes used 60 % of the CPU during the measurement, more than 20 %"
    assert found["a"]["reliability"] == {"answer": "not to be relied on", "reasons": [reason]}
    assert found["b"]["reliability"]["answer"] == "steady"
    assert (found["a"]["load_percent"], found["b"]["load_percent"]) == ({"during": 60}, {"during": 3})
    assert f"not to be relied on: {reason}" in list(lines(result))

def test_under_a_rival_all_take_turns(acted: Stage) -> None:
    plan = Plan(contend=1, seconds=1)
    found = benchmark([acted.contender("a"), acted.contender("b", 2)], plan, background_model=acted.contender("c"))
    after = acted.events[acted.events.index(("time", "a", "b", 1)) + 1 :]
    assert after[:3] == [("start", "c", 1, 1, None), ("time", "a", "b", 1), ("stop", "c")]
    assert found["settings"]["contend_with"] == "c"


def test_the_result_is_json_and_says_where_it_was_taken(acted: Stage) -> None:
    found = benchmark([acted.contender("a")], Plan(contend=1))
    assert json.loads(json.dumps(found, allow_nan=False))["format"] == 1
    assert {"created", "machine", "versions", "settings"} <= set(found)
    assert found["machine"]["cpu"]
    assert found["notes"] == []


def test_notes_say_what_a_reader_would_not_guess(acted: Stage) -> None:
    acted.settles = False
    found = benchmark([acted.contender("a")], Plan(batches=(64,), threads=(2,)))
    assert found["notes"] == [
        "A batch of more than 32 runs as several of at most 32.",
        "batch 64, threads 2: the medians had not settled when warm-up was given up.",
    ]


@pytest.mark.parametrize(("name", "values"), [("batches", ()), ("batches", (1, 1)), ("threads", (2, 1, 2))])
def test_a_plan_names_each_number_once(name: str, values: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"`--{name}` \(=.*\) must hold at least one number, and none twice"):
        Plan(**{name: values})  # type: ignore[arg-type]


def test_the_lines_hold_every_answer(acted: Stage) -> None:
    acted.loads = iter([1.0, 2.0, 30.0, 2.0])
    plan = Plan(batches=(1, 4), contend=2, memory_limit_bytes=9 * MIB)
    text = list(lines(benchmark([acted.contender("a"), replace(acted.contender("long name", 2), parameters=1234)], plan)))
    rows = [line for line in text if line.startswith("long name  ")]
    assert " ".join(rows[0].split()) == "long name 1,234 - 3.00 1.000 7.000 0.250 9 20 80"
    bounds = "2.000 [<= 2.000] 2.000 [<= 2.000] 2.000 [<= 2.000] 2.000 [needs 299]"
    assert " ".join(rows[1].split()) == f"long name {bounds} 500.0 0.0 % 60 yes"
    assert rows[2].split()[-3:] == ["yes", "1.00", "-"]
    assert text.count("no ratio of p99: it takes 299 samples on both sides, not 60 under load and 60 quiet") == 2
    assert "batch 1 (other processes: 1 % before, 3 % during, 2 % after)" in text
    assert "no energy: no RAPL counter" in text
    assert "long name: faster, 2.000x [2.000, 2.000] the speed of a" in text
    unsure = text.index("long name: inconclusive, not measured reliably beside a")
    assert text[unsure + 1] == "  for what is said above"
    assert text[unsure - 1] == "not to be relied on: other processes used 30 % of the CPU before the measurement, more than 20 %"
    assert text.count("with 2 background processes of the same model") == 2
    limited = next(line for line in text if line.startswith("a does not run within"))
    peak = "peak resident memory was 83,886,080 bytes, which does not fit (memory could not be measured: bad alloc)"
    assert limited == f"a does not run within 9,437,184 bytes of address space, which is more than what it uses: {peak}"
    header = next(line for line in text if line.startswith("contender"))
    assert len(header) == len(text[text.index(header) + 1])
