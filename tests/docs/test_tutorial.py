"""The tutorial runs, gives what its page shows, and the page is written from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from docs import render_tutorial
from docs.render_tutorial import PAGE, kept, output, read, rendered, run, run_cell, varies
from optimize.quantization.fastest import TimedVariant
from tests import conftest


def test_the_page_is_written_from_the_notebook() -> None:
    assert PAGE.read_text(encoding="utf-8") == rendered(read()), "run python -m docs.render_tutorial"


def boldest(variants: Sequence[TimedVariant | None]) -> tuple[int, dict[int, str]]:
    """The last variant that holds the guard-rails, in place of the fastest."""
    place = max(place for place, variant in enumerate(variants) if variant is not None and variant.holds)
    return place, {place: "it is the last that holds"}


def test_it_runs_and_gives_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    conftest.require("onnxruntime")
    conftest.hurried(monkeypatch, memory=False)
    # On a busy machine the timing may choose float, and the page shows the run that ships int8.
    monkeypatch.setattr("optimize.quantization.precision_choice.fastest", boldest)
    for cell, text in run(read(), tmp_path):
        assert bool(text) == bool(output(cell))
        if not varies(cell):
            assert text == output(cell)
    assert (tmp_path / "digits/report.json").exists()


def test_cells_are_run_as_a_notebook_runs_them() -> None:
    scope: dict[str, object] = {}
    assert run_cell("a = 1\nprint('x')\na + 1", "<1>", scope) == "x\n2"
    assert run_cell("a + 1;", "<2>", scope) == ""
    assert run_cell("None", "<3>", scope) == ""
    assert run_cell("a += 1", "<4>", scope) == ""
    assert scope["a"] == 2


def test_a_page_has_each_cell_and_what_it_gave() -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["# T\n", "text"]},
            {"cell_type": "code", "metadata": {"tags": ["varies"]}, "source": ["1 + 1"], "outputs": kept("2")},
            {"cell_type": "code", "metadata": {}, "source": ["a = 1"], "outputs": kept("")},
        ]
    }
    code = f"{render_tutorial.NOT_RUN}```python\n"
    assert rendered(notebook) == f"{render_tutorial.HEAD}# T\ntext\n\n{code}1 + 1\n```\n\n```text\n2\n```\n\n{code}a = 1\n```\n"
    assert [varies(cell) for cell in notebook["cells"]] == [False, True, False]
