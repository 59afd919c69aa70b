"""The shape of the package: what imports what, how long a module may be, where errors live. Read from the sources, nothing is run.

Every rule is also shown to fire on a source that breaks it.
"""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "optimize"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

MAX_LINES = 350
RUNTIMES = ("torch", "tensorrt", "tensorrt_rtx", "openvino", "onnxruntime", "onnx")
HEAVY = (*RUNTIMES, "torch_pruning", "nncf", "scipy", "sklearn", "jinja2", "rich", "cryptography")
BANNED_STEMS = {"utils", "util", "base", "common", "helpers", "helper", "config", "misc"}
OUTSIDE = {"models", "benchmarks", "tests"}

# A module or subpackage may import from its own layer and from those above it in this table, never from one below it.
LAYERS: tuple[tuple[str, frozenset[str]], ...] = (
    ("what anyone may use", frozenset({"errors", "offline", "progress", "quiet", "heap", "installed", "outputs", "strict_json"})),
    ("the value that flows", frozenset({"candidate"})),
    (
        "the network as a graph and as matrices",
        frozenset({"closures", "layers", "labels", "flow", "channel_groups", "graph", "surgery", "linear"}),
    ),
    ("what a repair solves", frozenset({"replay", "bypass", "telling", "moments", "factor", "dual", "least_squares", "importance"})),
    (
        "what the user brings",
        frozenset(
            {
                *("factory", "foreign", "checkpoint", "input_advice", "load", "label_advice", "arrays", "masks", "preprocessing"),
                *("weights", "ownership", "probe", "splits", "tags", "data", "scale", "near", "ranges", "health"),
            }
        ),
    ),
    ("what is shipped", frozenset({"artifact", "contents", "signature", "public_key"})),
    ("what changes, exports, runs, measures and judges", frozenset({"steps", "export", "backends", "measure", "guard"})),
    ("what a search writes down", frozenset({"snapshot", "ledger", "record", "history"})),
    ("the settings of a run", frozenset({"settings", "recipe"})),
    (
        "what a run does, and how a report looks",
        frozenset({"search", "select", "mix", "precision_check", "fastest", "choose", "milder", "profile", "report", "doctor"}),
    ),
    ("what a run leaves behind", frozenset({"workspace", "outcome"})),
    (
        "a run's beginning and its end",
        frozenset(
            {"golden", "usage", "diagnosis", "original", "rehearsal", "job", "conclude", "unverified"} | {"claims", "integrity", "pinned"}
        ),
    ),
    ("a run, and models side by side", frozenset({"compress", "verify", "contenders", "side_by_side"})),
    ("a whole example", frozenset({"demo"})),
    ("the command", frozenset({"cli", "__main__"})),
)
RANK = {unit: rank for rank, (_, units) in enumerate(LAYERS) for unit in units}

# Narrower than the table: these may import nothing of the package but what is named.
ONLY = {
    "errors": frozenset[str](),
    "progress": frozenset[str](),
    "candidate": frozenset({"errors", "outputs"}),
    "report": frozenset({"errors", "signature"}),
    "masks": frozenset({"candidate", "outputs"}),
    "guard": frozenset({"errors", "candidate", "masks", "outputs"}),
}


def unit_of(path: Path) -> str:
    """The module or subpackage directly under `optimize/` that a file belongs to; '' for `optimize/__init__.py`."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imported(source: str) -> Iterator[str]:
    """Dotted names of everything a source imports, at any depth; of `from a import b` both 'a' and 'a.b'."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def units_imported(source: str) -> set[str]:
    """Units of the package that a source imports."""
    return {name.split(".")[1] for name in imported(source) if name.startswith("optimize.")}


def upward(unit: str, source: str) -> set[str]:
    """Units that a source of `unit` imports although its layer may not."""
    others = units_imported(source) - {unit}
    allowed = ONLY.get(unit)
    return {other for other in others if (other not in allowed if allowed is not None else RANK.get(other, -1) > RANK[unit])}


def error_classes(source: str) -> set[str]:
    """Names of the exception classes a source defines; a private one is a signal that never leaves its module."""
    known = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)}
    known |= {"OptimizeError", "InputError", "TargetUnavailable"}
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and {ast.unparse(base).rpartition(".")[2] for base in node.bases} & (known | found):
            found.add(node.name)
    return {each for each in found if not each.startswith("_")}


def code(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_import_optimize_is_light() -> None:
    script = f"import sys, optimize; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_long(path: Path) -> None:
    assert len(code(path).splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_names_say_what_is_inside(path: Path) -> None:
    assert not {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} & BANNED_STEMS


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_package_stands_alone(path: Path) -> None:
    assert not {each.split(".")[0] for each in imported(code(path))} & OUTSIDE


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_down_the_table_never_up(path: Path) -> None:
    unit = unit_of(path)
    if unit:
        assert unit in RANK, f"{name(path)} has no place in LAYERS: give {unit!r} one"
        assert upward(unit, code(path)) == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "errors.py"], ids=name)
def test_errors_live_in_one_file(path: Path) -> None:
    assert error_classes(code(path)) == set()


def test_the_table_names_each_unit_once() -> None:
    assert sum(len(units) for _, units in LAYERS) == len(RANK)
    assert set(ONLY) <= set(RANK)


@pytest.mark.parametrize(
    ("unit", "source", "broken"),
    [
        ("backends", "from optimize.search.walk import Search", {"search"}),
        ("backends", "def build():\n    import optimize.report.render", {"report"}),
        ("graph", "from optimize.steps.prune import Prune", {"steps"}),
        ("candidate", "from optimize import graph, errors", {"graph"}),
        ("report", "from optimize.candidate import Candidate", {"candidate"}),
        ("ledger", "from optimize.search.walk import Trial", {"search"}),
        ("choose", "from optimize.outcome import Result", {"outcome"}),
        ("compress", "from optimize.search.walk import Search\nfrom optimize.cli import main", {"cli"}),
        ("steps", "from optimize.graph import trace\nfrom optimize.steps.repair import Repair", set()),
    ],
)
def test_the_import_rule_fires(unit: str, source: str, broken: set[str]) -> None:
    assert upward(unit, source) == broken


def test_the_error_rule_fires() -> None:
    source = "import x\nclass A(ValueError): ...\nclass B(A): ...\nclass C(errors.InputError): ...\nclass D(object): ...\nclass _E(A): ..."
    assert error_classes(source) == {"A", "B", "C"}


def test_the_lone_package_rule_sees_every_form() -> None:
    source = "import models.vgg\nfrom benchmarks import x\nif 1:\n    def f():\n        from tests.y import z"
    assert {each.split(".")[0] for each in imported(source)} & OUTSIDE == OUTSIDE
