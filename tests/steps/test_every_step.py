"""Every step there is: found by its file, applied, saved, restored from disk with the same outputs, and its settings with it."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

import optimize.steps
from optimize.candidate import Candidate, Labelled, Reference, Step
from optimize.graph.surgery import with_tensors
from optimize.importance.taylor import Taylor
from optimize.searching.snapshot import describe, restore, save
from optimize.steps import steps
from optimize.steps.chain import Chain
from optimize.steps.factorize import Factorize
from optimize.steps.finetune import Finetune
from optimize.steps.fit_output import FitOutput
from optimize.steps.merge import Merge
from optimize.steps.prune import Prune
from optimize.steps.prune_to_widths import PruneToWidths
from optimize.steps.recalibrate_batchnorm import RecalibrateBatchNorm
from optimize.steps.remove_channels import RemoveChannels
from optimize.steps.repair import Repair
from tests import nets
from tests.nets import candidate, cases, reference

EXAMPLES: tuple[Step, ...] = (
    Chain((PruneToWidths((("0", 5),)), Repair(rows=500))),
    Factorize(0.5, worth=0, gain=0),
    Finetune(1, batch=32, learning_rate=0.01),
    FitOutput(rows=500),
    Merge(0.5, "average-add", "least squares", rows=500),
    Prune(0.3, multiple=2, rows=500, importance=Taylor()),
    PruneToWidths((("0", 4), ("3", 3)), rows=500),
    RecalibrateBatchNorm(64),
    RemoveChannels("0", (1, 2), "batchnorm"),
    Repair(rows=500, layers=("8",)),
)
"""Steps with settings that change a tiny network. A step that is not among them has an `EXAMPLE` in a test file of its own."""

NEW = '''
from dataclasses import dataclass
from typing import ClassVar
import torch
from optimize.graph.surgery import with_tensors

@dataclass(frozen=True)
class ScaleWeights:
    """Multiply the weights of some layers."""

    TRAINS: ClassVar[bool] = False

    layers: tuple[str, ...]
    factor: float = 0.5

    def __call__(self, candidate, reference):
        module = candidate.module
        for name in self.layers:
            module = with_tensors(module, name, weight=module.get_submodule(name).weight.detach() * self.factor)
        return candidate.after(self, module)
'''


def task() -> tuple[Candidate, Reference]:
    """A network whose last layer is no longer the original's, so that there is something to repair."""
    original = candidate(nets.chain_bn())
    start = replace(original, module=with_tensors(original.module, "8", weight=original.module.get_submodule("8").weight.detach() * 0.5))
    inputs = cases(64)
    labels = original.predict(inputs).argmax(1)
    return start, replace(reference(original), train=Labelled(lambda rows: inputs[rows], labels))


def comes_back(step: Step, path: Path) -> Candidate:
    """What the step makes of a tiny network, after the way to disk and back."""
    start, aim = task()
    made = step(start, aim)
    assert made.fingerprint != start.fingerprint
    save(made, path)
    back = restore(start, path)
    assert (back.fingerprint, back.lineage) == (made.fingerprint, made.lineage)
    assert back.predict(cases(8)).tobytes() == made.predict(cases(8)).tobytes()
    return back


def example(name: str) -> Step:
    """A step of this class, ready to be called."""
    here = {type(step).__name__: step for step in EXAMPLES}
    file = steps()[name].__module__.rpartition(".")[2]
    return here[name] if name in here else importlib.import_module(f"tests.steps.test_{file}").EXAMPLE  # type: ignore[no-any-return]


@pytest.mark.parametrize("step", [example(name) for name in steps()], ids=lambda step: type(step).__name__)
def test_a_step_is_restored_from_disk(step: Step, tmp_path: Path) -> None:
    back = comes_back(step, tmp_path / "a.safetensors")
    assert back.lineage == (step.steps if isinstance(step, Chain) else (step,))
    assert json.loads(json.dumps(describe(step)))["step"] == type(step).__name__


@pytest.mark.parametrize("step", list(steps().values()), ids=lambda step: step.__name__)
def test_a_step_is_a_frozen_dataclass_that_says_whether_it_trains(step: type[Step]) -> None:
    assert is_dataclass(step)
    assert step.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert step.TRAINS in (True, False)
    assert Finetune.TRAINS
    assert "TRAINS" not in {setting.name for setting in fields(step)}


@pytest.fixture
def new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A step in one new file, as if it lay in `optimize/steps/`."""
    (tmp_path / "scale_weights.py").write_text(NEW)
    monkeypatch.setattr(optimize.steps, "__path__", [*optimize.steps.__path__, str(tmp_path)])
    yield
    sys.modules.pop("optimize.steps.scale_weights", None)
    vars(optimize.steps).pop("scale_weights", None)


def test_one_new_file_is_enough(new_file: None, tmp_path: Path) -> None:
    step = steps()["ScaleWeights"](("3",), factor=0.25)
    assert comes_back(step, tmp_path / "a").lineage == (step,)
    comes_back(Chain((Prune(0.2, rows=500), step)), tmp_path / "b")


def test_each_file_of_the_folder_defines_one_step() -> None:
    folder = Path(optimize.steps.__file__).parent
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert files == sorted(step.__module__.rpartition(".")[2] for step in steps().values())


def test_nothing_asks_which_step_a_step_is() -> None:
    """No `isinstance` with the class of a step anywhere in the package: a step says what it does by its attributes."""
    names = set(steps())
    for path in Path(optimize.steps.__file__).parent.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                assert not names & {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}, path


def test_a_budget_that_any_step_spent_counts() -> None:
    start, aim = task()
    spent = Prune(0.3, rows=500)(start, aim)
    assert Prune(0.3, rows=500)(spent, aim).parameters == spent.parameters
    assert Prune(0.3, rows=500)(replace(spent, lineage=()), aim).parameters < spent.parameters
