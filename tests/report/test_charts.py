"""Charts: the same bytes each time, marks where the figures are, and a whole page without the library that draws them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from optimize.report import charts, plots
from optimize.report.pareto import frontier
from optimize.report.render import render
from tests.report.read import Page
from tests.report.sample import RUNS, ended_early, failing, many, masks, passing, point

pytestmark = pytest.mark.skipif(not charts.available(), reason="vl-convert-python is not installed: pip install 'optimize[report]'")
FIGURES = {
    "forest": plots.forest,
    "latency": plots.latency,
    "trials": lambda report: plots.trials(report, frontier(report)),
    "reliability": plots.reliability,
}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "find_spec", lambda _: None)


def circles(svg: str) -> int:
    return len(re.findall(r'<path[^>]*fill="var\(--(?:bar|bar-bad|amber|accent|quiet)\)"', svg))


@pytest.mark.parametrize("name", FIGURES)
def test_a_chart_is_drawn_in_both_forms_with_a_label_and_nothing_foreign(name: str) -> None:
    chart = FIGURES[name](passing())
    assert chart
    for svg in (chart.wide, chart.narrow):
        assert svg.startswith(f'<svg role="img" aria-label="{chart.label}" ')
        assert not re.search(r"\bid=|xmlns|href|https?:|<style|<script|url\(", svg)
        assert set(re.findall(r'font-size="(\d+)px"', svg)) == {"12"}
        # Whatever has a colour has one of the page's.
        assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) <= {"none", "transparent", *(f"var(--{c})" for c in COLOURS)}
    assert int(re.findall(r'width="(\d+)"', chart.narrow)[0]) <= 358
    assert int(re.findall(r'width="(\d+)"', chart.wide)[0]) <= 1000


COLOURS = ("ink", "quiet", "rule", "bar", "bar-bad", "amber", "accent")


@pytest.mark.parametrize("name", FIGURES)
def test_a_chart_has_the_same_bytes_each_time(name: str) -> None:
    first = FIGURES[name](passing())
    charts._svg.cache_clear()
    assert FIGURES[name](passing()) == first


def test_the_forest_has_a_point_and_a_limit_for_every_rail_and_bounds_where_there_are_some() -> None:
    bounded, bare = plots.forest(passing()), plots.forest(point())
    assert bounded
    assert bare
    assert circles(bounded.wide) == len(passing()["rails"])
    assert circles(bare.wide) == len(point()["rails"])
    lines = [len(re.findall(r'<line[^>]*stroke="var\(--bar\)"', chart.wide)) for chart in (bounded, bare)]
    assert lines == [len(passing()["rails"]), 0]


def test_what_fails_has_another_colour_and_shape() -> None:
    chart = plots.forest(failing())
    assert chart
    assert len(re.findall(r'<path[^>]*fill="var\(--bar-bad\)"', chart.wide)) == 2


def test_of_very_many_rails_those_that_decide_are_drawn() -> None:
    shown = plots.shown(many())
    assert len(shown) == plots.MAX_RAILS < len(many()["rails"])
    assert {"overall accuracy", "recall of attribute number 39"} <= {rail["title"] for rail in shown}
    order = [rail["title"] for rail in many()["rails"]]
    assert [order.index(rail["title"]) for rail in shown] == sorted(order.index(rail["title"]) for rail in shown)


def test_names_are_escaped_and_equal_names_keep_their_own_line() -> None:
    report = passing()
    for rail, name in zip(report["rails"][2:5], ("<b>&\"'", "platelet", "platelet"), strict=True):
        rail["name"] = name
    chart = plots.forest(report)
    assert chart
    assert "<b>" not in chart.wide
    assert chart.wide.count("platelet: recall</text>") == 2


@pytest.mark.parametrize("name", FIGURES)
def test_there_is_no_chart_of_nothing(name: str) -> None:
    nothing: dict[str, Any] = ended_early() | {"steps": [], "baseline": None, "baselines": None, "compressed": None}
    assert FIGURES[name](nothing) is None


def test_a_proposal_without_a_parameter_count_is_drawn_too() -> None:
    report = passing()
    report["steps"][0]["parameters"] = None
    assert FIGURES["trials"](report)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("without")
def test_without_the_library_the_page_is_whole_and_says_how_to_get_charts(run: str) -> None:
    page = Page(render(RUNS[run]()))
    assert "This page has no charts: the library that draws them was not installed (pip install 'optimize[report]')." in page.text
    assert "figure" not in {tag for tag, _ in page.tags}
    assert len(page.headings) == 13


def test_with_it_nothing_is_said_of_it() -> None:
    assert "has no charts" not in render(masks())
