"""Tests for a copy of the repository that holds the files of the pages on extending; `test_extending.py` makes it and runs them there.

Every command of these pages is parsed, every setting is read by the recipe, every line of Python is run.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest

from optimize.run.recipe import resolve
from tests.docs.pages import EXTENDING, LANGUAGES, Block, blocks, name
from tests.docs.test_code_blocks import check, commands

BLOCKS = [block for page in EXTENDING for block in blocks(name(page), page.read_text(encoding="utf-8"))]


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.text.startswith("# file: ")]


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in BLOCKS if block.language not in LANGUAGES or block.reason] == []


@pytest.mark.parametrize("line", [line for block in of("sh") for line in commands(block.text)])
def test_commands(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with suppress(click.exceptions.Exit):  # of --help
        check(line)


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_settings(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.toml").write_text(block.text, encoding="utf-8")
    assert resolve("model.pt", target="onnxruntime", recipe_file="block.toml").target == "onnxruntime"


@pytest.mark.parametrize("page", sorted({block.page for block in of("python")}))
def test_python(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in of("python"):
        if block.page == page:
            exec(compile("\n" * (block.line - 1) + block.text, f"<{page}>", "exec"), namespace)
