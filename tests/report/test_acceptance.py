"""The page of an acceptance record: what it says for each outcome, that nothing from outside is markup, and how it looks in a browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from optimize.report.acceptance import SIGNERS, render
from tests.report.acceptance import record

HOSTILE = '<script>alert(1)</script>"&'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def text(page: str) -> str:
    """A page without its markup."""
    return " ".join(re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL).split())


@pytest.mark.parametrize(
    ("outcome", "labelled", "said"),
    [
        ("pass", True, "Accepted at this site The model holds the criteria that were fixed before its run"),
        ("pass", False, "Accepted at this site The model agrees with the original on the cases of this site"),
        ("pass", None, "Accepted at this site The model computes here what it computed where it was verified"),
        ("fail", True, "Not accepted at this site The model does not hold the criteria"),
        ("inconclusive", True, "Inconclusive at this site The cases of this site do not show"),
        ("inconclusive", False, "Inconclusive at this site The cases of this site do not show"),
    ],
)
def test_the_page_says_what_came_out(outcome: str, labelled: bool | None, said: str) -> None:
    shown = text(render(record(outcome, labelled=labelled)))
    assert said in shown
    assert all(signer in shown for signer in SIGNERS)
    assert ("No cases of the site were given" in shown) == (labelled is None)


def test_a_model_that_its_run_did_not_accept_is_called_so() -> None:
    found = record("pass", labelled=False)
    assert "did not accept it, and what was found at this site does not undo that" in text(render({**found, "outcome": "inconclusive"}))


def test_figures_stand_with_bounds_limits_and_what_would_decide() -> None:
    shown = text(render(record("inconclusive")))
    for part in ("Drop of overall accuracy", "97.00", "0.50", "−0.20", "1.20", "at most 2 pp", "400 cases", "about 900 cases would decide"):
        assert part in shown.replace("\u202f", " ").replace("\xa0", " "), part


def test_without_labels_each_class_says_the_share_that_it_needs() -> None:
    shown = text(render(record(labelled=False)))
    reasons = ("Not judged without labels: 1 of the criteria", "Drop of any class’s recall: needs labels")
    for part in ("18.00", "no share would do", *reasons, "4, 17"):
        assert part in shown


def test_a_warning_of_the_bundle_stands_at_the_top() -> None:
    assert "Warning of the bundle: This model was rejected" in text(render(record(warning="This model was rejected.")))


@pytest.mark.parametrize("labelled", [True, False])
def test_what_comes_from_outside_is_no_markup(labelled: bool) -> None:
    page = render(record(labelled=labelled, name=HOSTILE, warning=HOSTILE, target=HOSTILE, created=HOSTILE))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&amp;") >= 6


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium was found on PATH")
def test_on_a_telephone_nothing_is_cut_off_and_the_browser_complains_of_nothing(tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'optimize[dev]'")
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        view.on("console", lambda message: complaints.append(message.text))
        for outcome, labelled in (("pass", True), ("fail", True), ("inconclusive", False)):
            page = tmp_path / f"{outcome}.html"
            page.write_text(render(record(outcome, labelled=labelled, name="a_long_name_of_a_class_without_any_space")), encoding="utf-8")
            view.goto(page.as_uri())
            assert view.evaluate("document.documentElement.scrollWidth") == 390
        assert view.pdf()[:4] == b"%PDF"
        browser.close()
    assert complaints == []
