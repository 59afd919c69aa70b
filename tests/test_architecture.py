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

from tests.import_graph import floors, import_graph, lines, shape

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "optimize"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

MAX_LINES = 350
RUNTIMES = ("torch", "tensorrt", "tensorrt_rtx", "openvino", "onnxruntime", "onnx")
HEAVY = (*RUNTIMES, "torch_pruning", "nncf", "scipy", "sklearn", "jinja2", "rich", "cryptography")
BANNED_STEMS = {"utils", "util", "base", "common", "helpers", "helper", "config", "misc"}
OUTSIDE = {"models", "benchmarks", "tests"}

# A folder or module may import from rows above its own, never from its own row or below: so there is no circle between two of them either.
ROWS: tuple[tuple[str, str], ...] = (
    ("errors files", "what anyone may use"),
    ("progress", "what goes on, how long it takes and until when it may"),
    ("candidate", "the value that flows"),
    ("hardware graph report", "this machine · the network as a graph · one dict as JSON and HTML"),
    ("loading", "a user's file of weights becomes a candidate"),
    ("data", "a user's images become four splits"),
    ("backends", "export, and one module a runtime"),
    ("guard measure reconstruction training", "judge · time · solve · train"),
    ("importance", "what a channel is worth"),
    ("steps", "one transformation a file"),
    ("searching", "which steps"),
    ("quantization", "which precision"),
    ("deploy", "bundles that leave, and gates that let pass"),
    ("run", "the jobs behind the commands"),
    ("cli", "the command"),
    ("__main__", "the command, started as a module"),
)
RANK = {unit: rank for rank, (units, _) in enumerate(ROWS) for unit in units.split()}
MAX_UNITS = 21

# Narrower than the table: these may import nothing of the package but what is named.
ONLY = {
    "errors": frozenset[str](),
    "files": frozenset[str](),
    "progress": frozenset({"errors"}),
    "candidate": frozenset({"errors"}),
    "report": frozenset({"errors", "files"}),
    "guard": frozenset({"errors", "progress", "candidate", "data"}),
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
    """Units that a source of `unit` imports although its row may not."""
    others = units_imported(source) - {unit}
    allowed = ONLY.get(unit)
    return {other for other in others if (other not in allowed if allowed is not None else RANK.get(other, len(ROWS)) >= RANK[unit])}


def units_imported_by(unit: str) -> set[str]:
    """Units that the sources of a unit import, without itself."""
    return set().union(*(units_imported(code(path)) for path in MODULES if unit_of(path) == unit)) - {unit, "__version__"}


def imports(*, types: bool = False) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports when it is imported, or later; with `types`, also those imported to check types."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    heavy = {module: set(imported(code(path) if types else without_types(code(path)))) for module, path in modules.items()}
    return {module: (found & modules.keys()) - {module} for module, found in heavy.items()}


def without_types(source: str) -> str:
    """A source without what it imports only to check types."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.unparse(tree)


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Circles of imports, each as "a -> b -> a"; a package does not count as importing what lies in it."""
    found: list[str] = []
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            found.append(" -> ".join((*way[way.index(module) :], module)))
        elif module not in done:
            for other in sorted(graph[module]):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
    return found


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
def test_imports_point_up_the_table_never_down(path: Path) -> None:
    unit = unit_of(path)
    if unit:
        assert unit in RANK, f"{name(path)} has no place in ROWS: give {unit!r} one"
        assert upward(unit, code(path)) == set()


def test_no_module_imports_itself_by_a_detour() -> None:
    assert circles(imports()) == []


@pytest.mark.parametrize("unit", ["guard", "quantization"])
def test_nor_even_for_its_types(unit: str) -> None:
    graph = imports(types=True)
    inside = {module for module in graph if module.startswith(f"optimize.{unit}.")}
    assert circles({module: graph[module] & inside for module in inside}) == []


def test_the_house_has_few_rooms() -> None:
    assert len([unit for unit in RANK if unit != "__main__"]) <= MAX_UNITS


def test_the_shape_of_the_house_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    graph = import_graph()
    with capsys.disabled():
        print("\n" + lines(graph)[0])
    assert graph == {unit: units_imported_by(unit) for unit in RANK}
    assert shape({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == (3, 3, 3)


def test_rooms_that_import_each_other_stand_on_one_floor() -> None:
    graph = {"a": set[str](), "b": {"a", "c"}, "c": {"b"}, "a_top": {"c"}}
    assert floors(graph) == [["a"], ["b", "c"], ["a_top"]]
    assert shape(graph) == (4, 3, 4)


def test_the_graph_is_printed_by_a_script_that_needs_nothing_else() -> None:
    script = ROOT / "tests" / "import_graph.py"
    call = [sys.executable, "-I", "-S", str(script), str(PACKAGE)]  # no installed packages, no folder of this repository
    done = subprocess.run(call, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == lines(import_graph())


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "errors.py"], ids=name)
def test_errors_live_in_one_file(path: Path) -> None:
    assert error_classes(code(path)) == set()


def test_the_table_names_each_unit_once() -> None:
    assert sum(len(units.split()) for units, _ in ROWS) == len(RANK)
    assert set(ONLY) <= set(RANK)
    assert set(RANK) == {unit_of(path) for path in MODULES} - {""}


@pytest.mark.parametrize(
    ("unit", "source", "broken"),
    [
        ("backends", "from optimize.searching.walk import Search", {"searching"}),
        ("backends", "def build():\n    import optimize.report.render, optimize.measure.latency", {"measure"}),
        ("graph", "from optimize.steps.prune import Prune", {"steps"}),
        ("graph", "from optimize.report.page import write", {"report"}),
        ("candidate", "from optimize import graph, errors", {"graph"}),
        ("report", "from optimize.candidate import Candidate", {"candidate"}),
        ("steps", "from optimize.unheard_of import x", {"unheard_of"}),
        ("run", "from optimize.searching.walk import Search\nfrom optimize.cli import main", {"cli"}),
        ("steps", "from optimize.graph.trace import trace\nfrom optimize.steps.repair import Repair", set()),
    ],
)
def test_the_import_rule_fires(unit: str, source: str, broken: set[str]) -> None:
    assert upward(unit, source) == broken


def test_the_rule_of_circles_fires() -> None:
    assert without_types("import a\nif TYPE_CHECKING:\n    import b") == "import a"
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a -> b -> c -> a"]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_error_rule_fires() -> None:
    source = "import x\nclass A(ValueError): ...\nclass B(A): ...\nclass C(errors.InputError): ...\nclass D(object): ...\nclass _E(A): ..."
    assert error_classes(source) == {"A", "B", "C"}


def test_the_lone_package_rule_sees_every_form() -> None:
    source = "import models.vgg\nfrom benchmarks import x\nif 1:\n    def f():\n        from tests.y import z"
    assert {each.split(".")[0] for each in imported(source)} & OUTSIDE == OUTSIDE


RUNNER = PACKAGE / "deploy" / "runner"
RUNNER_IMPORTS = {"numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cryptography", "pydicom", "nibabel"}
"""Beside the standard library and itself; those of a server are allowed in its own modules alone."""
SERVER_IMPORTS = {"starlette", "uvicorn", "prometheus_client"}


def foreign_to_a_bundle(source: str, *, server: bool = False) -> set[str]:
    """What a source of the runner imports although a bundle may not have it, and what it imports too early."""
    allowed = sys.stdlib_module_names | RUNNER_IMPORTS | (SERVER_IMPORTS if server else set())
    strangers = {each.split(".")[0] for each in imported(source) if not each.startswith(".")} - allowed
    # all but numpy is imported inside of functions: whoever has only one runtime and no readers uses the rest
    early = ast.unparse(
        ast.Module([node for node in ast.parse(without_types(source)).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    )
    eager = {each.split(".")[0] for each in imported(early) if not each.startswith(".")} & (RUNNER_IMPORTS | SERVER_IMPORTS)
    return strangers | (eager - {"numpy"} - (SERVER_IMPORTS if server else set()))


@pytest.mark.parametrize("path", sorted(RUNNER.rglob("*.py")), ids=name)
def test_the_runner_of_a_bundle_needs_numpy_and_a_runtime(path: Path) -> None:
    server = any(part.startswith(("serve", "serving")) for part in path.relative_to(RUNNER).parts)
    assert foreign_to_a_bundle(code(path), server=server) == set()


@pytest.mark.parametrize(
    ("source", "strangers"),
    [
        ("from optimize.files import sha256", {"optimize"}),
        ("def f():\n    import torch", {"torch"}),
        ("import onnxruntime", {"onnxruntime"}),
        ("def f():\n    import onnxruntime, pydicom\nimport numpy as np, json\nfrom . import masks\nfrom ..errors import Refused", set()),
        ("if TYPE_CHECKING:\n    from cryptography.hazmat import x", set()),
        ("import starlette", {"starlette"}),
    ],
)
def test_the_rule_of_the_runner_fires(source: str, strangers: set[str]) -> None:
    assert foreign_to_a_bundle(source) == strangers
