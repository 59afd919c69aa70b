"""The pages in a real browser: what a reader sees, does with the keyboard, prints, and what the browser would complain about."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimize.report import charts
from optimize.report.compare import comparison
from optimize.report.render import render
from tests.report.sample import RUNS, failing, inconclusive, passing

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'optimize[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium was found on PATH")

SHOWN = ("pass", "fail", "inconclusive", "ended early", "masks", "many classes")
SIZES = {"desktop": {"width": 1280, "height": 800}, "telephone": {"width": 390, "height": 844}}
SECTIONS = [
    "Acceptance criteria",
    "Each class and each subgroup",
    "Decisions that changed",
    "Overall accuracy, size, memory and latency",
    "Proposals: tried, kept and rolled back",
    "Layers and the precision in which they ran",
    "Cost and quality of each proposal",
    "Provenance",
    "Machine, versions and seed",
    "Limitations and notes",
    "Change control",
]

# Of every text on the page the colour behind it, from the nearest ancestor that has one, mixed where it is translucent; then the contrast.
CONTRAST = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const channel = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => {
    if (node === null) return parse(getComputedStyle(document.body).backgroundColor);
    const own = parse(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(node.parentElement));
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = [];
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest("script") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const ground = behind(node);
    const ink = over(parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    seen += 1;
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${walker.currentNode.data.trim()}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return { seen, poor };
}"""
# Of every button of a table what three clicks on it make: the state of its heading and the order of the rows.
CLICKED = """(table) => [...table.querySelectorAll("thead button")].map((button) => [1, 2, 3].map(() => {
  button.click();
  return [button.closest("th").getAttribute("aria-sort"), [...table.tBodies[0].rows].map((row) => row.textContent)];
}))"""
ORDER = "(table) => [...table.tBodies[0].rows].map((row) => row.textContent)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of every page, by name."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {name: render(RUNS[name]()) for name in SHOWN}
    texts["comparison"] = comparison({"first": passing(), "second": failing(), "third": inconclusive()})["comparison.html"]
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in texts}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, pages: dict[str, str]) -> Iterator[Any]:
    """Open a page; whatever it logs, throws or asks of the network fails the test."""
    opened, complaints = [], []

    def go(name: str, size: str = "desktop", **options: Any) -> Any:
        page = browser.new_page(viewport=SIZES[size], **options)
        opened.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if request.url == pages[name] else complaints.append(f"asked for {request.url}"))
        page.goto(pages[name])
        return page

    yield go
    for page in opened:
        page.close()
    assert not complaints


@pytest.mark.parametrize("name", [*SHOWN, "comparison"])
def test_the_page_opens_with_its_verdict_and_never_scrolls_sideways(name: str, visit: Any) -> None:
    page = visit(name)
    for size in SIZES.values():
        page.set_viewport_size(size)
        box = page.locator("h1" if name == "comparison" else ".headline").bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= size["height"]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.skipif(not charts.available(), reason="vl-convert-python is not installed")
@pytest.mark.parametrize("size", SIZES)
def test_every_chart_is_drawn_with_marks_and_text_one_can_read(size: str, visit: Any) -> None:
    page = visit("pass", size)
    found = page.evaluate("""() => [...document.querySelectorAll(".chart svg")].filter((svg) => svg.getClientRects().length).map((svg) => ({
        width: svg.getBoundingClientRect().width, height: svg.getBoundingClientRect().height, label: svg.getAttribute("aria-label"),
        scale: svg.getBoundingClientRect().width / svg.viewBox.baseVal.width,
        marks: [...svg.querySelectorAll("path, line")].filter((mark) => {
            const box = mark.getBoundingClientRect();
            const style = getComputedStyle(mark);
            return Math.max(box.width, box.height) > 3 && [style.fill, style.stroke].some((paint) => paint.startsWith("rgb"));
        }).length,
        spilled: [...svg.querySelectorAll("text")].filter((text) => {
            const box = text.getBoundingClientRect();
            return box.left < 0 || box.right > innerWidth;
        }).map((text) => text.textContent) }))""")
    assert len(found) == 4
    for chart in found:
        assert chart["width"] > 250
        assert chart["height"] > 100
        assert chart["marks"] >= 8
        assert chart["label"]
        # 12 pixels in the picture, of which 11 must be left.
        assert chart["scale"] * 12 >= 11
        assert not chart["spilled"]


@pytest.mark.parametrize("name", ["pass", "comparison"])
def test_every_table_sorts_and_restores(name: str, visit: Any) -> None:
    page = visit(name)
    tables = page.query_selector_all("table:not([data-fixed])")
    assert len(tables) == len([each for each in tables if each.query_selector("thead")])
    several = [table for table in tables if table.evaluate("(table) => table.tBodies[0].rows.length") > 1]
    assert len(several) >= (3 if name == "comparison" else 10)
    for table in several:
        start = table.evaluate(ORDER)
        clicked = table.evaluate(CLICKED)
        assert len(clicked) == table.evaluate("(table) => table.tHead.rows[0].cells.length")
        for states in clicked:
            assert [state for state, _ in states] == ["ascending", "descending", None]
            assert all(sorted(order) == sorted(start) for _, order in states)
            assert states[2][1] == start


def column(table: Any, index: int) -> list[str]:
    cells: list[str] = table.evaluate(f"(table) => [...table.tBodies[0].rows].map((row) => row.cells[{index}].textContent)")
    return cells


def test_numbers_sort_as_numbers_and_what_is_missing_stays_last(visit: Any) -> None:
    page = visit("pass")
    memory = page.query_selector("table:has(#t-size)")
    change = memory.query_selector_all("thead button")[1]
    change.click()
    # 0.021, 0.952, 0.991, 96.57 % (0.9657) and then counts and bytes: by value, not by text.
    assert column(memory, 0)[:4] == ["Calibration error", "Macro F1", "Overall accuracy", "AUC"]
    assert column(memory, 0)[-1] == "Size of the files"
    fastest = page.query_selector("table:has(#t-latency-1)")
    ratio = fastest.query_selector_all("thead button")[7]
    for first in ("OpenVINO f32", "torch eager"):
        ratio.click()
        assert column(fastest, 0)[0] == first
        assert column(fastest, 0)[-1] == "OpenVINO int8, this artifact"


def test_the_keyboard_is_enough(visit: Any) -> None:
    page = visit("pass")
    table = page.query_selector("table:has(#t-rails-1)")
    start = table.evaluate(ORDER)
    page.evaluate("document.querySelector('div:has(> table > #t-rails-1)').focus()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Class"
    page.keyboard.press("Enter")
    assert column(table, 0) == ["basophil", "erythroblast", "platelet"]
    page.keyboard.press("Space")
    assert column(table, 0) == ["platelet", "erythroblast", "basophil"]
    page.keyboard.press("Enter")
    assert table.evaluate(ORDER) == start
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_without_script_everything_is_there_and_no_dead_button(visit: Any) -> None:
    bare, whole = visit("pass", java_script_enabled=False), visit("pass")
    assert bare.locator("button").count() == 0
    assert bare.locator("main").inner_text().split() == whole.locator("main").inner_text().split()


@pytest.mark.parametrize("name", ["fail", "inconclusive", "comparison"])
def test_light_and_dark_differ_and_both_can_be_read(name: str, visit: Any) -> None:
    grounds, inks = set(), set()
    page = visit(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        read = page.evaluate(CONTRAST)
        assert read["seen"] > 100
        assert not read["poor"]
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        if charts.available():
            inks.add(page.evaluate("getComputedStyle(document.querySelector('.chart .wide text')).fill"))
    assert len(grounds) == 2
    assert len(inks) == (2 if charts.available() else 0)


def test_print_is_whole(visit: Any) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed: pip install 'optimize[dev]'")
    page = visit("pass", color_scheme="dark")
    text = "\n".join(sheet.extract_text() for sheet in pypdf.PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True))).pages)
    flat = " ".join(text.split())
    for number, section in enumerate(SECTIONS, start=1):
        assert f"{number}. {section}" in flat
    for quoted in ("erythroblast", "66687aadf862bd77", "Written by optimize"):
        assert quoted in flat
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("[...document.querySelectorAll('.chart .narrow')].every((each) => !each.getClientRects().length)")
    page.set_viewport_size({"width": 680, "height": 960})
    clipped = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.id)"
    assert page.evaluate(clipped) == []


def test_a_page_from_a_mail_attachment_has_what_it_needs(pages: dict[str, str]) -> None:
    for address in pages.values():
        assert Path(address.removeprefix("file://").replace("%20", " ")).stat().st_size < 2_000_000
