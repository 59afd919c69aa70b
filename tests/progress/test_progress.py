"""What is printed while a run goes on: nothing for a library's caller, short lines into a file, and never anything on standard output."""

from __future__ import annotations

import pytest

from optimize.progress import COLUMNS, begin_part, collect_findings, end_step, note, record_finding, shown, stage, track, whole_run

LONG = "inconclusive [limits] pip install 'optimize[openvino]' " + "word " * 40 + "end"


def test_a_library_caller_hears_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    note(LONG)
    with whole_run({"a": 1.0}), stage("export"):
        begin_part("a", 2)
        assert list(track(range(3), "prune")) == [0, 1, 2]
        end_step()
    begin_part("a")
    end_step()
    assert capfd.readouterr() == ("", "")


def test_into_a_file_go_the_notes_whole_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), whole_run({"a": 1.0}), stage("export"):
        for _ in track(iter(range(2)), "prune", total=2):
            note(LONG)
    out, err = capsys.readouterr()
    assert out == ""
    assert " ".join(err.split()) == f"{LONG} {LONG}"
    lines = err.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert [line.startswith(" ") for line in lines] == [False, True, True] * 2


def test_a_line_that_fits_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    fits, word = "  [x]  " + "y" * (COLUMNS - 7), "z" * 150
    with shown():
        note(fits)
        note(word)
    assert capsys.readouterr().err == f"{fits}\n{word}\n"


def test_details_are_for_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose, text in ((False, "kept\n"), (True, "kept\n    why\n    because\n")):
        with shown(verbose):
            note("kept", ["why", "because"])
        assert capsys.readouterr().err == text


def test_of_several_processes_one_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank, said in (("1", ""), ("0", "short\n")):
        monkeypatch.setenv("RANK", rank)
        with shown():
            note("short")
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
