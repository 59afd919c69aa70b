"""Whether a search that asks for a chance of acceptance is accepted that often: counts drawn from known rates, without any network.

    python -m benchmarks.studies.acceptance_counts [--repetitions 300]

A search is drawn thus: twenty candidates, each bolder than the one before, lose cases at rates that are known. Their errors are correlated,
as those of networks that are cut from one start: most cases that a mild candidate loses, a bolder one loses too. The boldest candidate that
reaches the asked chance on the guard split is judged on the test split. That is the worst case of a search, which keeps the luckiest of
twenty. Sizes of the splits are those of the blood cells and of the digits; classes are alike, or differ by a factor.

An acceptance is false where a true rate is above its limit. Half a minute for each row on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results import write
from optimize.guard.acceptance_chance import acceptance_chances, rail_key
from optimize.guard.acceptance_rule import CAUTION
from optimize.guard.exact import drop_passes
from optimize.guard.intervals import Estimate
from optimize.guard.limits import POWER, Limits
from optimize.guard.rail import Rail
from optimize.guard.score_intervals import Doubles, Integers

LEVELS = np.geomspace(0.0005, 0.04, 20)
"""True losses of the candidates, averaged over the classes."""
CORRELATION = 0.7
"""Chance that a case has the same luck in two candidates."""
COLUMNS = (
    "splits",
    "classes differ",
    "gained per lost",
    "searches",
    "accepted",
    "predicted",
    "accepted without caution",
    "false",
    "true loss",
)


@dataclass(frozen=True)
class Scenario:
    """A problem whose rates are known.

    Args:
        name: name in the table.
        guard: cases of each class of the guard split.
        test: cases of each class of the test split.
        limits: the guard-rails.
        likeness: shape of the gamma distribution of the classes' rates; 0 for equal rates.
        gained: cases gained for each one lost.
    """

    name: str
    guard: tuple[int, ...]
    test: tuple[int, ...]
    limits: Limits
    likeness: float
    gained: float


class Drawn(NamedTuple):
    """The boldest candidate that was kept.

    Attributes:
        chance: the chance that was predicted.
        accepted: whether the test split accepts it.
        false: whether a true loss is above its limit.
        loss: its true loss.
    """

    chance: float
    accepted: bool
    false: bool
    loss: float


def searched(scenario: Scenario, asked: float, rng: np.random.Generator) -> Drawn | None:
    """Draw one search, and return what it keeps; None where nothing reaches the chance.

    Args:
        scenario: the problem.
        asked: the chance that is asked for.
        rng: source of random numbers.
    """
    guard, test = np.array(scenario.guard), np.array(scenario.test)
    pattern = rng.gamma(scenario.likeness, 1 / scenario.likeness, len(guard)) if scenario.likeness else np.ones(len(guard))
    luck = {name: [rng.random((2, count)) for count in counts] for name, counts in (("guard", guard), ("test", test))}
    for level in LEVELS[::-1]:
        lose = np.minimum(level * pattern * rng.gamma(20, 1 / 20, len(guard)), 0.5)
        gain = np.minimum(scenario.gained * lose, 0.4)
        chance = chance_of(scenario, *_counts(luck["guard"], lose, gain, rng))
        if chance >= asked:
            lost, gained = _counts(luck["test"], lose, gain, rng)
            true = lose - gain * (1 - lose)
            whole = float((true * test).sum() / test.sum())
            limits = scenario.limits
            false = bool((true > limits.max_class_drop).any() or whole > limits.max_drop)
            return Drawn(chance, accepts(scenario, lost, gained), false, whole)
    return None


def chance_of(scenario: Scenario, lost: Integers, gained: Integers) -> float:
    """The chance of acceptance, from the counts of the guard split."""
    guard, test, limits = np.array(scenario.guard), np.array(scenario.test), scenario.limits
    rails = [_rail(limits.max_drop, int(guard.sum()), int(lost.sum()), int(gained.sum()), None)]
    rails += [_rail(limits.max_class_drop, int(n), int(lost[k]), int(gained[k]), str(k)) for k, n in enumerate(guard)]
    sizes = {rail_key(rail): int(size) for rail, size in zip(rails, (test.sum(), *test), strict=True)}
    return acceptance_chances(rails, sizes, limits).joint


def accepts(scenario: Scenario, lost: Integers, gained: Integers) -> bool:
    """Whether the verdict on the test split is "pass"."""
    test, limits, alpha = np.array(scenario.test), scenario.limits, 1 - scenario.limits.confidence
    counts = [(int(lost[k]), int(gained[k]), int(n), limits.max_class_drop) for k, n in enumerate(test)]
    counts.append((int(lost.sum()), int(gained.sum()), int(test.sum()), limits.max_drop))
    return all(drop_passes(b, c, n, alpha, limit) for b, c, n, limit in counts)


def _rail(limit: float, cases: int, lost: int, gained: int, name: str | None) -> Rail:
    estimate = Estimate((lost - gained) / cases, -1.0, 1.0, cases, "cases", "", None, lost, gained)
    scope, figure = ("overall", "accuracy") if name is None else ("class", "recall")
    return Rail(figure, figure, "drop", limit, "", None, 0.0, estimate, 0.95, scope, name)  # type: ignore[arg-type]


def _counts(luck: Sequence[Doubles], lose: Doubles, gain: Doubles, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Lost and gained cases of each class."""
    pairs = []
    for place, shared in enumerate(luck):
        own = np.where(rng.random(shared.shape) < CORRELATION, shared, rng.random(shared.shape))
        lost = own[0] < lose[place]
        pairs.append((int(lost.sum()), int(((own[1] < gain[place]) & ~lost).sum())))
    return tuple(np.array(pairs).T)  # type: ignore[return-value]


BLOOD = (61, 156, 78, 145, 61, 71, 166, 118), (122, 312, 156, 290, 122, 142, 333, 235)
SCENARIOS = tuple(
    Scenario(name, guard, test, limits, likeness, gained)
    for name, guard, test, limits in (
        ("855 and 1,712 blood cells", *BLOOD, Limits(0.02, 0.06)),
        ("450 and 600 digits", (45,) * 10, (60,) * 10, Limits(0.02, 0.15)),
        ("1,712 and 3,424 blood cells", *(tuple(2 * n for n in part) for part in BLOOD), Limits(0.02, 0.06)),
    )
    for likeness in (0.0, 1.0, 4.0)
    for gained in (0.1, 0.6)
)


def row(scenario: Scenario, repetitions: int) -> tuple[list[str], dict[str, Any]]:
    """One line of the table, and its figures."""
    cautious = [searched(scenario, 1 - CAUTION * (1 - POWER), np.random.default_rng((1, k))) for k in range(repetitions)]
    plain = [searched(scenario, POWER, np.random.default_rng((1, k))) for k in range(repetitions)]
    kept, bold = ([drawn for drawn in drawn_searches if drawn is not None] for drawn_searches in (cautious, plain))
    figures = {
        "accepted": float(np.mean([drawn.accepted for drawn in kept])),
        "predicted": float(np.mean([drawn.chance for drawn in kept])),
        "without_caution": float(np.mean([drawn.accepted for drawn in bold])),
        "false": sum(drawn.accepted and drawn.false for drawn in kept),
        "loss": float(np.mean([drawn.loss for drawn in kept])),
        "kept": len(kept),
    }
    differ = {0.0: "no", 1.0: "much", 4.0: "somewhat"}[scenario.likeness]
    shares = [f"{100 * figures[name]:.1f} %" for name in ("accepted", "predicted", "without_caution")]
    cells = [
        scenario.name,
        differ,
        f"{scenario.gained:g}",
        str(len(kept)),
        *shares,
        f"{figures['false']}",
        f"{100 * figures['loss']:.2f} pp",
    ]
    return cells, {**figures, "name": scenario.name, "likeness": scenario.likeness, "gained": scenario.gained}


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=300)
    asked = parser.parse_args()
    rows = []
    for scenario in SCENARIOS:
        rows.append(row(scenario, asked.repetitions))
        print(*rows[-1][0], sep=" | ", flush=True)
    notes = [
        f"A power of {100 * POWER:.0f} % is asked for. Each search keeps the boldest of {len(LEVELS)} candidates that reaches the chance."
    ]
    title = "How often the boldest candidate that a search keeps is accepted, with known rates"
    write("acceptance_counts", title, list(COLUMNS), [cells for cells, _ in rows], {"rows": [figures for _, figures in rows]}, notes)


if __name__ == "__main__":
    main()
