"""Change points of seeded series with and without a step, and the page that shows them."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from optimize.deploy.gate.change_points import change_points
from optimize.deploy.gate.history import Point, Series
from optimize.deploy.gate.history_page import follow, html, text
from optimize.errors import InputError


def noisy(seed: int, n: int, *, student: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(np.exp(0.02 * (rng.standard_t(3, n) if student else rng.standard_normal(n))))


@pytest.mark.parametrize("student", [False, True])
@pytest.mark.parametrize("n", [8, 20, 60])
def test_noise_alone_is_seldom_a_change(n: int, student: bool) -> None:
    alarms = sum(bool(change_points(noisy(seed, n, student=student))) for seed in range(150))
    assert alarms <= 0.04 * 150


@pytest.mark.parametrize(("n", "step"), [(20, 1.10), (60, 1.10), (60, 0.95)])
def test_a_step_is_found_where_it_is(n: int, step: float) -> None:
    found = []
    for seed in range(40):
        values = noisy(seed, n)
        values[n // 2 :] *= step
        found.append(change_points(values))
    assert all(found)
    right = [each for each in found if len(each) == 1 and abs(each[0].at - n // 2) <= 1]
    assert len(right) >= 0.85 * len(found)
    assert np.median([each[0].growth for each in right]) == pytest.approx(step - 1, abs=0.01)


def test_counted_figures() -> None:
    assert change_points([100.0] * 20) == []
    (change,) = change_points([100.0] * 10 + [102.0] * 10)
    assert (change.at, change.growth) == (10, 0.02)
    assert change_points([100.0] * 10 + [500.0] + [100.0] * 10) == []  # an outlier
    assert change_points([1.0, 2.0]) == change_points([0.0] * 20) == []


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(InputError, match=r"pip install 'optimize\[gate\]'"):
        change_points([1.0] * 20)


def followed(values: list[float]) -> list[Series]:
    points = tuple(Point("2026-01-01", f"commit{i}", value, "pass") for i, value in enumerate(values))
    return [Series("latency <b>", "ms", "out/model", "a" * 64, points)]


def test_page_and_text_name_the_commit_of_a_change() -> None:
    many = follow(followed([1.0] * 10 + [1.2] * 10))
    assert json.loads(json.dumps(many[0].as_dict()))["changes"] == [{"at": 10, "growth": 0.2, "commit": "commit10"}]
    page = html(many, "h.jsonl")
    assert "+20 % at commit10" in page
    assert "change at commit10: +20 %" in "\n".join(text(many))
    assert page.count("<circle") == 20
    assert 'class="change worse"' in page
    # of accuracy, more is better
    better = html(follow([replace(many[0].series, rule="drop")]), "h.jsonl")
    assert 'class="change better"' in better
    assert page.count('class="level"') == 2
    assert "latency &lt;b&gt;" in page
    # nothing is fetched from anywhere
    assert not re.search(r'(src|href)=|url\(|@import|https?:', page)


@pytest.mark.parametrize("values", [[1.0], [5.0, 5.0]])
def test_short_series_are_drawn(values: list[float]) -> None:
    page = html(follow(followed(values)), "h.jsonl")
    assert "No change point" in page
    assert "nan" not in page.lower().replace("nance", "")


def test_an_empty_history_has_a_page() -> None:
    assert "holds no figure" in html([], "h.jsonl")
