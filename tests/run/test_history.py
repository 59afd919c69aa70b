"""Looks at a test split: which count, what each may spend, and what a record survives."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimize.data.dataset import Preprocessing, Split
from optimize.errors import InputError
from optimize.guard.limits import Limits
from optimize.guard.verdict import Verdict
from optimize.run.history import History, Look

LIMITS = Limits()
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)


def split(first: int, last: int) -> Split:
    return Split("test", IMAGES[first:last], np.zeros(last - first, dtype=np.int64), Preprocessing((0.5,), (0.5,)))


def look(history: History, artifact: str, verdict: str | None = "fail", on: Split | None = None, *, limits: Limits = LIMITS) -> Look:
    """One whole look; the fields of the split and the models are made up."""
    begun = history.begin(on or split(0, 20), model="m", artifact=artifact, limits=limits, fresh=False)
    if verdict is not None:
        history.end(begun, verdict)
    return begun


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data.npz.looks.jsonl")


def test_each_look_that_does_not_pass_makes_the_next_one_stricter(history: History) -> None:
    """0.8, then 0.2 / (n (n - 1)), of 5 %."""
    looks = [look(history, name, verdict) for name, verdict in zip("abc", ("fail", "inconclusive", None), strict=True)]
    assert [each.number for each in looks] == [1, 2, 3]
    assert [each.limits(LIMITS).confidence for each in looks] == [0.96, 0.995, pytest.approx(1 - 0.05 / 30)]
    last = history.expected(split(0, 20), fresh=False)
    assert [each["verdict"] for each in last.earlier] == ["fail", "inconclusive", None], "one whose end nobody saw counts too"
    assert (last.number, last.share) == (4, pytest.approx(0.2 / 12))


def test_a_look_that_passes_gives_back_what_it_spent(history: History) -> None:
    assert [look(history, name, "pass").share for name in "abc"] == [0.8] * 3
    assert look(history, "d", "fail").number == 4
    assert look(history, "e").share == pytest.approx(0.1)


def test_a_pass_by_measured_values_gives_nothing_back(history: History) -> None:
    point = Limits(verdict="point")
    first = look(history, "a", "pass", limits=point)
    assert first.limits(point) == point
    assert look(history, "b").share == pytest.approx(0.1)
    second = history.expected(split(0, 20), fresh=False)
    assert second.as_dict(point)["confidence"] is None
    assert "better than the model is" in (second.sentence(point) or "")


def test_the_same_artifact_under_the_same_limits_is_no_new_look(history: History) -> None:
    first, other = look(history, "a"), look(history, "b")
    assert look(history, "a") == first
    assert look(history, "b", "pass").share == other.share
    assert look(history, "a", limits=replace(LIMITS, max_drop=0.03)).number == 3, "other limits are another chance"


@pytest.mark.parametrize(("first", "last", "number", "seen"), [(0, 30, 2, 20), (19, 39, 2, 1), (20, 40, 1, 0)])
def test_a_split_that_shares_images_is_no_new_one(first: int, last: int, number: int, seen: int, history: History) -> None:
    """Grown; cut anew with one image in common; with none."""
    look(history, "a")
    found = history.expected(split(first, last), fresh=False)
    assert (found.number, found.seen_before) == (number, seen)


def test_a_fresh_split_has_the_whole_error_once(history: History) -> None:
    test = split(0, 20)
    history.require_fresh(test)
    first = history.begin(test, model="m", artifact="a", limits=LIMITS, fresh=True)
    assert (first.share, first.limits(LIMITS).confidence) == (1.0, 0.95)
    history.end(first, "inconclusive")
    with pytest.raises(InputError, match=r"`--fresh-test`: 20 of the 25 test images were looked at before, last on \d{4}-\d\d-\d\d \(in "):
        history.require_fresh(split(0, 25))
    second = history.begin(test, model="m", artifact="b", limits=LIMITS, fresh=True)
    assert (second.spent, second.fresh, second.number) == (True, False, 2)
    settled = second.settled(Verdict("pass", ("fine",)))
    assert settled.outcome == "inconclusive"
    assert "with --fresh-test, spent the whole error" in settled.reasons[0]
    assert second.settled(Verdict("fail", ("bad",))).outcome == "fail"


def test_a_fresh_split_that_passed_goes_on_as_any_other(history: History) -> None:
    first = history.begin(split(0, 20), model="m", artifact="a", limits=LIMITS, fresh=True)
    history.end(first, "pass")
    assert look(history, "b").share == 0.8


def test_an_interrupted_look_is_taken_up_though_the_artifact_has_changed(history: History) -> None:
    first = look(history, "a", None)
    again = history.begin(split(0, 20), model="m", artifact="other", limits=LIMITS, fresh=False, again=first.key)
    assert again == first
    assert history.expected(split(0, 20), fresh=False).number == 2


def test_what_a_report_says_holds_where_the_record_is_missing(history: History) -> None:
    reported = Look("k", 3, 0.2 / 6).as_dict(LIMITS)
    here = look(history, "a").no_laxer_than(reported)
    assert (here.number, here.share) == (3, reported["share"])
    assert look(history, "a").no_laxer_than(None).number == 1


def test_a_first_look_needs_no_words_and_a_later_one_says_its_level(history: History) -> None:
    assert look(history, "a").sentence(LIMITS) is None
    said = look(history, "b").sentence(LIMITS) or ""
    assert said.startswith("this is look 2 at these test cases: each bound is taken at 99.5 % confidence")


def test_a_line_that_was_cut_off_is_passed_over_and_stays_so(history: History) -> None:
    look(history, "a")
    whole = history.path.read_bytes()
    history.path.write_bytes(whole + b'{"look": "x", "split": "cut of')
    assert history.expected(split(0, 20), fresh=False).number == 2
    look(history, "b")
    assert history.expected(split(0, 20), fresh=False).number == 3
    history.path.write_bytes(whole.rstrip(b"\n"))
    look(history, "c")
    assert [each["verdict"] for each in history.expected(split(0, 20), fresh=False).earlier] == ["fail", "fail"]


@pytest.mark.parametrize("line", ["no json", "[]", '{"look": 1}', '{"format": 2, "split": "s", "items": "AAAA"}', '{"of": "x"}', "\x00"])
def test_a_damaged_line_is_named_and_never_passed_over(line: str, history: History) -> None:
    look(history, "a")
    before = history.path.read_text()
    history.path.write_text(before + line + "\n" + before)
    with pytest.raises(InputError, match=r"looks\.jsonl is damaged in line 4: put back a copy of it"):
        history.expected(split(0, 20), fresh=False)


def test_a_look_counts_without_the_line_of_its_images(history: History) -> None:
    look(history, "a")
    lines = history.path.read_text().splitlines(keepends=True)
    assert "items" in json.loads(lines[0])
    history.path.write_text("".join(lines[1:]))
    found = history.expected(split(0, 20), fresh=False)
    assert (found.number, found.share, found.seen_before) == (2, pytest.approx(0.1), 20)
    assert look(history, "b").number == 2
    assert look(history, "c", on=split(10, 30)).number == 3, "its images stand in the record again"


def test_looks_at_the_same_time_have_numbers_of_their_own(history: History) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda artifact: look(History(history.path), str(artifact)).number, range(8)))
    assert sorted(found) == list(range(1, 9))
    assert sum("items" in json.loads(line) for line in history.path.read_text().splitlines()) == 1


def test_a_system_without_locks_keeps_a_record_all_the_same(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    look(history, "a")
    assert look(history, "b").number == 2


def test_where_the_record_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = str(tmp_path / "cells.npz")
    assert History.of(data, None).path == tmp_path / "cells.npz.looks.jsonl"
    assert History.of(f"{tmp_path}/load.py:cells", None).path == tmp_path / "load.py.looks.jsonl"
    assert History.of(data, tmp_path / "team.jsonl").path == tmp_path / "team.jsonl"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"`--history` \(=.*\) cannot be written"):
        History.of(data, tmp_path / "none" / "team.jsonl")


def test_a_folder_that_cannot_be_written_has_its_record_with_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside the data is still read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    beside = History.of(str(tmp_path / "cells.npz"), None)
    look(beside, "a")
    monkeypatch.setattr("optimize.run.history.writable", lambda _: False)
    own = History.of(str(tmp_path / "cells.npz"), None)
    assert own.path == tmp_path / "state" / "optimize" / "looks.jsonl"
    assert look(own, "b").number == 2
    assert look(own, "c").number == 3
    assert beside.expected(split(0, 20), fresh=False).number == 2
