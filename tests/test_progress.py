"""What is said while a run goes on: nothing to a library's caller, whole lines to a file, and never anything on standard output."""

from __future__ import annotations

import pytest

from optimize.progress import collect_findings, note, record_finding, shown, stage, track

LONG = "inconclusive [limits] pip install 'optimize[openvino]' " + "word " * 40 + "end"


def test_a_library_caller_hears_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    note(LONG)
    with stage("export"):
        assert list(track(range(3), "prune")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_into_a_file_go_the_notes_whole_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), stage("export"):
        for _ in track(iter(range(2)), "prune", total=2):
            note(LONG)
    assert capsys.readouterr() == ("", f"{LONG}\n{LONG}\n")


def test_of_several_processes_one_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank, said in (("1", ""), ("0", f"{LONG}\n")):
        monkeypatch.setenv("RANK", rank)
        with shown():
            note(LONG)
        assert capsys.readouterr() == ("", said)


def test_it_ends_with_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), shown():
        raise ValueError("x")
    note(LONG)
    assert capsys.readouterr() == ("", "")


def test_what_is_found_goes_to_who_asked_and_is_said_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        with collect_findings() as outer:
            record_finding(1)
            with collect_findings() as inner:
                record_finding(2)
        record_finding("three")
    assert (outer, inner) == ([1], [2])
    assert capsys.readouterr() == ("", "three\n")
