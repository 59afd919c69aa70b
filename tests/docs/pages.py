"""The pages that people read, and what stands in them: code blocks, links, paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
EXTENDING = tuple(page for page in PAGES if "extending" in (page.stem, page.parent.name))
"""Pages that name files which are still to be written."""
LANGUAGES = ("python", "sh", "toml", "text")
_MARK = re.compile(r"<!-- not run: (?P<reason>\S.*?) -->\s*")


@dataclass(frozen=True)
class Block:
    """One code block.

    Args:
        page: its file, relative to the root.
        line: number of its first line of code, from 1.
        language: what the fence says; "sh" for an indented block, "" for a fence that says nothing.
        text: the code, without fence and indentation.
        reason: why it is not run, as the HTML comment in front of it says; "" where it has none.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name(path: Path) -> str:
    """A file's path from the root."""
    return str(path.relative_to(ROOT))


def blocks(page: str, text: str) -> list[Block]:
    """The code blocks of a page: fenced ones, and indented ones after an empty line, which hold commands.

    An indented line that goes on with a list is no code: it follows a line of text.
    """
    found: list[Block] = []
    lines = text.splitlines()
    reason, number = "", 0
    while number < len(lines):
        line = lines[number]
        if mark := _MARK.fullmatch(line):
            reason = mark["reason"]
        elif line.startswith("```"):
            end = lines.index("```", number + 1)
            found.append(Block(page, number + 2, line[3:].strip(), "\n".join(lines[number + 1 : end]), reason))
            reason, number = "", end
        elif line.startswith("    ") and number and not lines[number - 1].strip():
            end = number
            while end + 1 < len(lines) and (lines[end + 1].startswith("    ") or not lines[end + 1].strip()):
                end += 1
            body = "\n".join(each[4:] for each in lines[number : end + 1]).rstrip()
            found.append(Block(page, number + 1, "sh", body, reason))
            reason, number = "", end
        elif line.strip():
            reason = ""
        number += 1
    return found


def prose(text: str) -> str:
    """A page without its code blocks, inline code, comments and generated results."""
    text = re.sub(r"<!-- results .*?<!-- /results -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|<!--.*?-->", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, spaces become hyphens, other signs go."""
    headings = re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """Targets of the relative links of a page."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def paths(text: str) -> set[str]:
    """Files of the repository that a page names, such as `optimize/guard/roc.py` or `docs/guard.md`; patterns and placeholders are none."""
    found = re.findall(r"(?<![\w/.])(?:optimize|benchmarks|tests|docs|models)/[\w/.\-]+", text)
    return {path.rstrip(".") for path in found if path.rstrip(".").endswith((".py", ".md", ".json", ".ipynb", ".svg", ".toml"))}
