"""Is a class better judged alone or with the other classes' cases? What the search lets pass, and how much of it passes on fresh cases.

    python -m benchmarks.studies.admission [--repeats 4000] [--dry]

Networks are made up by what each class truly loses and gains; a guard split and a test split are drawn for each. Alone, a class's loss is
bounded by its own cases; together, as the search does it where the verdict compares measured values (`optimize/guard/pooling.py`), by
everybody's. About three minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from benchmarks.results import write
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.limits import Limits
from optimize.guard.verdict import SEARCH_CONFIDENCE, accept_proposal, judge
from optimize.progress import shown, track

Draw: TypeAlias = np.random.Generator
Rates: TypeAlias = np.ndarray
CLASSES, GUARD, TEST = 8, 25, 50
LIMITS = Limits(0.02, 0.06, verdict="point")
COLUMNS = ("a class truly loses", "and gains", "passes the search: alone", "together", "of these pass on test: alone", "together")
TITLE = "Classes judged alone, and with the other classes' cases"


@dataclass(frozen=True)
class Kind:
    """One kind of network.

    Args:
        words: what its classes lose.
        gained: share of each class's cases that turns right.
        lost: what a network's classes lose, (CLASSES,).
    """

    words: str
    gained: float
    lost: Callable[[Draw], Rates]


def alike(draw: Draw, rate: float) -> Rates:
    """All lose as much."""
    return np.full(CLASSES, rate)


def spread(draw: Draw, rate: float) -> Rates:
    """Spread around a mean as an exponential distribution is."""
    return np.minimum(draw.exponential(rate, CLASSES), 0.9)


def alone(draw: Draw, rate: float) -> Rates:
    """The first class loses, the others next to nothing."""
    return np.array([rate, *[0.005] * (CLASSES - 1)])


def kinds() -> list[Kind]:
    """All of them."""
    rates = ((0.01, 0.005), (0.02, 0.02), (0.03, 0.03))
    found = [Kind(f"{rate:.1%}, all alike", gained, partial(alike, rate=rate)) for rate, gained in rates]
    found += [Kind(f"{rate:.1%}, spread", gained, partial(spread, rate=rate)) for rate, gained in rates]
    return found + [Kind(f"{rate:.1%} in one class, 0.5 % in the others", 0.005, partial(alone, rate=rate)) for rate in (0.15, 0.08, 0.04)]


def drawn(draw: Draw, kind: Kind, lost: Rates, cases: int) -> tuple[ClassificationScore, ClassificationScore]:
    """A split of so many cases a class, before and after."""
    labels = np.repeat(np.arange(CLASSES), cases)
    place = draw.random(len(labels))
    sides = (place >= kind.gained, ~((place >= kind.gained) & (place < kind.gained + lost[labels])))
    names = tuple(map(str, range(CLASSES)))
    before, after = (
        answers(np.eye(CLASSES, dtype=np.float32)[np.where(right, labels, (labels + 1) % CLASSES)], labels, names) for right in sides
    )
    return before, after


def asked(kind: Kind, repeats: int, seed: int) -> dict[str, Any]:
    """How many networks of a kind the search lets pass either way, and how many of those pass the verdict on fresh cases."""
    draw = np.random.default_rng(seed)
    ways = {"alone": replace(LIMITS, verdict="statistical"), "with": LIMITS}
    admitted, passed = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    for _ in range(repeats):
        lost = kind.lost(draw)
        guard, test = drawn(draw, kind, lost, GUARD), drawn(draw, kind, lost, TEST)
        holds = bool(judge(LIMITS, *test))
        for way, limits in ways.items():
            if accept_proposal(limits, *guard, confidence=SEARCH_CONFIDENCE):
                admitted[way] += 1
                passed[way] += holds
    return {
        "kind": kind.words,
        "gained": kind.gained,
        "repeats": repeats,
        **{way: {"admitted": admitted[way] / repeats, "passed_of_admitted": passed[way] / max(1, admitted[way])} for way in ways},
    }


def row(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    shares = [f"{100 * found[way][name]:.0f} %" for name in ("admitted", "passed_of_admitted") for way in ("alone", "with")]
    return [found["kind"], f"{found['gained']:.1%}", *shares]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args(arguments)
    with shown():
        results = [asked(kind, options.repeats, seed) for seed, kind in enumerate(track(kinds(), "kinds of networks"))]
    if options.dry:
        print(json.dumps([row(each) for each in results], indent=1))
        return
    note = (
        f"{CLASSES} classes, {GUARD} cases each on the guard split and {TEST} on the test split; limits of 2 pp overall and 6 pp per "
        f"class, compared as measured on test. {options.repeats} networks of each kind."
    )
    write("admission", TITLE, list(COLUMNS), [row(each) for each in results], {"results": results}, [note])


if __name__ == "__main__":
    main()
