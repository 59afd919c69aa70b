"""Every rule against sequences made by hand."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
import pytest
from scipy.stats import binomtest

from optimize.searching.published.stopping import STOPPING, Decision, Evidence, Floor, McNemar, Threshold, Wilson, ZScore, wilson_interval


def flips(n10: int, n01: int, cases: int) -> np.ndarray:
    """So many cases right with only the channel masked, so many with only its double, in an order that is even throughout."""
    values = np.zeros(cases, dtype=np.int8)
    places = np.linspace(0, cases - 1, n10 + n01).round().astype(int)
    due = np.floor(np.arange(1, n10 + n01 + 1) * n10 / max(1, n10 + n01) + 1e-9)
    values[places] = np.where(np.diff(due, prepend=0) > 0, 1, -1)
    assert ((values > 0).sum(), (values < 0).sum()) == (n10, n01)
    return values


def seen(n10: int, n01: int, cases: int = 2000, *, usual: float = 0.0, progress: float = 0.0) -> list[Evidence]:
    return [Evidence((0.1,)), Evidence((0.1,), flips(n10, n01, cases), usual, progress)]


@pytest.mark.parametrize(
    ("n10", "n01", "progress", "decision"),
    [
        (0, 0, 0.0, "go on"),
        (80, 100, 0.0, "go on"),
        (100, 80, 0.0, "go on"),
        (79, 100, 0.0, "pass over"),
        (100, 79, 0.0, "pass over"),
        (80, 100, 0.84, "go on"),
        (80, 100, 0.85, "pass over"),
        (85, 100, 0.85, "go on"),
        (0, 1, 0.0, "pass over"),
    ],
)
def test_the_threshold_and_its_stricter_end(n10: int, n01: int, progress: float, decision: Decision) -> None:
    assert Threshold()(seen(n10, n01, progress=progress)) == decision


def test_wilsons_interval() -> None:
    low, high = wilson_interval(0.3, 50, 1.959963984540054)
    expected = binomtest(15, 50).proportion_ci(0.95, method="wilson")
    assert (low, high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    # r = .9 of N = 512 at z = 2, written out
    half = 2 * sqrt(0.9 * 0.1 / 512 + 4 / (4 * 512**2)) / (1 + 4 / 512)
    assert wilson_interval(0.9, 512, 2.0)[0] == pytest.approx((0.9 + 4 / 1024) / (1 + 4 / 512) - half)


class Counted(np.ndarray):
    """Remembers how far it was looked at."""

    looked = 0

    def __getitem__(self, key: object) -> object:
        if isinstance(key, slice):
            type(self).looked = len(self) if key.stop is None else key.stop
        return super().__getitem__(key)  # type: ignore[index]


def looked(rule: Wilson, n10: int, n01: int, cases: int, usual: float = 0.0) -> tuple[Decision, int]:
    """The decision, and after how many cases it fell."""
    Counted.looked = 0
    values = flips(n10, n01, cases).view(Counted)
    return rule([Evidence((), values, usual)]), Counted.looked


def test_wilson_accepts_early_but_not_before_512_cases() -> None:
    assert looked(Wilson(), 300, 300, 3000) == ("go on", 512)


def test_wilson_accepts_no_sooner_than_flips_are_usual() -> None:
    # one case in ten flips; where more is usual no look accepts, and the ratio decides in the end
    assert looked(Wilson(), 150, 150, 3000, usual=0.09)[0:2] == ("go on", 512)
    assert looked(Wilson(), 150, 150, 3000, usual=0.11) == ("go on", 3000)


def test_wilson_needs_two_flips() -> None:
    quiet = np.zeros(3000, dtype=np.int8).view(Counted)
    assert Wilson()([Evidence((), quiet)]) == "go on"  # nothing flips: r is 1
    assert Counted.looked == 3000
    quiet[[3, 700]] = [1, -1]
    assert Wilson()([Evidence((), quiet)]) == "go on"
    assert Counted.looked == 704  # the second flip is the first to balance the other


def test_wilson_rejects_early_but_not_before_1024_cases() -> None:
    assert looked(Wilson(), 100, 600, 3000) == ("pass over", 1024)


def test_wilson_undecided_falls_back_on_the_ratio() -> None:
    # around .80 the interval at z = 2 holds the threshold to the end
    assert looked(Wilson(), 405, 500, 3000) == ("go on", 3000)
    assert looked(Wilson(), 395, 500, 3000) == ("pass over", 3000)
    assert looked(Wilson(), 1, 4, 200) == ("pass over", 200)


@pytest.mark.parametrize(
    ("n10", "n01", "decision"),
    [(0, 5, "go on"), (0, 6, "pass over"), (6, 0, "go on"), (40, 60, "go on"), (39, 61, "pass over"), (61, 39, "go on"), (0, 0, "go on")],
)
def test_mcnemar_passes_over_what_is_surely_needed_more(n10: int, n01: int, decision: Decision) -> None:
    """The exact two-sided p of 0 : 5 is 2/32, of 0 : 6 it is 2/64; of 39 : 61 it is .035, of 40 : 60 it is .057."""
    assert McNemar()(seen(n10, n01)) == decision


def kept(count: int, *distances: float) -> list[Evidence]:
    """So many removals of one channel each, with these distances in turn."""
    return [Evidence((distances[k % len(distances)],), kept=True) for k in range(count)]


def test_the_brake_acts_four_deviations_out() -> None:
    before = kept(40, 0.1, 0.3)  # mean .2, deviation .1
    assert ZScore()([*before, Evidence((0.59,))]) == "go on"
    assert ZScore()([*before, Evidence((0.61,))]) == "stop"
    assert ZScore()([*before, Evidence((0.2, 0.61, 0.3))]) == "stop"
    assert ZScore()([*before, Evidence((nan,))]) == "go on"


def test_the_brake_waits_for_40_removals() -> None:
    assert ZScore()([*kept(39, 0.1, 0.3), Evidence((0.9,))]) == "go on"
    assert ZScore()([*kept(39, 0.1, 0.3), Evidence((0.2,)), Evidence((0.9,))]) == "go on"  # that one was rolled back
    assert ZScore()([*kept(20, 0.1, 0.3), Evidence((0.1, 0.3) * 10, kept=True), Evidence((0.9,))]) == "stop"


def test_the_brake_waits_for_30_distances() -> None:
    assert ZScore()([*kept(29, 0.1, 0.3), *kept(11, nan), Evidence((0.9,))]) == "go on"
    assert ZScore()([*kept(30, 0.1, 0.3), *kept(10, nan), Evidence((0.9,))]) == "stop"


def test_equal_distances_say_nothing() -> None:
    assert ZScore()([*kept(50, 0.2), Evidence((0.9,))]) == "go on"


def test_the_floor_never_stops() -> None:
    assert Floor()(seen(0, 2000)) == "go on"


def test_rules_say_what_they_need() -> None:
    needs = {name: rule.needs for name, rule in STOPPING.items()}
    discordance = dict.fromkeys(("threshold", "wilson", "mcnemar"), "discordance")
    assert needs == {"floor": "nothing", **discordance, "z-score": "distances"}
