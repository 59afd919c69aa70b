"""Does the number of cases that an inconclusive rail names decide four times in five? It is drawn and judged.

    python -m benchmarks.studies.coverage_power [--repeats 400] [--dry]

A test set is made up whose rail is inconclusive. As many cases as it names are then drawn at the rates observed, many times, and the rail
is asked again; and as many as there were. About two minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from benchmarks.results import write
from optimize.guard.intervals import Estimate, drop_of_share, mean_of, share_of
from optimize.guard.limits import Limits
from optimize.guard.mask_comparison import UNSEEN_LOSS
from optimize.guard.rail import Rail
from optimize.progress import shown, track

Draw: TypeAlias = np.random.Generator
Take: TypeAlias = Callable[[np.ndarray], Estimate]
COLUMNS = ("figure", "test set", "limit", "power of as many", "so many did", "named", "power asked for", "so many did ")
TITLE = "How often the number of cases that an inconclusive rail names decides"


def of_share(kinds: np.ndarray) -> Estimate:
    """Drop of a share, from the kind of each case: 0 lost, 1 gained, else neither."""
    return drop_of_share(kinds != 1, kinds != 0, 0.95)


def of_hits(kinds: np.ndarray) -> Estimate:
    """The share of cases of kind 0."""
    return share_of(kinds == 0, 0.95)


def of_patients(falls: np.ndarray) -> Estimate:
    """Mean fall of Dice."""
    return mean_of(falls, 0.95, UNSEEN_LOSS)


def problems() -> list[tuple[str, str, float, Take, np.ndarray]]:
    """Figure, the test set in words, the limit, how it is bounded, and the cases."""
    found: list[tuple[str, str, float, Take, np.ndarray]] = []
    for lost, gained, cases, limit in ((4, 0, 122, 0.06), (3, 1, 84, 0.06), (12, 1, 113, 0.06), (9, 5, 300, 0.03), (30, 18, 1712, 0.01)):
        kinds = np.repeat([0, 1, 2], [lost, gained, cases - lost - gained])
        found.append(("drop of a share", f"{lost} lost, {gained} gained of {cases}", limit, of_share, kinds))
    kinds = np.repeat([0, 2], [20, 480])
    found.append(("share regressed", "20 of 500", 0.05, of_hits, kinds))
    draw = np.random.default_rng(0)
    for patients, mean, spread, limit in ((30, 0.01, 0.04, 0.04), (60, 0.005, 0.03, 0.02)):
        falls = draw.normal(0, 1, patients)
        falls = mean + spread * (falls - falls.mean()) / falls.std()
        found.append(("drop of Dice", f"{patients} patients who lose {100 * mean:g} ± {100 * spread:g} pp", limit, of_patients, falls))
    return found


def rail_of(bounded: Estimate, limit: float) -> Rail:
    """The rail of a drop."""
    return Rail.of(Limits(), "drop", limit, "figure", bounded, 0.0, 0.0)


def decided(draw: Draw, take: Take, values: np.ndarray, count: int, limit: float, repeats: int) -> float:
    """How often so many cases, drawn from these, decide."""
    return float(np.mean([rail_of(take(draw.choice(values, count)), limit).outcome != "inconclusive" for _ in range(repeats)]))


def study(repeats: int) -> list[dict[str, Any]]:
    """Every row."""
    results, draw = [], np.random.default_rng(1)
    for figure, words, limit, take, values in track(problems(), "inconclusive rails"):
        rail, ask = rail_of(take(values), limit), partial(decided, draw, take, values, limit=limit, repeats=repeats)
        assert rail.required_n is not None
        results.append(
            {
                "figure": figure,
                "test": words,
                "limit": limit,
                "power": rail.power,
                "decided": ask(count=len(values)),
                "needed": rail.required_n,
                "needed_decided": ask(count=rail.required_n),
                "repeats": repeats,
            }
        )
    return results


def row(result: dict[str, Any]) -> list[str]:
    """A line of the table."""
    shares = [f"{100 * result[name]:.0f} %" for name in ("power", "decided", "needed_decided")]
    return [result["figure"], result["test"], f"{100 * result['limit']:g} pp", *shares[:2], str(result["needed"]), "80 %", shares[2]]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    with shown():
        results = study(arguments.repeats)
    table, notes = [row(each) for each in results], [f"{arguments.repeats} test sets drawn for each figure."]
    if not arguments.dry:
        write("coverage_power", TITLE, COLUMNS, table, {"results": results}, notes)
    print(json.dumps([*table, *notes], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
