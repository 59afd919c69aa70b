"""The names a recipe knows are the strategies, floors and rules there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize import recipe as names
from optimize.recipe import Recipe
from optimize.search.budgets import BUDGETS, Budgets
from optimize.search.floors import NAMES
from optimize.search.local import Local
from optimize.search.stepwise import Stepwise
from optimize.search.stopping import STOPPING, McNemar
from optimize.search.strategies import strategy


def recipe(**settings: object) -> Recipe:
    return Recipe(Path("m.pt"), "openvino", Path("out"), **settings)  # type: ignore[arg-type]


def test_the_names() -> None:
    assert names.FLOORS == NAMES
    assert tuple(STOPPING) == names.STOPPING
    kinds = [type(strategy(recipe(strategy=name))) for name in names.STRATEGIES]
    assert kinds == [Budgets, Stepwise, Local]


def test_the_default_is_the_walk_of_budgets() -> None:
    assert strategy(recipe()) == Budgets()
    assert strategy(recipe(budgets=(0.1,), energy=0.97)) == Budgets((0.1,), (0.999, 0.995, 0.99, 0.97))
    assert strategy(recipe(energy=1.0)) == Budgets(BUDGETS, ())


@pytest.mark.parametrize(("name", "kind"), [("stepwise", Stepwise), ("local", Local)])
def test_floors_and_rules_are_passed_on(name: str, kind: type) -> None:
    assert strategy(recipe(strategy=name)) == kind()
    assert strategy(recipe(strategy=name, floors="S4", stopping="mcnemar")) == kind(floors="S4", stopping=McNemar())
