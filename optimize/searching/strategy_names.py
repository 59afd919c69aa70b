"""Names of the strategies, read from the texts of their files.

A recipe and the command's help need the names only. Reading them from the texts keeps torch out of both; `strategies()` in
`searching/strategies.py` imports the classes, and torch with them.
"""

from __future__ import annotations

import ast
from pathlib import Path

from optimize import searching

ATTRIBUTES = ("name", "settings", "few_proposals")
"""What a class must assign to be a strategy, see `searching/strategies.py`."""


def strategy_names() -> tuple[str, ...]:
    """Return the name of every strategy, in alphabetical order, without importing any.

    >>> strategy_names()
    ('allocate', 'budget', 'local', 'stepwise')
    """
    texts = (file.read_text(encoding="utf-8") for folder in searching.__path__ for file in Path(folder).rglob("*.py"))
    # most files define no strategy: parsing them all would take longer than the rest of the command's help
    trees = (ast.parse(text) for text in texts if ATTRIBUTES[-1] in text)
    return tuple(sorted(name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef) and (name := _name(node))))


def _name(node: ast.ClassDef) -> str | None:
    """Return the name that a class gives itself as a strategy; None where it is not one."""
    assigned: dict[str, ast.expr] = {}
    for line in node.body:
        targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
        # a protocol only annotates these attributes and gives them no values
        assigned |= {target.id: value for target in targets if isinstance(target, ast.Name) and value is not None}
    name = assigned.get("name")
    complete = all(attribute in assigned for attribute in ATTRIBUTES)
    return name.value if complete and isinstance(name, ast.Constant) and isinstance(name.value, str) else None
