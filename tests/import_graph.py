"""Print how the modules and folders of `optimize/` import each other; needs nothing but the standard library.

    python tests/import_graph.py [FOLDER]

FOLDER is the package to look at, by default the one beside this folder. A module or folder directly in it is one room; a room stands one
floor above the highest that it imports; an arrow is an import between two rooms. Rooms that import each other stand on one floor.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TypeAlias

Graph: TypeAlias = dict[str, set[str]]
"""Room -> the rooms that it imports, without itself."""
PACKAGE = Path(__file__).parent.parent / "optimize"


def room_of(path: Path, package: Path) -> str:
    """The module or folder directly in the package that a file belongs to; '' for the package's own `__init__.py`."""
    first = path.relative_to(package).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def import_graph(package: Path = PACKAGE) -> Graph:
    """Every room with the rooms that it imports, at any depth of its code."""
    graph: Graph = {}
    for path in sorted(package.rglob("*.py")):
        if room := room_of(path, package):
            graph.setdefault(room, set()).update(_imported(path.read_text(encoding="utf-8"), package.name))
    return {room: (imported & graph.keys()) - {room} for room, imported in graph.items()}


def _imported(source: str, package: str) -> set[str]:
    """The rooms of a package that a source names: of `optimize.data.split` and of `from optimize import data` it is "data"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names |= {f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith(f"{package}.")}


def floors(graph: Graph) -> list[list[str]]:
    """The rooms of each floor, lowest first."""
    below = {room: _reachable(graph, room) for room in graph}
    height: dict[str, int] = {}

    # A room and all below it are fewer than a room above it and all below that, so this order meets every room after those below it.
    for room in sorted(graph, key=lambda room: len(below[room] | {room})):
        circle = {other for other in below[room] if room in below[other]}
        height[room] = 1 + max((height[other] for other in below[room] - circle - {room}), default=0)
    return [sorted(room for room in graph if height[room] == floor) for floor in range(1, max(height.values(), default=0) + 1)]


def _reachable(graph: Graph, start: str) -> set[str]:
    """The rooms that one imports, by whatever detour."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def shape(graph: Graph) -> tuple[int, int, int]:
    """Number of rooms, of floors and of arrows."""
    return len(graph), len(floors(graph)), sum(map(len, graph.values()))


def lines(graph: Graph) -> list[str]:
    """The three figures, and then the rooms of every floor, from the top."""
    rooms, levels, arrows = shape(graph)
    listed = [f"  floor {number:>2}: {' '.join(names)}" for number, names in reversed(list(enumerate(floors(graph), start=1)))]
    return [f"import graph: {rooms} rooms (modules and folders), {levels} floors, {arrows} arrows (imports between rooms)", *listed]


if __name__ == "__main__":
    print("\n".join(lines(import_graph(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE))))
