"""The page about new formats does what it says: its Python blocks run one after the other, in an empty folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from optimize.data import formats as data_formats
from optimize.loading import formats as model_formats

PAGE = Path(__file__).parent.parent / "docs" / "extending_formats.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [list(package.__path__) for package in (data_formats, model_formats)]
    for package in (data_formats, model_formats):
        monkeypatch.setattr(package, "__path__", list(package.__path__))
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, str(PAGE), "exec"), namespace)
    assert [list(package.__path__) for package in (data_formats, model_formats)] == before
    for name in ("optimize.data.formats.npy_folder", "optimize.loading.formats.numpy_weights"):
        assert sys.modules.pop(name)
