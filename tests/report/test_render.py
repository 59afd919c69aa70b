"""The page is parsed back and compared with the dict it was made from; the schema is judged by an independent validator."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from optimize.report import render as rendering
from optimize.report.render import render, write
from tests.report.sample import AFTER, BEFORE, CLASSES, RUNS, ended_early, failing, inconclusive, masks, metrics, passing

SCHEMA = json.loads((Path(rendering.__file__).parent / "schema.json").read_text(encoding="utf-8"))
VOID = {"meta", "rect", "line", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a reader sees: text in order, tables as rows of cell texts by caption id; and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"tags left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "caption":
            self.tables[str(dict(attrs)["id"])] = self._rows
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        data = data.replace("\u202f", " ").replace("\u2212", "-")
        if "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self._rows[-1][-1] += data.strip("\n")
        if {"h1", "h2"} & set(self.open):
            self.headings[-1] += data


@pytest.mark.parametrize("run", RUNS)
def test_every_run_is_valid_by_the_schema_and_renders_whole(run: str) -> None:
    report = RUNS[run]()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(report, SCHEMA, cls=jsonschema.Draft202012Validator)
    page = Page(render(report))
    last = 10 if run == "masks" else 11  # masks have no confusion matrix
    assert [heading.split(".")[0] for heading in page.headings[2:]] == [str(number) for number in range(1, last + 1)]
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def change(**parts: Any) -> dict[str, Any]:
    return passing() | parts


@pytest.mark.parametrize(
    ("report", "where"),
    [
        (change(format=2), "1 was expected"),
        (change(verdict="maybe"), "maybe"),
        (change(extra=1), "extra"),
        (change(accepted=False), "fail|null|pass"),
        (change(verdict="fail"), "pass"),
        (change(limits={"max_drop": 2, "max_class_drop": 0.06, "min_class_f1": 0.0}), "maximum of 1"),
        (change(model={"name": "x", "sha256": "A" * 64, "arch": None}), "does not match"),
        (change(speedup={"one": {}}), "one"),
        (change(task="detection"), "detection"),
        (change(task="segmentation"), "is not valid under any"),
        ({**masks(), "task": "classification"}, "is not valid under any"),
        ({key: value for key, value in passing().items() if key != "guard"}, "'guard' is a required"),
    ],
)
def test_the_schema_refuses(report: dict[str, Any], where: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=where):
        jsonschema.validate(report, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("run", "word"), [("pass", "Accepted"), ("fail", "Rejected"), ("inconclusive", "Inconclusive"), ("ended early", "Rejected")]
)
def test_the_verdict_and_its_reasons_come_first(run: str, word: str) -> None:
    report = RUNS[run]()
    page = Page(render(report))
    assert page.headings[:2] == ["cells.pt for OpenVINO", f"Verdict: {word}"]
    assert page.text.index(report["reasons"][0]) < page.text.index("1. Acceptance criteria")
    sentence = {"pass": "holds every limit", "fail": "does not hold", "inconclusive": "neither be accepted nor rejected"}
    assert sentence.get(run, "ended before there was an artifact") in page.text[: page.text.index(report["reasons"][0])]
    assert ("No artifact was handed over." in page.text) is (run != "pass")


def test_every_number_of_every_class_stands_in_its_row() -> None:
    report = passing()
    header, *rows = Page(render(report)).tables["t-classes"]
    assert header[:5] == ["Class", "Cases", "Recall before", "Recall after", "Drop"]
    assert header[5:] == ["Drop against the limit", "F1 before", "F1 after", "Result"]
    assert [row[0] for row in rows] == CLASSES
    for i, row in enumerate(rows):
        before, after = BEFORE[i][i] / sum(BEFORE[i]) * 100, AFTER[i][i] / sum(AFTER[i]) * 100
        f1 = [report[part]["metrics"]["per_class"][CLASSES[i]]["f1"] for part in ("baseline", "compressed")]
        expected = [str(sum(BEFORE[i])), f"{before:.2f} %", f"{after:.2f} %", f"{before - after:.2f} pp", f"{f1[0]:.3f}", f"{f1[1]:.3f}"]
        assert row[1:5] + row[6:8] == expected
        assert row[8] == "✓ Pass"


def test_a_missed_limit_is_said_in_words() -> None:
    tables = Page(render(failing())).tables
    assert [row[-1] for row in tables["t-classes"][1:]] == ["✓ Pass", "✗ Fail: recall", "✓ Pass"]
    assert tables["t-criteria"][2][1:] == ["at most 6 pp", "9.00 ppbasophil", "✗ Fail"]


def test_masks_have_dice_and_patients_where_classes_have_recall_and_cases() -> None:
    page = Page(render(masks()))
    header, *rows = page.tables["t-classes"]
    assert header == ["Class", "Patients", "Dice before", "Dice after", "Drop", "Drop against the limit", "Result"]
    assert rows == [
        ["tumour", "12", "0.791", "0.775", "1.56 pp", "", "✓ Pass"],
        ["cyst", "0", "–", "–", "–", "", "Not measured"],
    ]
    assert [row[0::3] for row in page.tables["t-criteria"][1:]] == [
        ["Drop of overall Dice", "✓ Pass"],
        ["Largest drop of any class’s Dice", "✓ Pass"],
        ["Lowest Dice of any class", "✓ Pass"],
        ["Agreement with the original’s masks", "✓ Pass"],
    ]
    assert page.tables["t-criteria"][4][1:3] == ["at least 0.900", "0.976"]
    assert page.tables["t-size"][1:3] == [
        ["Overall Dice", "0.791", rows[0][3], "-1.56 pp"],
        ["Agreement with the original’s masks", "1.000", "0.976", "-2.4 %"],
    ]
    assert page.tables["t-data"][3][2] == "60of 12 patients"
    assert not {"t-before", "t-after"} & set(page.tables)


def test_masks_are_never_said_to_be_accurate_or_recalled() -> None:
    html = render(masks())
    assert not [word for word in ("ccuracy", "ecall", "F1", "onfusion matri") if word in html]
    assert "Dice" not in render(passing())


@pytest.mark.parametrize(
    ("limits", "result"),
    [
        ({"max_class_drop": 0.01}, "✗ Fail: drop"),
        ({"min_class_f1": 0.78}, "✗ Fail: least Dice"),
        ({"max_class_drop": 0.01, "min_class_f1": 0.78}, "✗ Fail: drop and least Dice"),
    ],
)
def test_a_class_of_masks_may_miss_two_limits(limits: dict[str, float], result: str) -> None:
    report = masks()
    report["limits"] |= limits
    assert Page(render(report)).tables["t-classes"][1][-1] == result


def test_agreement_below_its_limit_fails_and_without_one_is_not_required() -> None:
    report = masks()
    report["limits"]["min_agreement"] = 0.98
    assert Page(render(report)).tables["t-criteria"][4][3] == "✗ Fail"
    del report["limits"]["min_agreement"]
    assert Page(render(report)).tables["t-criteria"][4][1::2] == ["none set", "Not required"]


def test_a_report_from_before_there_were_tasks_is_of_a_classification() -> None:
    assert "task" not in passing()
    assert render(passing()) == render(change(task="classification"))


def test_an_inconclusive_run_passes_nothing() -> None:
    tables = Page(render(inconclusive())).tables
    results = [row[-1] for name in ("t-criteria", "t-classes") for row in tables[name][1:]]
    assert results == ["✓ Within limit"] * 6


def test_a_drop_of_exactly_the_limit_is_within_it() -> None:
    report = passing()
    report["compressed"]["metrics"] = metrics([[90, 9, 1], [2, 198, 0], [5, 1, 44]])
    assert Page(render(report)).tables["t-classes"][1][4::4] == ["6.00 pp", "✓ Pass"]


def test_a_class_may_miss_both_limits() -> None:
    report = failing()
    report["limits"]["min_class_f1"] = 0.97
    assert Page(render(report)).tables["t-classes"][2][-1] == "✗ Fail: recall and F1"


def test_no_f1_limit_asks_for_nothing() -> None:
    report = passing()
    report["limits"]["min_class_f1"] = 0.0
    assert Page(render(report)).tables["t-criteria"][3][1::2] == ["none set", "Not required"]


@pytest.mark.parametrize(("batch", "factor"), [("1", 1), ("16", 9)])
def test_latency_stands_against_all_baselines_slowest_first(batch: str, factor: int) -> None:
    _, *rows = Page(render(passing())).tables[f"t-latency-{batch}"]
    assert [row[0] for row in rows] == ["torch eager", "ONNX Runtime f32", "OpenVINO f32", "OpenVINO int8, this artifact"]
    for row, p50 in zip(rows, (8.0, 4.0, 3.0, 0.5), strict=True):
        assert [float(cell) for cell in row[2:6]] == pytest.approx([p50 * factor * k for k in (1, 1.1, 1.2, 1.5)], rel=6e-3)
        assert row[6] == "321"
    assert [row[7] for row in rows] == [f"{times}×0.900× to 17.7×, no clear difference" for times in ("16.0", "8.00", "6.00")] + [""]


def test_the_confusion_matrices_are_those_of_the_report() -> None:
    tables = Page(render(passing())).tables
    assert tables["t-before"][0] == ["True class", *CLASSES]
    assert tables["t-before"][1:] == [[name, *map(str, row)] for name, row in zip(CLASSES, BEFORE, strict=True)]
    after = [["platelet", "95-1", "4+1", "1"], ["basophil", "2", "195-3", "3+3"], ["erythroblast", "6+1", "2+1", "42-2"]]
    assert tables["t-after"][1:] == after


def test_what_was_tried_is_told_with_its_reasons() -> None:
    tables = Page(render(passing())).tables
    assert [row[1] for row in tables["t-steps"][1:]] == ["✓ Keptlimits hold", "✗ Rolled backbasophil fell by 9 pp"]
    assert [(row[0], row[1], row[-1]) for row in tables["t-precisions"][1:]] == [
        ("f32", "Not kept", "slower than int8"),
        ("int8", "Kept", "fastest that holds"),
    ]


def test_layers_carry_the_precision_they_ran_in() -> None:
    page = Page(render(passing()))
    assert page.tables["t-layers"][1] == ["conv1", "Conv2d", "64 × 3 × 3 × 3", "16 × 3 × 3 × 3", "25.00 %", "int8"]
    assert "2 layers in int8, 1 layer in f32" in page.text
    assert page.text.index("node2") < page.text.index("node10")


def test_every_hash_and_version_is_there() -> None:
    text = Page(render(passing())).text
    for expected in [*(digit * 64 for digit in "abcde"), "A processor", "2.13.0", "25.0 GB", "avx2, avx512_vnni", "net.py:make"]:
        assert expected in text


def test_hostile_names_stay_text() -> None:
    hostile = '<script>alert("x")</script>'
    report = json.loads(json.dumps(passing()).replace("basophil", hostile.replace('"', '\\"')).replace("cells.pt", "</title><img src=x>"))
    html = render(report)
    page = Page(html)
    assert "<script" not in html.lower()
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert [row[0] for row in page.tables["t-classes"][1:]] == ["platelet", hostile, "erythroblast"]


@pytest.mark.parametrize("run", RUNS)
def test_the_page_needs_nothing_but_itself(run: str) -> None:
    html = render(RUNS[run]())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert not {"src", "href", "srcset"} & attributes
    assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)


@pytest.mark.parametrize("run", RUNS)
def test_tables_are_readable_without_eyes(run: str) -> None:
    page = Page(render(RUNS[run]()))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs} <= set(ids)
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")
    assert len(page.tables) == sum(tag == "table" for tag, _ in page.tags)
    assert all(len({len(row) for row in rows}) == 1 for rows in page.tables.values())


def test_a_report_read_back_from_json_renders_to_the_same_bytes(tmp_path: Path) -> None:
    report = passing()
    write(report, tmp_path)
    again = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert again == report
    assert render(again) == (tmp_path / "report.html").read_text(encoding="utf-8") == render(report)


def test_rendering_changes_nothing() -> None:
    report = ended_early()
    kept = copy.deepcopy(report)
    render(report)
    assert report == kept


@pytest.mark.parametrize("run", RUNS)
def test_parts_may_be_missing_instead_of_null(run: str) -> None:
    report = RUNS[run]()
    assert render({key: value for key, value in report.items() if value is not None}) == render(report)


@pytest.mark.parametrize("part", ["metrics", "latency_ms", "peak_memory_bytes", "parameters", "macs", "size_bytes", "runtime"])
@pytest.mark.parametrize("whose", ["baseline", "compressed"])
def test_a_measurement_may_lack_any_part(whose: str, part: str) -> None:
    report = passing()
    report[whose][part] = None
    assert "None" not in Page(render(report)).text


def test_without_class_names_the_confusion_matrix_is_labelled_by_number() -> None:
    tables = Page(render(change(classes=[]))).tables
    assert [row[0] for row in tables["t-before"]] == ["True class", "label 0", "label 1", "label 2"]
    assert sorted(row[0] for row in tables["t-classes"][1:]) == sorted(CLASSES)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused_and_the_old_files_stay(tmp_path: Path, value: float) -> None:
    write(passing(), tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(change(duration_s=value), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_an_error_in_rendering_leaves_the_old_files(tmp_path: Path) -> None:
    write(passing(), tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyError, match="unheard"):
        write(change(verdict="unheard"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_a_disk_that_fills_up_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(passing(), tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real = Path.write_text

    def full(self: Path, text: str, **options: Any) -> int:
        real(self, text[:10], **options)
        if ".html" in self.name:
            raise OSError("no space left")
        return 10

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space left"):
        write(failing(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_the_folder_is_made_and_json_is_sorted(tmp_path: Path) -> None:
    write(passing(), tmp_path / "a" / "b")
    pairs = json.loads((tmp_path / "a" / "b" / "report.json").read_text(encoding="utf-8"), object_pairs_hook=list)
    assert [key for key, _ in pairs] == sorted(passing())
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["report.html", "report.json"]
