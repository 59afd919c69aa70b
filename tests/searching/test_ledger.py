"""The ledger: appended line by line, read back after any interruption, never taken for another run's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from optimize.errors import InputError
from optimize.searching.ledger import Ledger

WHO = {"seed": 1, "limits": {"max_drop": 0.02}, "budgets": (0.1, 0.2)}
ENTRIES = [{"step": "Prune", "kept": True, "reasons": ["ä"]}, {"step": "Factorize", "kept": False, "settings": {"energy": 0.1 + 0.2}}]


def filled(path: Path) -> Ledger:
    ledger = Ledger(path, WHO)
    ledger.begin()
    for entry in ENTRIES:
        ledger.append(entry)
    return ledger


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "new" / "ledger.jsonl")
    lines = ledger.path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"run": {**WHO, "budgets": [0.1, 0.2]}}, *ENTRIES]
    assert ledger.resume() == ENTRIES
    assert ledger.path.read_text().splitlines() == lines


def test_every_possible_cut_keeps_the_whole_lines_and_nothing_else(tmp_path: Path) -> None:
    whole = filled(tmp_path / "ledger.jsonl").path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        ledger = Ledger(path, WHO)
        entries = ENTRIES[: max(0, sum(cut >= end for end in ends) - 1)]  # a line is whole although its line feed is missing
        assert ledger.resume() == entries, cut
        # the file is whole again: what is appended now starts a line of its own
        ledger.append({"step": "Next"})
        assert ledger.resume() == [*entries, {"step": "Next"}], cut
        assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("now", "text"),
    [
        ({**WHO, "seed": 2}, "seed changed"),
        ({**WHO, "limits": {"max_drop": 0.03}, "seed": 2}, "limits, seed changed"),
        ({"seed": 1, "limits": {"max_drop": 0.02}}, "budgets changed"),
        ({**WHO, "target": "openvino"}, "target changed"),
    ],
)
def test_another_run_is_refused_by_what_differs_and_left_whole(tmp_path: Path, now: dict[str, object], text: str) -> None:
    before = filled(tmp_path / "ledger.jsonl").path.read_bytes()
    with pytest.raises(InputError, match=rf"`--resume` found another run in .*ledger.jsonl \({text}\): use --overwrite, or another --out"):
        Ledger(tmp_path / "ledger.jsonl", now).resume()
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x80\xff\x00\x01", b"[1, 2]\n", b'{"step": "Prune"}\n', b"null\n"])
def test_what_is_no_ledger_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(content)
    ledger = Ledger(tmp_path / "ledger.jsonl", WHO)
    assert ledger.resume() == []
    assert json.loads(ledger.path.read_text())["run"]["seed"] == 1


def test_a_number_that_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.append({"overall": math.nan})
    assert ledger.resume() == ENTRIES
