"""The times of a pipeline's stages, by a clock that the stages themselves move; and Amdahl's formula against a pipeline made faster."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from optimize.errors import InputError
from optimize.measure.pipeline import amdahl, time_pipeline


class Clock:
    """Seconds that pass only where a stage says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def stage(self, seconds: Callable[[str, int], float]) -> Callable[[object], object]:
        """A stage that takes `seconds(file, n-th call on that file)` and passes the file on."""
        calls: dict[object, int] = {}

        def run(file: object) -> object:
            calls[file] = calls.get(file, -1) + 1
            self.now += seconds(str(file), calls[file])
            return file

        return run


def test_the_times_of_the_stages_are_means_of_medians_and_add_up() -> None:
    clock = Clock()
    # call 0 is the warm-up, which takes an hour and does not count; call 3 of file b is disturbed
    read = clock.stage(lambda file, call: 3600 if not call else {"a": 0.004, "b": 0.008}[file])
    network = clock.stage(lambda file, call: 0.9 if (file, call) == ("b", 3) else 0.003)
    times = time_pipeline(["a", "b"], {"read": read, "network": network}, rounds=5, timer=clock)
    assert (times.files, times.rounds) == (2, 5)
    assert times.stages["read"].ms == pytest.approx(6.0)
    assert times.stages["network"].ms == pytest.approx(3.0)  # the disturbed round is one of five
    assert times.total_ms == pytest.approx(9.0)
    assert times.share("network") == pytest.approx(1 / 3)
    assert (times.stages["read"].low_ms, times.stages["read"].high_ms) == pytest.approx((4.0, 8.0))


def test_files_take_turns() -> None:
    order: list[str] = []
    time_pipeline(["a", "b"], {"read": lambda file: order.append(file)}, rounds=2)
    assert order == ["a", "b"] * 3


def test_each_stage_gets_what_the_one_before_it_made() -> None:
    seen: list[object] = []
    time_pipeline([1], {"double": lambda value: 2 * value, "keep": seen.append}, rounds=1)
    assert seen == [2, 2]


@pytest.mark.parametrize("factor", [2.0, 4.0, 10.0, inf])
def test_amdahl_is_what_a_pipeline_with_a_faster_network_takes(factor: float) -> None:
    def total(network_ms: float) -> float:
        clock = Clock()
        stages = {name: clock.stage(lambda _, __, ms=ms: ms / 1e3) for name, ms in (("read", 6.0), ("fit", 4.0), ("network", network_ms))}
        times = time_pipeline(["a"], stages, rounds=3, timer=clock)
        assert network_ms != 5.0 or times.speedup("network", factor) == pytest.approx(15.0 / (10.0 + 5.0 / factor))
        return times.total_ms

    assert amdahl(1 / 3, factor) == pytest.approx(total(5.0) / total(5.0 / factor))


def test_a_third_of_the_pipeline_never_makes_it_more_than_half_as_fast_again() -> None:
    assert amdahl(1 / 3, inf) == pytest.approx(1.5)
    assert amdahl(1.0, inf) == inf
    assert amdahl(0.0, 100) == 1.0


@pytest.mark.parametrize(("share", "factor", "text"), [(1.2, 2, "share"), (-0.1, 2, "share"), (0.5, 0, "factor"), (0.5, -1, "factor")])
def test_a_share_or_a_factor_out_of_range_is_refused(share: float, factor: float, text: str) -> None:
    with pytest.raises(InputError, match=text):
        amdahl(share, factor)


@pytest.mark.parametrize(("files", "stages", "rounds"), [([], {"a": str}, 1), ([1], {}, 1), ([1], {"a": str}, 0)])
def test_nothing_to_time_is_refused(files: list[object], stages: dict[str, Callable[[object], object]], rounds: int) -> None:
    with pytest.raises(InputError, match="at least one file"):
        time_pipeline(files, stages, rounds=rounds)
