"""Write what a study measured, with the machine, the versions and the date; and quote it in documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimize.backends import versions
from optimize.hardware.machine import foreign_load, machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
HISTORY = RESULTS / "looks.jsonl"
"""Every look that a study takes at a test split, from 2026-11-30 on; it is part of the repository."""
DOCUMENTS = ("README.md", "docs/results.md")
"""The pages that show results: one of them whole, the other a few columns of one table."""
_BLOCK = re.compile(r"<!-- results (?P<name>\w+)(?P<columns>(?: \| [^|>]+)*) -->.*?<!-- /results -->", re.DOTALL)
"""`<!-- results NAME -->` for the whole table with its notes, `<!-- results NAME | column | column -->` for these columns alone."""


def write(
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    raw: Mapping[str, Any],
    notes: Sequence[str] = (),
    recorded: Mapping[str, Any] | None = None,
) -> None:
    """Write `results/NAME.json` (everything) and `results/NAME.md` (the table), and renew the documents that quote it.

    Args:
        name: of the two files.
        title: of the table.
        columns: its heads.
        rows: its cells.
        raw: everything that was measured.
        notes: lines below the table.
        recorded: of an earlier measurement that is only told anew, with its machine, versions, date and load.
    """
    today = datetime.now(UTC).date().isoformat()
    now = {"machine": machine(), "versions": versions(), "date": today, "foreign_load_percent": foreign_load()}
    where: dict[str, Any] = now if recorded is None else {key: recorded[key] for key in now}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**where, **raw}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    table = [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]
    cpu = where["machine"]["cpu"]
    cores, torch = where["machine"]["logical_cores"], where["versions"]["torch"]
    busy = f"other processes used {where['foreign_load_percent']:.0f} % of it"
    taken = f"Taken {where['date']} on {cpu}, {cores} cores, torch {torch}; {busy}."
    text = "\n".join([f"**{title}**", "", *table, "", taken, *(f"{line}" for line in notes), ""])
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(quoted(path.read_text(encoding="utf-8")), encoding="utf-8")


def looks(reports: Sequence[Mapping[str, Any]]) -> str:
    """How often the studies have looked at a test split, by their own record: part of a sentence."""
    numbers = [str(report["looks"]["number"]) for report in reports if report.get("looks")]
    if not numbers:
        known = any("looks" in report for report in reports)
        return "not looked at" if known else "read once by each artifact (looks were not recorded then)"
    which = f"look{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    return f"{which} of the studies at them since 2026-11-30 (earlier ones were not recorded)"


def quoted(text: str) -> str:
    """The document with every `<!-- results NAME -->` block filled from `results/NAME.md`.

    Raises:
        ValueError: when a block names a column that its table does not have.
    """

    def fill(match: re.Match[str]) -> str:
        source = RESULTS / f"{match['name']}.md"
        body = source.read_text(encoding="utf-8").strip() if source.exists() else "(not measured yet)"
        columns = match["columns"].split(" | ")[1:]
        body = selected(body, columns) if columns and source.exists() else body
        return f"<!-- results {match['name']}{match['columns']} -->\n{body}\n<!-- /results -->"

    return _BLOCK.sub(fill, text)


def selected(body: str, columns: Sequence[str]) -> str:
    """Title, the named columns of the table, and the line that says when and where it was taken.

    Raises:
        ValueError: when the table has no column of one of these names.
    """
    title, *rest = body.splitlines()
    table = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in rest if line.startswith("|")]
    numbers = [table[0].index(name) for name in columns]
    taken = next(line for line in rest if line.startswith("Taken "))
    return "\n".join([title, "", *(_row([row[number] for number in numbers]) for row in table), "", taken])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    for name in DOCUMENTS:
        (ROOT / name).write_text(quoted((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
