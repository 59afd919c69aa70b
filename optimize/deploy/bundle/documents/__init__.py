"""The documents of a bundle: each module of this folder writes one, or several that belong together. A new document is one new file.

A module has

    NAME = "README.md"                              path in the bundle; the folder of them, where it writes several
    def render(run: BundledRun) -> Content: ...     what it holds

`render` returns text (written as UTF-8) or bytes; or a file to be copied, such as one in `run.scratch`; or path in the bundle -> any of
these, for several files; or None where this run has no such document. The same run must give the same bytes, so no document holds the
time, a path of this machine or a number that is drawn.

Documents are rendered in the order of their modules' names. `run.files` has the path and hash of everything that is in the bundle so far:
the artifact, the ONNX files, the report, the runner, and the documents before. A module with

    LAST = True

comes after all that have none, so that it may list every other file, as the SBOM does. Only manifest.json comes later.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from optimize.files import module_names

Content: TypeAlias = "str | bytes | Path | Mapping[str, str | bytes | Path] | None"
"""What a document may return."""


def documents() -> Iterator[ModuleType]:
    """Yield the modules of this folder in the order in which they are rendered."""
    modules = [importlib.import_module(f"{__name__}.{name}") for name in module_names(__name__)]
    # sorted() keeps the order of names among those that are alike
    yield from sorted(modules, key=lambda module: getattr(module, "LAST", False))


def parts(document: ModuleType, content: Content) -> dict[str, str | bytes | Path]:
    """Return path in the bundle -> content, for what a document's `render` returned."""
    if content is None:
        return {}
    return dict(content) if isinstance(content, Mapping) else {document.NAME: content}
