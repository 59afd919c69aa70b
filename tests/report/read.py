"""A page as its reader has it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "rect", "line", "circle", "path", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a reader sees: text in order, tables as rows of cell texts by caption id; and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"tags left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "caption":
            self.tables[str(dict(attrs)["id"])] = self._rows
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        data = data.replace("\u202f", " ").replace("\u00a0", " ").replace("\u2212", "-")
        if {"style", "script", "svg"} & set(self.open):
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self._rows[-1][-1] += data.strip("\n")
        if {"h1", "h2"} & set(self.open):
            self.headings[-1] += data
