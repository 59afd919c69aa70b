"""Rails are arranged and drawn: against orders and positions worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from optimize.report import rails
from tests.report.parts import rail
from tests.report.sample import failing, inconclusive, masks, passing


def drop(value: float, high: float, outcome: str = "pass", **others: Any) -> dict[str, Any]:
    whole = rail("recall", "drop", 0.06, 0.9, 0.9 - value, seen=100, name="a", scope="class")
    return whole | {"value": value, "low": value - 0.01, "high": high, "outcome": outcome} | others


def test_the_worst_fails_then_is_undecided_then_is_nearest_to_its_limit() -> None:
    safe, near = drop(0.03, 0.04), drop(0.01, 0.055)
    unsure, failed = drop(0.0, 0.07, "inconclusive"), drop(0.061, 0.07, "fail")
    assert rails.worst([safe, near]) is near
    assert rails.worst([safe, near, unsure]) is unsure
    assert rails.worst([unsure, failed]) is failed
    assert rails.worst([drop(0.02, 0.03), drop(0.03, 0.03) | {"low": None, "high": None}])["high"] in (None, 0.03)


def test_without_bounds_the_value_itself_is_near_or_far() -> None:
    bare = [drop(value, 0.0) | {"low": None, "high": None} for value in (0.01, 0.05, 0.03)]
    assert rails.worst(bare) is bare[1]
    assert rails.worst([*bare, drop(0.0, 0.0) | {"value": None}])["value"] is None


def test_of_a_floor_the_lower_bound_counts() -> None:
    low, high = (rail("F1", "floor", 0.75, 0.9, value, seen=100, name=str(value), scope="class") for value in (0.8, 0.9))
    assert rails.worst([high, low]) is low


def test_families_keep_the_order_of_the_report_and_their_own_figures_apart() -> None:
    found = rails.families(passing())
    assert [(each.title, each.stated, len(each.rails)) for each in found] == [
        ("recall of each class", "at most 6 pp", 3),
        ("F1 of each class", "at least 0.75", 3),
        ("accuracy of each site", "at most 6 pp", 3),
    ]
    report = passing()
    report["rails"][3]["stated"] = "3 pp"
    assert rails.families(report)[0].stated == "a limit of each"


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [("pfi", "1 fails, 1 undecided, 1 passes"), ("pp", "2 pass"), ("ffii", "2 fail, 2 undecided"), ("", "")],
)
def test_tally(outcomes: str, text: str) -> None:
    words = {"p": "pass", "f": "fail", "i": "inconclusive"}
    assert rails.tally([drop(0, 0, words[each]) for each in outcomes]) == text


def test_what_would_decide() -> None:
    unsure = drop(0.05, 0.07, "inconclusive", needed=1431, power=0.312)
    said = "1 431 cases would give a chance of 80 % for a decision; the present number gives 31 %"
    assert rails.decides(unsure).replace("\u202f", " ") == said
    assert rails.decides(unsure | {"needed": 5, "power": None}) == "at least 5 cases are needed"
    earlier = {name: value for name, value in unsure.items() if name != "power"}
    assert rails.decides(earlier).replace("\u202f", " ") == "1 431 cases would decide"
    assert rails.decides(unsure | {"needed": None}) == "no number of cases would decide at these rates"
    assert rails.decides(drop(0.05, 0.055)) == ""


def test_values_are_written_as_what_they_are() -> None:
    assert rails.written(drop(0.0123, 0.02), 0.0123) == "1.23\u202fpp"
    floor = rail("Dice", "floor", 0.75, 0.9, 0.8, seen=12)
    assert rails.written(floor, 0.8) == "0.800"
    ends = [floor | ends for ends in ({}, {"low": None}, {"high": None}, {"low": None, "high": None})]
    assert [rails.bounds(each | {"high": each["high"] and 0.9, "low": each["low"] and 0.7}) for each in ends] == [
        "0.700 to 0.900",
        "up to 0.900",
        "from 0.700",
        "–",
    ]
    ceiling = rail("share right and now wrong", "ceiling", 0.03, 0.0, 0.021, seen=350)
    assert rails.written(ceiling, 0.021) == "2.10\u202f%"
    assert rails.name(ceiling) == "Share right and now wrong"
    assert rails.name(drop(0, 0)) == "Drop of recall of a"


def test_bars_share_one_scale_and_start_at_no_change() -> None:
    # From 0 to 0.06 with 6 % of room on either side: one point is 1000 / 67.2 percent of the width, zero stands at 3.6 / 67.2.
    first, gain, missing = rails.bars([drop(0.03, 0.04), drop(0.0, 0.01, low=0.0), drop(0, 0) | {"value": None, "low": None, "high": None}])
    assert missing is None
    assert first
    assert gain
    assert first.zero == gain.zero == first.start == pytest.approx(3.6 / 67.2 * 100, abs=1e-3)
    assert first.limit == pytest.approx(63.6 / 67.2 * 100, abs=1e-3)
    assert first.point == pytest.approx(33.6 / 67.2 * 100, abs=1e-3)
    assert first.low == pytest.approx(23.6 / 67.2 * 100, abs=1e-3)
    assert gain.width == 0.6


def test_every_end_of_every_bar_is_on_the_picture() -> None:
    for report in (passing(), failing(), inconclusive(), masks()):
        for family in rails.families(report):
            for bar in rails.bars(family.rails):
                assert bar
                ends = (bar.start, bar.start + bar.width, bar.zero, bar.limit, bar.low, bar.high, bar.point)
                assert all(end is not None and 0 <= end <= 100 for end in ends)


def test_the_tiles_are_the_overall_drop_and_the_drop_that_decides() -> None:
    assert [each.rail["title"] for each in rails.tiles(failing())] == ["overall accuracy", "recall of basophil"]
    assert [each.rail["title"] for each in rails.tiles(inconclusive())] == ["overall accuracy", "recall of erythroblast"]
    assert rails.tiles(passing() | {"rails": []}) == []
