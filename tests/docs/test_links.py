"""Whatever a page points to is there: links, anchors, modules, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import EXTENDING, PAGES, ROOT, anchors, links, name, paths

GENERATED_LATER = {"benchmarks/results/looks.jsonl"}
EXISTING = [page for page in PAGES if page not in EXTENDING]
"""Pages that name only files that are there."""
PLACEHOLDERS = re.compile(r"NAME|MODEL|\.\.\.")


def missing(page: Path, text: str) -> list[str]:
    """What a page points to and is not there."""
    found = []
    for target in links(text):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert missing(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", [*EXISTING, ROOT / "CHANGELOG.md"], ids=name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = {path for path in paths(page.read_text(encoding="utf-8")) if not PLACEHOLDERS.search(path)}
    assert [path for path in sorted(named - GENERATED_LATER) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", EXISTING, ids=name)
def test_shortened_module_paths_exist_too(page: Path) -> None:
    """Such as `backends/float_layers.py` for a module of the package."""
    named = set(re.findall(r"`([a-z_]+/[\w/]+\.py)(?::\w+)?`", page.read_text(encoding="utf-8")))
    assert [path for path in sorted(named) if not (ROOT / path).exists() and not (ROOT / "optimize" / path).exists()] == []


def linked(page: Path) -> set[Path]:
    """The files that a page links to."""
    return {(page.parent / target.partition("#")[0]).resolve() for target in links(page.read_text(encoding="utf-8"))}


def test_every_page_is_linked_from_the_index() -> None:
    """Or, where it is one of several on extending, from the page that the index names for them."""
    index = ROOT / "docs/index.md"
    found = linked(index)
    found |= {target for page in found if page.name == "extending.md" and page.exists() for target in linked(page)}
    assert [name(page) for page in PAGES if page != index and page not in found] == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One `word` more\n", encoding="utf-8")
    text = "[a](other.md) [b](other.md#one-word-more) [c](other.md#two) [d](gone.md) [e](https://example.org)\n"
    assert missing(page, text) == ["other.md#two", "gone.md"]
    assert paths("`optimize/no/such.py`, shared/models/x.py and docs/guard.md.") == {"optimize/no/such.py", "docs/guard.md"}
