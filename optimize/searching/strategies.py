"""Every strategy that a recipe can name, found by its file: a new strategy is one new module in this package.

A module of `optimize/searching/` or `optimize/searching/published/` that defines a class with the attributes of `NamedStrategy` defines a
strategy. No list has to be extended.

    >>> {"allocate", "budget", "local", "stepwise"} <= set(strategies())
    True
    >>> strategies()["budget"].settings
    ('budgets', 'energies', 'importance')
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import walk_packages
from typing import ClassVar, Protocol

from optimize import searching
from optimize.errors import require_choice
from optimize.searching.walk import Strategy, Walk


class NamedStrategy(Protocol):
    """A strategy that a recipe can name.

    Attributes:
        name: name of the strategy in a recipe.
        settings: its fields that a run sets, by name; all other fields keep their defaults.
        few_proposals: whether it makes so few proposals that each can be timed on the target.

    One more attribute may be there: `own_importance`, the name of the signal that it uses where its field `importance` is left alone.
    A recipe that asks for this signal by its name then leaves the field alone as well.
    """

    name: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    few_proposals: ClassVar[bool]

    def __init__(self, **settings: object) -> None: ...

    def __call__(self, walk: Walk) -> None:
        """Make all proposals."""
        ...


def strategies() -> dict[str, type[NamedStrategy]]:
    """Return every strategy class by its name."""
    by_name: dict[str, type[NamedStrategy]] = {}
    for file in walk_packages(searching.__path__, f"{searching.__name__}."):
        module = import_module(file.name)
        for value in vars(module).values():
            # only classes that are defined here, not those that the module imports; a protocol has no values for the attributes
            defined_here = isinstance(value, type) and value.__module__ == module.__name__
            if defined_here and all(hasattr(value, attribute) for attribute in ("name", "settings", "few_proposals")):
                by_name[value.name] = value
    return by_name


def make_strategy(name: str, values: Mapping[str, object]) -> Strategy:
    """Return the strategy of this name with the settings it takes.

    Args:
        name: name of the strategy.
        values: values of the run's settings by name. A strategy takes those it names in `settings`; one that is missing, or that it does
            not name, is left at its default.

    Raises:
        InputError: when there is no such strategy.

    Example:
        >>> make_strategy("budget", {"budgets": (0.001,), "floors": "S2"}).budgets
        (0.001,)
    """
    known = strategies()
    require_choice("strategy", name, tuple(sorted(known)))
    chosen = known[name]
    return chosen(**{setting: values[setting] for setting in chosen.settings if setting in values})
