"""Check before the work that the test split is large enough to accept anything."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.data.dataset import Dataset
from optimize.errors import Inconclusive
from optimize.guard.best_possible import best_possible_rails as best_possible_rails
from optimize.guard.rail import Rail
from optimize.progress import note
from optimize.run.history import Look
from optimize.run.recipe import Recipe

MAX_NAMED = 4
"""Largest number of classes or subgroups that a line names; of more of them it gives the number."""


def require_decisive(recipe: Recipe, data: Dataset, look: Look) -> None:
    """Check before the work that the test split can decide anything.

    The best possible result is judged: a candidate without any error against a baseline without any error. Where even that is
    "inconclusive", no run can end with another verdict.

    Example: a class with 20 test cases and a limit of 2 pp. Even without any error, the bound at 95 % confidence is above 10 pp, so this
    rail stays open whatever is compressed. Well over 100 cases of the class are needed.

    Args:
        recipe: the resolved settings of the run.
        data: the four splits.
        look: the look at the test split that the run will take.

    Raises:
        Inconclusive: when the split cannot decide, and the recipe does not say `force`.
    """
    test, classes, limits = data.test, data.classes, look.limits(recipe.limits)
    # the labels alone are read here, and no image: this is no look at the test split
    unsure = [rail for rail in best_possible_rails(test, classes, limits) if rail.outcome == "inconclusive"]
    # a spent look cannot pass either, however many cases the split has
    if not unsure and not look.spent:
        if sentence := look.sentence(recipe.limits):
            note(sentence)
        return
    again = f" at look {look.number}, at {100 * limits.confidence:.6g} % confidence" if look.number > 1 else ""
    said = f"the test split is too small to accept anything{again}: {too_few(unsure)}" if unsure else look.why_spent
    if not recipe.force:
        raise Inconclusive(f"{said}: add test cases{', allow larger drops' if unsure else ''}, or search all the same with --force.")
    note(said)


def too_few(rails: Sequence[Rail]) -> str:
    """Return which rails a split is too small for, grouped by kind, and how many cases they need."""
    by_kind: dict[tuple[str, str | None, str], list[Rail]] = {}
    for rail in rails:
        by_kind.setdefault((rail.scope, rail.column, rail.figure), []).append(rail)
    return "; ".join(_kind_too_few(scope, column, group) for (scope, column, _), group in by_kind.items())


def _kind_too_few(scope: str, column: str | None, rails: Sequence[Rail]) -> str:
    """Return how many cases rails of one kind have and how many they need, in words."""
    first = rails[0]
    if len(rails) == 1:
        name, of_each = first.title, ""
    else:
        where = f"subgroups by {column}" if scope == "group" else "classes"
        named = ", ".join(str(rail.name) for rail in rails[:MAX_NAMED]) + (", …" if len(rails) > MAX_NAMED else "")
        name, of_each = f"{first.figure} of {len(rails)} {where} ({named})", " each"
    sizes, required = sorted({rail.estimate.n for rail in rails}), [rail.required_n for rail in rails]
    has = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
    # the rail that needs the most cases decides, since all of them must hold
    most = max((number for number in required if number is not None), default=None)
    cure = "the number that is needed is not known" if most is None else f"about {most} are needed"
    return f"{name}: {has} {first.estimate.unit}{of_each}, {cure}"
