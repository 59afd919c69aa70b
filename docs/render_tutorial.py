"""Run the cells of `docs/tutorial.ipynb`, keep their outputs in it, and write `docs/tutorial.md` from it: `python -m docs.render_tutorial`.

No Jupyter is needed: code cells are run one after the other in one namespace, in a folder of their own. A test runs the notebook again and
compares: the page with the notebook, and the outputs with those that are kept. Cells whose outputs depend on the machine (times, trained
weights) carry the tag "varies"; they are run all the same, and their outputs are not compared.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent / "tutorial.ipynb"
PAGE = Path(__file__).parent / "tutorial.md"
VARIES = "varies"
HEAD = "<!-- Written from docs/tutorial.ipynb by `python -m docs.render_tutorial`. -->\n\n"
NOT_RUN = "<!-- not run: a test runs the notebook that this page is written from -->\n"


def read() -> dict[str, Any]:
    """The notebook as it is kept."""
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def source(cell: Mapping[str, Any]) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def output(cell: Mapping[str, Any]) -> str:
    """What a code cell printed, and then the value of its last expression."""
    return "".join(line for kept in cell.get("outputs", []) for line in kept.get("text") or kept["data"]["text/plain"])


def varies(cell: Mapping[str, Any]) -> bool:
    """Whether the outputs of a cell depend on the machine."""
    return VARIES in cell["metadata"].get("tags", [])


def run(notebook: Mapping[str, Any], folder: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Run the code cells in `folder`: each cell with its output, as Jupyter would show it, without the path of the folder."""
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with contextlib.chdir(folder), first_look(folder):
        for number, cell in enumerate(cells, start=1):
            yield cell, run_cell(source(cell), f"<cell {number}>", namespace).replace(f"{folder}{os.sep}", "")


@contextlib.contextmanager
def first_look(folder: Path) -> Iterator[None]:
    """Keep the record of looks at the tutorial's test split in `folder`: whoever runs it elsewhere looks for the first time, too."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    try:
        yield
    finally:
        del os.environ["XDG_STATE_HOME"]
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


def run_cell(code: str, name: str, namespace: dict[str, Any]) -> str:
    """Run one cell; what it prints, then the value of its last expression unless a semicolon ends it."""
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";") else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        # The cells are this project's own.
        exec(compile(tree, name, "exec"), namespace)  # noqa: S102
        value = eval(compile(ast.Expression(last.value), name, "eval"), namespace) if isinstance(last, ast.Expr) else None  # noqa: S307
    shown = printed.getvalue()
    return shown if value is None else f"{shown}{value!r}"


def rendered(notebook: Mapping[str, Any]) -> str:
    """The page."""
    parts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(source(cell).strip() + "\n")
            continue
        parts.append(f"{NOT_RUN}```python\n{source(cell).strip()}\n```\n")
        if shown := output(cell).rstrip():
            parts.append(f"```text\n{shown}\n```\n")
    return HEAD + "\n".join(parts)


def kept(text: str) -> list[dict[str, Any]]:
    """An output as a notebook keeps it."""
    return [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}] if text else []


def main() -> None:
    """Run the notebook, keep its outputs and write the page."""
    notebook = read()
    with tempfile.TemporaryDirectory() as folder:
        for number, (cell, text) in enumerate(run(notebook, Path(folder)), start=1):
            cell["outputs"], cell["execution_count"] = kept(text), number  # type: ignore[index]
    write(NOTEBOOK, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    write(PAGE, rendered(notebook))


def write(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    path.with_suffix(".new").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".new"), path)


if __name__ == "__main__":
    main()
