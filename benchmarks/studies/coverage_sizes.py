"""How often the bounds of shares pass a loss of exactly the limit at the worst of all numbers of cases: counted out, not drawn.

    python -m benchmarks.studies.coverage_sizes [--step 100] [--dry]

For each number of cases from 20 to 2000, every result that passes is found and its chance added up, at a true loss of exactly the limit.
Without gains every number of cases is looked at, with gains every `step`-th. About two minutes.
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import binom, norm

from benchmarks.results import write
from optimize.guard.exact import clopper_pearson, paired_high
from optimize.guard.score_intervals import tango_high, wilson
from optimize.progress import shown, track

ALPHA = 0.05
Z = float(norm.ppf(1 - ALPHA))
FEWEST, MOST = 20, 2000
LIMITS = (0.01, 0.02, 0.05, 0.1)
GAINS = (0.0, 0.01, 0.05)
COLUMNS = ("figure", "gained", "limits", "cases", "passes at the worst", "there", "score interval at its worst", "there ")
TITLE = "Largest chance to pass at a loss of exactly the limit, over all numbers of cases"
High = Callable[[float, float, float], float]


def paired_size(high: High, cases: int, limit: float, gained: float) -> float:
    """Chance that the upper bound of the drop lies within the limit, if the drop is the limit."""
    counts = np.arange(int(binom.ppf(1 - 1e-5, cases, gained)) + 1) if gained else np.zeros(1, dtype=int)
    first = bisect(range(int(limit * cases) + 1), limit + 1e-9, key=lambda lost: high(lost, 0, cases)) - 1
    borders, lost = [], first
    for count in counts.tolist():
        while lost + 1 + count <= cases and high(lost + 1, count, cases) <= limit + 1e-9:
            lost += 1
        borders.append(lost)
    share = min(1.0, (gained + limit) / (1 - gained))
    given = np.where(np.array(borders) >= 0, binom.cdf(borders, cases - counts, share), 0.0)
    return float((binom.pmf(counts, cases, gained) * given).sum())


def single_size(high: Callable[[float, float], float], cases: int, limit: float) -> float:
    """The same of a single share that may be the limit at most."""
    most = int(limit * cases)
    while most >= 0 and high(most, cases) > limit + 1e-9:
        most -= 1
    return float(binom.cdf(most, cases, limit)) if most >= 0 else 0.0


def worst(size: Callable[[int, float], float], numbers: Iterable[int]) -> dict[str, Any]:
    """The largest chance over the limits and the numbers of cases, and where it is."""
    found = max((size(cases, limit), cases, limit) for cases in numbers for limit in LIMITS)
    return {"passes": found[0], "cases": found[1], "limit": found[2]}


def _tango(lost: float, gained: float, cases: float) -> float:
    return tango_high(lost, gained, cases, Z)


def _exact(lost: float, gained: float, cases: float) -> float:
    return paired_high(lost, gained, cases, ALPHA)


def _clopper_pearson(hits: float, cases: float) -> float:
    return clopper_pearson(hits, cases, ALPHA)[1]


def _wilson(hits: float, cases: float) -> float:
    return wilson(hits, cases, Z)[1]


def study(step: int) -> list[dict[str, Any]]:
    """Every row."""
    results: list[dict[str, Any]] = []
    for gained in track(GAINS, "shares of gained cases"):
        numbers = range(FEWEST, MOST + 1, step if gained else max(1, step // 50))
        sizes = [partial(_paired, high, gained) for high in (_exact, _tango)]
        results.append({"figure": "drop of a share", "gained": gained, "numbers": len(numbers), "step": numbers.step})
        results[-1] |= {name: worst(size, numbers) for name, size in zip(("exact", "score"), sizes, strict=True)}
    numbers = range(FEWEST, MOST + 1)
    single = {"exact": partial(single_size, _clopper_pearson), "score": partial(single_size, _wilson)}
    results.append({"figure": "a share that must not be exceeded", "gained": None, "numbers": len(numbers), "step": 1})
    results[-1] |= {name: worst(size, numbers) for name, size in single.items()}
    return results


def _paired(high: High, gained: float, cases: int, limit: float) -> float:
    return paired_size(high, cases, limit, gained)


def row(result: dict[str, Any]) -> list[str]:
    """A line of the table."""
    both = result["exact"], result["score"]
    places = [[f"{100 * at['passes']:.2f} %", f"{at['cases']} cases, {100 * at['limit']:.0f} pp"] for at in both]
    gained = "" if result["gained"] is None else f"{100 * result['gained']:g} %"
    numbers = f"{FEWEST} to {MOST}" + ("" if result["step"] == 1 else f", every {result['step']}th")
    return [result["figure"], gained, ", ".join(f"{100 * limit:.0f}" for limit in LIMITS) + " pp", numbers, *places[0], *places[1]]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=100)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    with shown():
        results = study(arguments.step)
    table = [row(each) for each in results]
    notes = ["No draws: every result is counted with its chance."]
    if not arguments.dry:
        write("coverage_sizes", TITLE, COLUMNS, table, {"results": results}, notes)
    print(json.dumps([*table, *notes], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
