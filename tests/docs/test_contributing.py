"""The layout on the page for contributors is the table of imports."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT
from tests.test_architecture import RANK, ROWS


def test_the_layout_has_the_rows_of_the_table_of_imports_from_the_top_down() -> None:
    layout = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("```text\noptimize/")[2].partition("\nmodels/")[0]
    paragraphs = [set(re.findall(r"^  (\w+)", part, re.MULTILINE)) for part in layout.split("\n\n")]
    expected = [set(units.split()) - {"__main__"} for units, _ in reversed(ROWS)]
    assert [found for found in paragraphs if found] == [row for row in expected if row]
    assert set().union(*paragraphs) == set(RANK) - {"__main__"}
