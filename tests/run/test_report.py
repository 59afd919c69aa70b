"""The report as an object: read like its dict, shown in a terminal and in a notebook, with the artifact that it is about."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.errors import InputError
from optimize.progress import folded
from optimize.report.summary import summary
from optimize.run.report import Report
from tests import runs
from tests.runs import Run


@pytest.fixture
def report(accepted_onnxruntime: Run) -> Report:
    return Report.load(accepted_onnxruntime.out)


def test_it_is_read_like_the_dict_in_the_file(report: Report, accepted_onnxruntime: Run) -> None:
    assert dict(report) == accepted_onnxruntime.report
    assert report["compressed"]["parameters"] == accepted_onnxruntime.report["compressed"]["parameters"]
    assert (report.verdict.outcome, report.exit_code, bool(report)) == ("pass", 0, True)
    assert report.reasons == tuple(accepted_onnxruntime.report["reasons"])
    assert set(report) == set(accepted_onnxruntime.report)


@pytest.mark.parametrize(("outcome", "code"), [("fail", 1), ("inconclusive", 3)])
def test_what_was_not_accepted_is_false_and_has_no_artifact(outcome: str, code: int) -> None:
    content = {"verdict": outcome, "reasons": ["recall of 3 fell by 8 pp"], "artifact": None}
    report = Report(content, Path("out"))
    assert (bool(report), report.exit_code) == (False, code)
    said = rf"`run` \(=out\) handed no artifact over, as its verdict is '{outcome}' \(recall of 3 fell by 8 pp\): read its report"
    with pytest.raises(InputError, match=said):
        _ = report.artifact
    with pytest.raises(InputError, match="handed no artifact over"):
        report.predict(np.zeros((1, 8, 8), np.uint8))


def test_the_terminal_gets_the_lines_of_the_command(report: Report) -> None:
    lines = [part for line in summary(dict(report)) for part in folded(line)]
    assert str(report).splitlines() == [*lines, f"report: {report.folder / 'report.html'}"]
    assert repr(report) == f"<Report pass: {report.folder}>"


def test_a_notebook_gets_the_page_in_a_frame_where_nothing_runs(report: Report) -> None:
    shown = report._repr_html_()
    match = re.fullmatch(r'<iframe sandbox="" srcdoc="([^"<>]*)" style="[^"]*" title="report"></iframe>', shown)
    assert match is not None
    assert html.unescape(match[1]) == (report.folder / "report.html").read_text(encoding="utf-8")


def test_names_from_a_run_cannot_leave_the_frame(report: Report) -> None:
    evil = dict(report) | {"classes": ['"><script>alert(1)</script>'] * 4, "reasons": ['" onload="alert(1)']}
    shown = Report(evil, report.folder)._repr_html_()
    assert shown.count("<") == 2
    assert shown.count('"') == 8


def test_the_artifact_is_the_one_that_was_reported(report: Report, tmp_path: Path) -> None:
    assert report.artifact == Artifact.read(report.folder / "model")
    other = dict(report) | {"artifact": {"files": [{**file, "sha256": "0" * 64} for file in report["artifact"]["files"]]}}
    with pytest.raises(InputError, match="holds another model than the one of this report"):
        _ = Report(other, report.folder).artifact


def test_it_answers_for_images_as_they_are_stored(report: Report) -> None:
    test = runs.split("test")
    artifact = report.artifact
    with backend(artifact.target).build(artifact, threads=1) as session:
        expected = session.predict(test.inputs(slice(0, 9)))
    assert np.array_equal(report.predict(test.images[:9]), expected)
    assert np.array_equal(report.predict(test.inputs(slice(0, 9)), prepared=True), expected)
    with pytest.raises(InputError, match=r"`images` are float64, and those of the run were uint8: pass such images, or inputs with"):
        report.predict(test.images[:9] / 255)
    with pytest.raises(InputError, match=r"`images` \(shape \(2, 4, 4\)\) are not like those of the run: pass .* \(N, 8, 8, 1\)"):
        report.predict(np.zeros((2, 4, 4), np.uint8))


def test_the_network_is_there_only_where_it_was_made(report: Report) -> None:
    with pytest.raises(InputError, match=r"the network of `run` .* is not in this process, .* take the report that `compress` returned"):
        _ = report.candidate
    original = runs.original()
    assert Report(dict(report), report.folder, original).candidate is original


def test_the_page_is_written_again(report: Report, tmp_path: Path) -> None:
    shutil.copytree(report.folder, tmp_path / "out")
    (tmp_path / "out" / "report.html").unlink()
    assert Report.load(tmp_path / "out").save_page().read_bytes() == (report.folder / "report.html").read_bytes()


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no report\.json"):
        Report.load(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(InputError, match="not of format"):
        Report.load(str(tmp_path))
