"""How often a model that breaks a limit passes when one test split is looked at again and again, with and without the rule for looks.

    python -m benchmarks.studies.looks [--repeats 4000] [--dry]

Every model that is looked at truly loses exactly the limit, 2 pp of accuracy, beside 1 % of cases that it gains. Three ways to look often:

- ten models, made independently of each other, at the same test cases;
- ten models that share nine tenths of what they get wrong, as candidates of one search do;
- one model, at a test split that grows after each "inconclusive", three times by as many cases as it had.

Beside it: how many cases a look needs to pass a model without a loss with a power of 80 %, under four ways to spend the error. The rail is
the product's own (Tango's bound), the parts are those of `optimize.guard.spending`. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from math import pi
from typing import TypeAlias

import numpy as np
from scipy.stats import norm

from benchmarks.results import write
from optimize.guard.intervals import drop_of_share
from optimize.guard.spending import spent_by
from optimize.progress import shown, track

Draw: TypeAlias = np.random.Generator
Pairs: TypeAlias = tuple[np.ndarray, np.ndarray]
ALPHA, LIMIT, GAINED, CASES, LOOKS = 0.05, 0.02, 0.01, 600, 10
TITLE = "How often a model that truly loses the limit passes at least one look (at most 5 % is asked for)"
COLUMNS = ("looks at one test split", "5 % at each look", "the rule", "looks taken, mean")
WAYS: dict[str, Callable[[int], float]] = {
    "the rule: 4/5, then the rest": spent_by,
    "halved at each look": lambda look: 0.5**look,
    "1 / (n (n + 1))": lambda look: 1 / (look * (look + 1)),
    "6 / (pi^2 n^2)": lambda look: 6 / (pi * look) ** 2,
}


def answers(place: np.ndarray) -> Pairs:
    """Right before and right after, of cases whose place in 0..1 says what becomes of them."""
    lost = place < LIMIT + GAINED
    won = ~lost & (place < LIMIT + 2 * GAINED)
    return ~won, ~lost


def alone(draw: Draw) -> Iterator[Pairs]:
    """Ten models that have nothing in common."""
    for _ in range(LOOKS):
        yield answers(draw.random(CASES))


def related(draw: Draw) -> Iterator[Pairs]:
    """Ten models of which each case moves with the first model's nine times in ten."""
    common = draw.random(CASES)
    for _ in range(LOOKS):
        yield answers(np.where(draw.random(CASES) < 0.9, common, draw.random(CASES)))


def growing(draw: Draw) -> Iterator[Pairs]:
    """One model, at 150, 300, 450 and 600 cases, the earlier ones among the later."""
    place = draw.random(CASES)
    for part in (1, 2, 3, 4):
        yield answers(place[: part * CASES // 4])


def passes(looks: Iterator[Pairs], share: Callable[[int], float]) -> tuple[bool, int]:
    """Whether any look passes, and how many were taken until then; a model that is shown to break the limit ends a growing split."""
    for number, (before, after) in enumerate(looks, start=1):
        found = drop_of_share(before, after, 1 - ALPHA * share(number), None, relative=False)
        if found.high <= LIMIT:
            return True, number
    return False, number


def rate(kind: Callable[[Draw], Iterator[Pairs]], share: Callable[[int], float], repeats: int, name: str) -> tuple[float, float]:
    """Share of test splits on which the model passes, and the mean number of looks."""
    found = [passes(kind(np.random.default_rng(seed)), share) for seed in track(range(repeats), name)]
    return float(np.mean([passed for passed, _ in found])), float(np.mean([number for _, number in found]))


def more_cases(share: float) -> float:
    """How many times the cases of a look that spends the whole error are needed, for a power of 80 %: (z_a + z_b)^2 over the same."""
    power = norm.isf(0.2)
    return float(((norm.isf(ALPHA * share) + power) / (norm.isf(ALPHA) + power)) ** 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    asked = parser.parse_args(arguments)
    kinds = {
        f"{LOOKS} models made independently": alone,
        f"{LOOKS} models that share nine tenths": related,
        "one model, the split grown three times": growing,
    }
    results: list[tuple[str, float, float, float]] = []
    with shown():
        for name, kind in kinds.items():
            plain, _ = rate(kind, lambda _: 1.0, asked.repeats, name)
            ruled, taken = rate(kind, spent_by, asked.repeats, f"{name}, by the rule")
            results.append((name, plain, ruled, taken))
    costs = {name: [more_cases(share(look)) for look in (1, 2, 3, 10)] for name, share in WAYS.items()}
    rows = [[name, f"{100 * plain:.1f} %", f"{100 * ruled:.1f} %", f"{taken:.1f}"] for name, plain, ruled, taken in results]
    notes = [
        f"{asked.repeats} simulated test splits of {CASES} cases, a limit of 2 pp; every model truly loses 2 pp.",
        "Times the cases of a look that spends the whole error, for a power of 80 %, at look 1, 2, 3 and 10 where none has passed: "
        + "; ".join(f"{name} {', '.join(f'{each:.2f}' for each in some)}" for name, some in costs.items())
        + ".",
    ]
    if not asked.dry:
        raw = [dict(zip(("looks", "plain", "rule", "taken"), each, strict=True)) for each in results]
        write("looks", TITLE, list(COLUMNS), rows, {"results": raw, "more_cases": costs}, notes)
    print(json.dumps([*rows, *notes], indent=1))


if __name__ == "__main__":
    main()
