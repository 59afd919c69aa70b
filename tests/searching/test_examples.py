"""The worked examples in the docstrings of the engine's folders give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import optimize

PACKAGE = Path(optimize.__file__).parent
FOLDERS = ("graph", "reconstruction", "searching", "quantization")
FILES = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples(path: Path) -> None:
    module = import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0
