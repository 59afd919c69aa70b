"""The page is parsed back and compared with the dict it was made from."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from optimize.errors import InputError
from optimize.report.render import read, render, rerender, write
from optimize.report.signature import sign
from tests.report.read import Page
from tests.report.sample import AFTER, BEFORE, CLASSES, RUNS, ended_early, failing, inconclusive, masks, passing, point


@pytest.mark.parametrize("run", RUNS)
def test_every_run_renders_whole(run: str) -> None:
    page = Page(render(RUNS[run]()))
    assert [heading.split(".")[0] for heading in page.headings[2:]] == [str(number) for number in range(1, 12)]
    assert not {"None", "nan", "inf", "Undefined"} & set(re.split(r"[\s,.;:()]+", page.text))


def change(**parts: Any) -> dict[str, Any]:
    return passing() | parts


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


def test_the_sentence_ends_with_the_first_reason_and_the_others_follow() -> None:
    report = failing() | {"reasons": ["recall of basophil fell by 9 pp.", "F1 is low"]}
    page = Page(render(report))
    assert "does not hold the limits that were fixed before the run: recall of basophil fell by 9 pp.\n" in page.text
    assert page.text.index("F1 is low") < page.text.index("No artifact was handed over.") < page.text.index("1. Acceptance")


def test_the_criteria_are_every_overall_rail_and_the_worst_of_each_family() -> None:
    header, *rows = Page(render(failing())).tables["t-criteria"]
    assert header == ["Criterion", "Limit", "Measured", "Bounds", "Result"]
    assert [row[0] for row in rows] == [
        "Drop of overall accuracy",
        "Rise of calibration error",
        "Drop of recall of each classthe worst of 3: basophil (1 fails, 2 pass)",
        "F1 of each classthe worst of 3: erythroblast (3 pass)",
        "Drop of accuracy of each sitethe worst of 3: C (3 pass)",
    ]
    assert [row[1] for row in rows] == ["at most 2 pp", "at most 2 pp", "at most 6 pp", "at least 0.75", "at most 6 pp"]
    assert [row[4] for row in rows] == ["✗ Fail", "✓ Pass", "✗ Fail", "✓ Pass", "✓ Pass"]
    assert rows[2][2] == "9.00 pp"


def test_what_would_decide_stands_beside_what_cannot_be_told() -> None:
    tables = Page(render(inconclusive())).tables
    assert [row[4:] for row in tables["t-criteria"][1:]] == [
        ["✓ Pass", ""],
        ["✓ Pass", ""],
        ["? Inconclusive", "431 cases would give a chance of 80 % for a decision; the present number gives 31 %"],
        ["✓ Pass", ""],
        ["✓ Pass", ""],
    ]
    assert [row[1] for row in tables["t-rails-1"][1:]] == ["100", "200", "12"]
    assert tables["t-rails-1"][3][-1] == "? Inconclusive431 cases would give a chance of 80 % for a decision; the present number gives 31 %"


def test_every_rail_of_a_family_stands_in_its_row_with_its_bounds() -> None:
    report = passing()
    header, *rows = Page(render(report)).tables["t-rails-1"]
    assert header == ["Class", "Cases", "Before", "After", "Drop", "Bounds", "Against the limit", "Lost, gained", "p", "Result"]
    assert [row[0] for row in rows] == CLASSES
    for row, rail, i in zip(rows, report["rails"][2:5], range(3), strict=True):
        before, after = BEFORE[i][i] / sum(BEFORE[i]) * 100, AFTER[i][i] / sum(AFTER[i]) * 100
        assert row[1:5] == [str(sum(BEFORE[i])), f"{before:.2f} %", f"{after:.2f} %", f"{before - after:.2f} pp"]
        assert row[5] == f"{rail['low'] * 100:.2f} pp to {rail['high'] * 100:.2f} pp"
        assert row[7:] == [f"{rail['lost']}, {rail['gained']}", "0.220", "✓ Pass"]


def test_a_floor_is_a_figure_not_a_difference() -> None:
    header, *rows = Page(render(passing())).tables["t-rails-2"]
    assert header == ["Class", "Cases", "Before", "After", "Bounds", "Against the limit", "Result"]
    assert [row[3] for row in rows] == ["0.936", "0.973", "0.875"]


def test_point_mode_has_no_bounds_and_says_so() -> None:
    page = Page(render(point()))
    assert {row[3] for row in page.tables["t-criteria"][1:]} == {"–"}
    assert "without a margin for chance" in page.text
    assert "Bounds:" not in page.text
    assert "by the preset “bloodmnist”" in page.text
    assert page.tables["t-criteria"][1][1] == "at most 2 % of the original’s"


def test_subgroups_without_a_limit_are_shown_and_not_judged() -> None:
    report = passing()
    report["limits"] = report["limits"] | {"max_group_drop": None}
    report["rails"] = [rail for rail in report["rails"] if rail["scope"] != "group"]
    page = Page(render(report))
    assert page.tables["t-group-1"][1] == ["A", "150", "97.33 %", "96.00 %"]
    assert "t-group-1" not in Page(render(passing())).tables
    assert "No limit was fixed for subgroups by site" in page.text
    assert "No subgroups were measured" in Page(render(point())).text


def test_all_figures_of_each_class() -> None:
    header, *rows = Page(render(passing())).tables["t-classes"]
    assert header == ["Class", "Cases", "Recall before", "Recall after", "Precision before", "Precision after", "F1 before", "F1 after"]
    assert rows[2][:4] == ["erythroblast", "50", "88.00 %", "84.00 %"]


def test_flips_are_counted_and_listed() -> None:
    page = Page(render(passing()))
    assert "8 were right and are wrong, 2 were wrong and are right, 1 was wrong and is wrong in another way" in page.text
    assert "p = 0.109" in page.text
    header, *rows = page.tables["t-flips"]
    assert header == ["Case", "What happened", "Truth", "Before", "After", "Confidence before", "Confidence after", "site"]
    assert rows[0] == ["17patient P1", "right, now wrong", "basophil", "basophil", "platelet", "0.910", "0.550", "C"]
    assert [row[7] for row in rows] == ["C", "C", "B", "–"]


def test_of_masks_a_flip_is_whether_a_class_is_shown() -> None:
    page = Page(render(masks()))
    assert page.tables["t-flips"] == [
        ["Case", "What happened", "Truth", "Before", "After"],
        ["7patient P0tumour", "right, now wrong", "shown", "shown", "not shown"],
    ]
    assert "This was not tested" in page.text


def test_calibration_operating_points_and_unevenness() -> None:
    page = Page(render(passing()))
    assert "0.021 before, 0.027 after" in page.text
    assert len(page.tables["t-reliability"]) == 11
    assert page.tables["t-reliability"][1] == ["0.333–0.400", "15", "36.67 %", "15", "33.66 %"]
    assert page.tables["t-operating"][1] == ["erythroblast", "0.5", "88.00 %", "84.00 %", "100.00 %", "98.67 %", "0.430", "97.00 %"]
    assert page.tables["t-uneven"][1:] == [["platelet", "100", "2", "1"], ["basophil", "200", "4", "1"], ["erythroblast", "50", "3", "1"]]
    assert "p = 0.031 (exact test of independence)" in page.text


def test_masks_have_dice_and_patients_where_classes_have_recall_and_cases() -> None:
    page = Page(render(masks()))
    assert page.tables["t-classes"] == [
        ["Class", "Patients", "Dice before", "Dice after"],
        ["tumour", "12", "0.791", "0.775"],
        ["cyst", "0", "–", "–"],
    ]
    assert [row[0::4] for row in page.tables["t-criteria"][1:]] == [
        ["Drop of overall Dice", "✓ Pass"],
        ["Agreement", "✓ Pass"],
        ["Drop of Dice of each classtumour", "✓ Pass"],
        ["Dice of each classtumour", "✓ Pass"],
    ]
    assert page.tables["t-size"][1:3] == [
        ["Overall Dice", "0.791", "0.775", "-1.56 pp"],
        ["Agreement with the original’s masks", "1.000", "0.976", "-2.40 pp"],
    ]
    assert page.tables["t-data"][3][2] == "60of 12 patients"
    assert not {"t-before", "t-after", "t-difference", "t-reliability"} & set(page.tables)


def test_the_roofline_stands_with_the_other_measurements() -> None:
    page = Page(render(passing()))
    assert page.tables["t-roofline"] == [
        ["Layer", "Ran in", "Time, ms", "Share of the median", "Roof, ms", "Share of the roof", "Limited by"],
        ["conv1", "int8", "0.250", "50.00 %", "0.050", "20.00 %", "compute"],
        ["fc.1", "int8", "0.100", "20.00 %", "0.050", "50.00 %", "memory"],
    ]
    assert page.text.index("40 % of it is reached") < page.text.index("5. Proposals")
    assert "0.150 ms by compute and 0.050 ms by memory." in page.text
    assert "Other processes used" not in page.text


def test_latency_that_is_not_to_be_relied_on_says_so_and_why() -> None:
    busy = {"answer": "not to be relied on", "reasons": ["other processes used 55 % of the CPU"]}
    steady = {"answer": "steady", "reasons": []}
    text = Page(render(change(latency_reliability={"1": {"a": busy, "b": busy}, "8": {"a": steady}}))).text
    assert text.count("Not measured reliably at a batch of 1: other processes used 55 % of the CPU.") == 1
    assert text.count("Not measured reliably at a batch") == 1
    assert "Not measured reliably at a batch" not in Page(render(passing())).text


def test_the_page_says_how_many_layers_it_leaves_out() -> None:
    roof = passing()["roofline"]
    layers = [each | {"calls": 1, "macs": 10} for each in roof["slowest"]]
    untimed = layers[0] | {"name": "fused", "ms": None, "of_median": None, "share": None}
    page = Page(render(change(roofline=roof | {"layers": [*layers, untimed], "untimed": 1})))
    assert "2 of 3 layers; report.json has all of them. The profiler has no time for 1 layer:" in page.text
    assert len(page.tables["t-roofline"]) == 3
    assert "report.json has all of them" not in Page(render(passing())).text


def test_a_roofline_of_a_busy_machine_or_without_layers_says_so() -> None:
    page = Page(render(change(roofline=passing()["roofline"] | {"load_percent": 35.0, "slowest": []})))
    assert "Other processes used 35 % of the machine when the peaks were measured" in page.text
    assert "has no time for any layer of the network" in page.text
    assert "t-roofline" not in page.tables


def test_a_report_without_a_roofline_has_no_place_for_it() -> None:
    missing = {name: part for name, part in passing().items() if name not in ("roofline", "unused_parameters")}
    for report in (missing, change(roofline=None, unused_parameters=None)):
        text = Page(render(report)).text
        assert "roofline" not in text
        assert "are not used for any output" not in text


@pytest.mark.parametrize(("count", "said"), [(2, "0, old.1."), (7, "0, old.1, old.2, old.3, old.4 and 2 more.")])
def test_parameters_that_nothing_reads_are_counted(count: int, said: str) -> None:
    text = Page(render(change(unused_parameters={f"old.{k}": 600 for k in range(count)}))).text
    assert f"{count * 600:,}".replace(",", " ") in text.replace("\u202f", " ").replace("\u2009", " ").replace("\xa0", " ")
    words = " ".join(text.split()).replace(" ,", ",").replace(" .", ".")
    assert f"parameters of the original are not used for any output: old.{said}" in words


def test_masks_are_never_said_to_be_accurate_or_recalled() -> None:
    text = Page(render(masks() | {"reasons": ["Dice holds"]})).text
    assert not [word for word in ("ccuracy", "ecall", "F1", "onfusion") if word in text]
    assert "Dice" not in render(passing())


def test_a_report_from_before_there_were_tasks_is_of_a_classification() -> None:
    assert "task" not in passing()
    assert render(passing()) == render(change(task="classification"))


@pytest.mark.parametrize(("batch", "factor"), [("1", 1), ("16", 9)])
def test_latency_stands_against_all_baselines_slowest_first(batch: str, factor: int) -> None:
    _, *rows = Page(render(passing())).tables[f"t-latency-{batch}"]
    assert [row[0] for row in rows] == ["torch eager", "ONNX Runtime f32", "OpenVINO f32", "OpenVINO int8, this artifact"]
    for row, p50 in zip(rows, (8.0, 4.0, 3.0, 0.5), strict=True):
        assert [float(cell) for cell in row[2:6]] == pytest.approx([p50 * factor * k for k in (1, 1.1, 1.2, 1.5)], rel=6e-3)
        assert row[6] == "321"
    assert [row[7] for row in rows] == ["16.0×15.7× to 16.3×", "8.00×7.84× to 8.16×", "6.00×5.88× to 6.12×", ""]


def test_the_confusion_matrices_are_those_of_the_report_and_their_difference() -> None:
    tables = Page(render(passing())).tables
    assert tables["t-before"][0] == ["True class", *CLASSES]
    assert tables["t-before"][1:] == [[name, *map(str, row)] for name, row in zip(CLASSES, BEFORE, strict=True)]
    assert tables["t-after"][1:] == [[name, *map(str, row)] for name, row in zip(CLASSES, AFTER, strict=True)]
    assert tables["t-difference"][1:] == [["platelet", "-1", "+1", "0"], ["basophil", "0", "-3", "+3"], ["erythroblast", "+1", "+1", "-2"]]


def test_what_was_tried_is_told_with_its_reasons() -> None:
    tables = Page(render(passing())).tables
    assert [row[1] for row in tables["t-steps"][1:3]] == ["✓ Keptlimits hold", "✗ Rolled backbasophil fell by 9 pp"]
    assert [(row[0], row[1], row[-1]) for row in tables["t-precisions"][1:]] == [
        ("f32", "Not kept", "slower than int8"),
        ("int8", "Kept", "fastest that holds"),
    ]


def test_layers_carry_the_precision_they_ran_in_and_the_rank_of_a_product() -> None:
    page = Page(render(passing()))
    header, *rows = page.tables["t-layers"]
    assert header == ["Layer", "Kind", "Channels", "Weights before", "Weights after", "Rank", "Weights kept", "Ran in"]
    assert rows[0] == ["conv1", "Conv2d", "64 → 16", "64 × 3 × 3 × 3", "16 × 3 × 3 × 3", "–", "25.00 %", "int8"]
    assert rows[1] == ["fc", "Linear", "100", "100 × 400", "24 × 400100 × 24", "24", "30.00 %", "fused or renamed"]
    assert "2 layers in int8, 1 layer in f32" in page.text
    assert page.text.index("node2") < page.text.index("node10")


def test_two_layers_that_are_no_product_stay_two() -> None:
    report = passing()
    report["layers"][2]["after"] = [100, 30]
    assert [row[0] for row in Page(render(report)).tables["t-layers"][1:]] == ["conv1", "fc.0", "fc.1"]
    report["layers"][2]["after"] = None
    assert Page(render(report)).tables["t-layers"][3][2:5] == ["100 → 0", "100 × 400", "removed"]
    assert Page(render(report)).tables["t-layers"][3][-1] == "–"


def test_the_frontier_is_of_what_no_other_proposal_beats() -> None:
    page = Page(render(passing()))
    assert [row[0] for row in page.tables["t-frontier"][1:]] == ["1. Prune", "2. Prune", "3. Prune"]
    assert "against the median at batch 1 in OpenVINO" in page.text
    assert "no proposal’s latency was measured" in Page(render(masks())).text


def test_change_control_quotes_the_report() -> None:
    text = Page(render(passing())).text
    record = text[text.index("11. Change control") :]
    change = "Replace cells.pt by an artifact compiled for OpenVINO at int8: parameters -80.0 %"
    for quoted in (change, "The model must answer within 1 ms", "f" * 64, "B" * 86):
        assert quoted in record
    # SHA-256 of 32 zero bytes.
    assert "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925" in record
    assert "Reviewed by" not in record
    unsigned = Page(render(failing())).text
    assert "Reviewed by" in unsigned
    assert "No reason was given." in unsigned
    assert "This report is not signed." in unsigned


def test_calibration_health_is_told() -> None:
    assert Page(render(passing())).tables["t-health"][1:] == [
        ["Size", "! Warning", "30 cases are few: ranges may be too narrow"],
        ["Near duplicates", "✓ OK", "none among 30 cases"],
    ]
    assert "The calibration set was not checked" in Page(render(point())).text


def test_every_hash_and_version_is_there() -> None:
    text = Page(render(passing())).text
    for expected in [*(digit * 64 for digit in "abcde"), "A processor", "2.13.0", "25.0 GB", "avx2, avx512_vnni", "net.py:make"]:
        assert expected in text


def test_hostile_names_stay_text() -> None:
    hostile = '<script>alert("x")</script>'
    report = json.loads(json.dumps(passing()).replace("basophil", hostile.replace('"', '\\"')).replace("cells.pt", "</title><img src=x>"))
    report = json.loads(json.dumps(report).replace('"site"', '"<b onclick=x>"'))
    page = Page(render(report))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {"img", "b onclick=x"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert [row[0] for row in page.tables["t-classes"][1:]] == ["platelet", hostile, "erythroblast"]


@pytest.mark.parametrize("run", RUNS)
def test_the_page_needs_nothing_but_itself(run: str) -> None:
    html = render(RUNS[run]())
    page = Page(html)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "use", "image"} & {tag for tag, _ in page.tags}
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert not {"src", "href", "srcset", "xlink:href"} & attributes
    assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    assert len(html.encode()) < 2_000_000


def test_only_the_script_whose_hash_the_policy_names_may_run() -> None:
    html = render(passing())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert policy
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert html.count("<script") == 1


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
    assert "None" not in Page(render(report)).text.replace("None of", "")


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


def test_rendering_again_changes_the_page_alone(tmp_path: Path) -> None:
    report = change(signature=None)
    write(report, tmp_path)
    compact = json.dumps(report, separators=(",", ":"))
    (tmp_path / "report.json").write_text(compact, encoding="utf-8")
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    assert rerender(tmp_path).read_text(encoding="utf-8") == render(report)
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == compact


def test_a_report_that_was_altered_after_it_was_signed_is_refused(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    report = change(signature=None)
    write(report | {"signature": sign(report, file)}, tmp_path)
    page = rerender(tmp_path).read_bytes()
    path = tmp_path / "report.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 7', '"seed": 8'), encoding="utf-8")
    with pytest.raises(InputError, match=r"report.json is not to be relied on\. The report is not the one that was signed"):
        rerender(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == page


def test_a_run_that_was_interrupted_is_told_from_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the --out folder of a run"):
        rerender(tmp_path)
    (tmp_path / "ledger.jsonl").touch()
    with pytest.raises(InputError, match="interrupted: finish it with --resume"):
        rerender(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"format": 1, "versions": {"optimize": "0.1.0"}}', r"is of format 1 and was written by optimize 0\.1\.0, not of format 2"),
        ('{"format": 1}', "is of format 1, not of format 2"),
        ("[]", "is no report, not of format 2"),
        ("{", "has a report.json that cannot be read"),
    ],
)
def test_another_format_is_refused_in_one_line(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=match) as refusal:
        read(tmp_path)
    assert "\n" not in str(refusal.value)


def test_of_very_many_classes_the_mistakes_that_changed_most_are_listed() -> None:
    report = passing()
    names = [f"class {i}" for i in range(200)]
    before = [[50 if i == j else 0 for j in range(200)] for i in range(200)]
    after = [row.copy() for row in before]
    before[3][4], after[3][4], after[7][9], after[8][9] = 5, 6, 4, 0
    report["classes"] = names
    for part, confusion in (("baseline", before), ("compressed", after)):
        report[part]["metrics"] |= {"confusion": confusion, "per_class": {}}
    html = render(report)
    tables = Page(html).tables
    assert tables["t-mistakes"][1:] == [["class 7", "class 9", "0", "4"], ["class 3", "class 4", "5", "6"]]
    assert "t-before" not in tables
    assert len(html.encode()) < 2_000_000
