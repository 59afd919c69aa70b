"""The names a recipe knows are the strategies, floors and rules there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimize import searching
from optimize.errors import InputError
from optimize.importance.magnitude import Magnitude
from optimize.importance.output_error import OutputError
from optimize.run import recipe as names
from optimize.run.recipe import Recipe
from optimize.run.strategies import WEIGHTS, makes_few_proposals, require_settings, strategy
from optimize.searching.allocate import Allocate
from optimize.searching.budgets import BUDGETS, Budgets
from optimize.searching.goal import Goal
from optimize.searching.prices import Pricing
from optimize.searching.published.floors import FLOOR_NAMES
from optimize.searching.published.local import Local
from optimize.searching.published.stepwise import Stepwise
from optimize.searching.published.stopping import STOPPING, McNemar
from optimize.searching.strategies import strategies
from optimize.searching.strategy_names import strategy_names
from optimize.steps.finetune import Finetune

NAMES = ("allocate", "budget", "stepwise", "local")
RUNTIME: Any = SimpleNamespace(NAME="fake", preflight=lambda: None, precisions=lambda: ("f32",), version=lambda: "1")


def recipe(**settings: object) -> Recipe:
    return Recipe(Path("m.pt"), "openvino", Path("out"), **settings)  # type: ignore[arg-type]


def test_the_names() -> None:
    assert names.FLOORS == FLOOR_NAMES
    assert tuple(STOPPING) == names.STOPPING
    kinds = [type(strategy(recipe(strategy=name), RUNTIME)) for name in strategy_names()]
    assert kinds == [Allocate, Budgets, Local, Stepwise]


def test_the_default_chooses_widths_jointly_on_the_target() -> None:
    found = strategy(recipe(threads=3), RUNTIME)
    assert found == Allocate(Pricing())
    assert isinstance(found, Allocate)
    assert found.pricing.table is not None
    made_for = found.pricing.table.fingerprint
    assert (made_for["runtime"], made_for["threads"]) == ("fake", 3)
    aim = Goal(1.0, lambda _: 2.0)
    assert strategy(recipe(energy=0.99, retrain=True), RUNTIME, aim) == Allocate(
        Pricing(), energies=(0.999, 0.995, 0.99), finetune=Finetune(), goal=aim
    )


def test_what_is_preferred_weighs_most() -> None:
    assert tuple(WEIGHTS) == names.PREFERENCES
    found = {name: strategy(recipe(prefer=name), RUNTIME) for name in names.PREFERENCES}
    latency, size = found["latency"], found["size"]
    assert found["balanced"] == Allocate(Pricing())
    assert isinstance(latency, Allocate)
    assert isinstance(size, Allocate)
    assert latency.pricing.latency > 5 * max(latency.pricing.macs, latency.pricing.parameters)
    assert size.pricing.parameters > 5 * max(size.pricing.macs, size.pricing.latency)
    assert min(latency.pricing.macs, latency.pricing.parameters, size.pricing.macs, size.pricing.latency) > 0


def test_the_walk_of_budgets() -> None:
    assert strategy(recipe(strategy="budget"), RUNTIME) == Budgets()
    found = strategy(recipe(strategy="budget", budgets=(0.1,), energy=0.97), RUNTIME)
    assert found == Budgets((0.1,), (0.999, 0.995, 0.99, 0.97))
    assert strategy(recipe(strategy="budget", energy=1.0), RUNTIME) == Budgets(BUDGETS, ())


@pytest.mark.parametrize(("name", "kind"), [("stepwise", Stepwise), ("local", Local)])
def test_floors_and_rules_are_passed_on(name: str, kind: type) -> None:
    assert strategy(recipe(strategy=name), RUNTIME) == kind()
    assert strategy(recipe(strategy=name, floors="S4", stopping="mcnemar"), RUNTIME) == kind(floors="S4", stopping=McNemar())


def test_a_signal_reaches_every_strategy() -> None:
    made = {name: strategy(recipe(strategy=name, importance="magnitude"), RUNTIME) for name in strategy_names()}
    assert made == {
        "allocate": Allocate(Pricing(), importance=Magnitude()),
        "budget": Budgets(importance=Magnitude()),
        "stepwise": Stepwise(Magnitude()),
        "local": Local(importance=Magnitude()),
    }


def test_output_error_is_what_pruning_does_by_itself() -> None:
    assert strategy(recipe(strategy="budget", importance="output_error"), RUNTIME) == Budgets()
    assert strategy(recipe(strategy="stepwise", importance="output_error"), RUNTIME) == Stepwise(OutputError())


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match="`strategy`"):
        strategy(recipe(strategy="alocate"), RUNTIME)


def test_which_strategies_are_timed_is_said_by_their_classes() -> None:
    assert [name for name in strategy_names() if makes_few_proposals(name)] == ["allocate", "budget"]


def test_a_setting_that_a_strategy_does_not_take_is_refused_with_those_that_do() -> None:
    require_settings(recipe(strategy="allocate"), {"--retrain": "finetune", "--speedup": "goal"})
    with pytest.raises(InputError, match="`--retrain` needs the strategy 'allocate', not 'budget'"):
        require_settings(recipe(strategy="budget"), {"--retrain": "finetune"})
    with pytest.raises(InputError, match="needs the strategy 'local' or 'stepwise', not 'budget'"):
        require_settings(recipe(strategy="budget"), {"--floors": "floors"})


def test_names_are_those_of_the_classes_and_need_no_torch() -> None:
    assert strategy_names() == tuple(sorted(strategies()))
    modules = "optimize.cli.compress, optimize.run.recipe, optimize.searching.strategy_names as s"
    script = f"import sys, {modules}; s.strategy_names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_recipe_can_name_a_strategy_of_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Nothing:\n    name = 'nothing'\n    settings = ()\n    few_proposals = True\n"
    (tmp_path / "nothing.py").write_text(text)
    (tmp_path / "m.pt").touch()
    monkeypatch.setattr(searching, "__path__", [*searching.__path__, str(tmp_path)])
    assert names.resolve(tmp_path / "m.pt", target="openvino", overrides={"strategy": "nothing"}).strategy == "nothing"
    monkeypatch.undo()
    with pytest.raises(InputError, match="nothing"):
        names.resolve(tmp_path / "m.pt", target="openvino", overrides={"strategy": "nothing"})
