"""Strategies are found by their files, and take the settings they name."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import pytest

from optimize import searching
from optimize.errors import InputError
from optimize.searching.allocate import Allocate
from optimize.searching.budgets import Budgets
from optimize.searching.published.local import Local
from optimize.searching.published.stepwise import Stepwise
from optimize.searching.strategies import make_strategy, strategies

NEW = """
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Nothing:
    name: ClassVar[str] = "nothing"
    settings: ClassVar[tuple[str, ...]] = ("level",)
    few_proposals: ClassVar[bool] = True
    level: float = 0.5

    def __call__(self, walk):
        pass
"""


def test_every_strategy_is_found_by_its_name() -> None:
    """A strategy in a new file needs no entry here."""
    shipped = {"allocate": Allocate, "budget": Budgets, "local": Local, "stepwise": Stepwise}
    assert strategies().items() >= shipped.items()
    assert {name for name in shipped if strategies()[name].few_proposals} == {"allocate", "budget"}


@pytest.mark.parametrize("kind", [Allocate, Budgets, Local, Stepwise])
def test_settings_are_fields(kind: type) -> None:
    assert set(kind.settings) <= {field.name for field in fields(kind)}  # type: ignore[attr-defined, arg-type]


def test_a_strategy_takes_the_settings_it_names_and_no_others() -> None:
    values = {"budgets": (0.1,), "energies": (0.9,), "floors": "S3"}
    assert make_strategy("budget", values) == Budgets((0.1,), (0.9,))
    assert make_strategy("local", values) == Local(floors="S3")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="allocate"):
        make_strategy("alocate", {})


def test_a_new_strategy_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing.py").write_text(NEW)
    monkeypatch.setattr(searching, "__path__", [*searching.__path__, str(tmp_path)])
    try:
        made = make_strategy("nothing", {"level": 0.25, "floors": "S2"})
        assert (type(made).__name__, made.level) == ("Nothing", 0.25)  # type: ignore[attr-defined]
    finally:
        sys.modules.pop("optimize.searching.nothing", None)
    monkeypatch.undo()
    assert "nothing" not in strategies()
