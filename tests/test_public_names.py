"""The names that `import optimize as opt` offers: written down here, imported when they are used, hidden by no module."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import optimize as opt

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "optimize"
FUNCTIONS = (
    *("audit", "backend", "bundle", "compare", "compress", "demo", "doctor", "evaluate", "export_onnx", "gate", "judge", "load_data"),
    *("load_model", "macs", "plan", "profile", "search", "trace", "verify"),
)
VALUES = ("Artifact", "Candidate", "Dataset", "Limits", "Preprocessing", "Reference", "Report", "SearchResult", "Split", "Verdict")
ERRORS = ("Inconclusive", "InputError", "OptimizeError", "TargetUnavailable")
STEPS = (
    *("Chain", "Factorize", "FactorizeConvolutions", "Finetune", "FitOutput", "Merge", "Prune", "PruneToWidths", "RecalibrateBatchNorm"),
    *("RemoveChannels", "Repair"),
)
SIGNALS = ("BatchNormScale", "InsideLayerRanking", "Magnitude", "OutputError", "Rank", "Redundancy", "Snip", "Taylor")
STRATEGIES = ("Allocate", "Budgets", "Local", "Stepwise")
WRITTEN = {"REPORTING", *FUNCTIONS, *VALUES, *ERRORS, *STEPS, *SIGNALS, *STRATEGIES}
MAX_MODULES = 40
"""That `import optimize` may load, beside those that the interpreter has loaded itself."""


def in_a_process(script: str) -> list[str]:
    """The words that a script prints in a fresh process."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_all_is_what_is_written_here() -> None:
    """A new step, signal or strategy needs no entry here."""
    found = set(opt.__all__)
    assert set() == WRITTEN - found
    folders = tuple(f"optimize.{folder}." for folder in opt._FOLDERS)
    assert [name for name in found - WRITTEN if not opt._MODULE_OF[name].startswith(folders)] == []


@pytest.mark.parametrize("name", sorted(WRITTEN - {"REPORTING"}))
def test_a_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(opt, name)
    assert isinstance(value, FunctionType if name in FUNCTIONS else type)
    assert (value.__module__, value.__name__) == (opt._MODULE_OF[name], name)
    assert value.__doc__
    assert issubclass(value, Exception) if name in ERRORS else True


def test_no_module_has_the_name_of_a_function() -> None:
    """An import of `optimize.x` sets the attribute `x` of the package: a public `x` would be hidden from then on."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert modules & set(opt.__all__) == set()


def test_names_stay_whatever_is_imported_before() -> None:
    """Every module of the package first, then every name."""
    modules = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "optimize.") if "__main__" not in module.name]
    tensorrt = [name for name in modules if "tensorrt" in name]
    script = (
        f"import importlib, types\nfor name in {sorted(set(modules) - set(tensorrt))!r}: importlib.import_module(name)\n"
        "import optimize as opt\nprint(*(name for name in opt.__all__ if isinstance(getattr(opt, name), types.ModuleType)), 'end')"
    )
    assert in_a_process(script) == ["end"]
    for name in FUNCTIONS:
        importlib.import_module(opt._MODULE_OF[name])
        assert not isinstance(getattr(opt, name), ModuleType)


def test_what_is_found_in_the_folders_is_public(tmp_path: Path) -> None:
    for folder in opt._FOLDERS:
        (tmp_path / folder / "deeper").mkdir(parents=True)
    text = 'class {}:\n    """Documented."""\n\n    size: int = 1\n\n    def __call__(self, {}) -> None: ...\n'
    step = "candidate: Candidate, reference: Reference"
    (tmp_path / "steps" / "mine.py").write_text(text.format("Mine", step) + text.format("_Private", step))
    (tmp_path / "importance" / "mine.py").write_text(text.format("Worth", f"{step}, groups: list[Group]"))
    (tmp_path / opt._FOLDERS[2] / "deeper" / "mine.py").write_text(
        text.format("Plan", "walk: Walk") + text.format("Other", "number: int") + text.format("Kind(Protocol)", "walk: Walk")
    )
    found = opt._module_of(tmp_path)
    new = {name: module for name, module in found.items() if "mine" in module}
    assert new == {"Mine": "optimize.steps.mine", "Worth": "optimize.importance.mine", "Plan": f"optimize.{opt._FOLDERS[2]}.deeper.mine"}


def test_editors_are_told_the_same() -> None:
    """The block for type checkers imports each name from where it is found at run time."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == {name: opt._MODULE_OF[name] for name in WRITTEN - {"REPORTING"}}


def test_the_import_is_light() -> None:
    script = "import sys\nbefore = set(sys.modules)\nimport optimize\nprint(len(set(sys.modules) - before), 'torch' in sys.modules)"
    modules, torch = in_a_process(script)
    assert int(modules) < MAX_MODULES
    assert torch == "False"


def test_names_are_listed_and_unknown_ones_refused() -> None:
    assert set(opt.__all__) <= set(dir(opt))
    scope: dict[str, object] = {}
    exec("from optimize import *", scope)
    assert scope["judge"] is opt.judge
    with pytest.raises(AttributeError, match="module 'optimize' has no attribute 'nothing'"):
        _ = opt.nothing
