"""How often a verdict passes a model whose true loss is exactly the limit: it must not be more often than one in twenty.

    python -m benchmarks.studies.coverage [--repeats 1000] [--drawn 300] [--bootstrapped] [--only NAME] [--dry]

Every row makes up two models whose figures in the population differ by exactly the limit, draws a test set for them, and asks the
guard-rail, many times over. Beside it: how often the limit itself is (wrongly) said to be shown to be exceeded, how often two equally good
models pass the same rail on as many cases, and what the plain comparison of the measured values lets through. Figures that are
bootstrapped take minutes a row: without `--bootstrapped` their rows are kept as they are on record. Two more tables, which need no or few
draws, are made by `coverage_sizes.py` and `coverage_power.py`. About eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from benchmarks.results import RESULTS, write
from optimize.guard.classification_score import ClassificationScore, answers
from optimize.guard.judged_rails import judged_rails
from optimize.guard.limits import Limits, Relative
from optimize.guard.rail import Rail
from optimize.guard.segmentation_score import SegmentationScore
from optimize.progress import note, shown, track

Draw: TypeAlias = np.random.Generator
Scores: TypeAlias = tuple[ClassificationScore, ClassificationScore]
Made: TypeAlias = Scores | tuple[SegmentationScore, SegmentationScore]
ALPHA = 0.05
COLUMNS = (
    *("figure", "cases", "limit", "bounds", "passes at the limit", "95 % interval", "fails at the limit"),
    *("passes without a loss", "plain comparison passes at the limit"),
)
TITLE = "How often a guard-rail passes a model whose true loss is exactly the limit (at most 5 % is asked for)"


@dataclass(frozen=True)
class Scenario:
    """One kind of figure.

    Args:
        name: of the figure.
        cases: in words.
        limits: the guard-rails; the rail `which` is looked at.
        which: picks that rail out of all.
        make: from a generator and a true loss to answers before and after.
        loss: the true loss at the limit.
        drawn: the bounds are bootstrapped.
        slow: fewer repeats are enough.
        words: the limit, where it is not of a loss.
    """

    name: str
    cases: str
    limits: Limits
    which: int
    make: Callable[[Draw, float], Made]
    loss: float
    drawn: bool = False
    slow: bool = False
    words: str = ""

    @property
    def limit(self) -> str:
        """The limit in words."""
        return self.words or f"{100 * self.loss:.2g} pp"


def two_classes(decided: Sequence[np.ndarray], labels: np.ndarray, patients: np.ndarray | None = None) -> Scores:
    """Answers of two models, by what they decided."""
    before, after = (answers(np.eye(2, dtype=np.float32)[each.astype(int)], labels, ("a", "b"), patients) for each in decided)
    return before, after


def shares(draw: Draw, loss: float, *, cases: int, right: float, gained: float, others: int = 0) -> Scores:
    """Class a, of which the original gets `right`; `gained` of all its cases turn right, and so many more turn wrong."""
    lost = loss + gained
    kind = draw.choice(4, cases, p=[lost, gained, right - lost, 1 - right - gained])
    labels = np.repeat([0, 1], [cases, others])
    rest = np.ones(others, dtype=int)
    return two_classes([np.concatenate([np.isin(kind, wrong).astype(int), rest]) for wrong in ([1, 3], [0, 3])], labels)


def clustered(draw: Draw, loss: float, *, patients: int, each: int, alike: float, gained: float) -> Scores:
    """The same with several cases of each patient: with chance `alike` a case moves as its patient does."""
    whose = np.repeat(np.arange(patients), each)
    common, own = draw.random(patients)[whose], draw.random(len(whose))
    place = np.where(draw.random(len(whose)) < alike, common, own)
    lost = place < loss + gained
    won = ~lost & (place < loss + 2 * gained)
    return two_classes([won, lost], np.zeros(len(whose), dtype=np.int64), whose)


def of_class(metric: str, lost: float, *, cases: int, others: int, right: float, wrongly: float) -> float:
    """Figure in the population of a class of which `right - lost` is found, with `wrongly` of the others taken for it."""
    hits = cases * (right - lost)
    said = hits + others * wrongly
    return hits / said if metric == "precision" else 2 * hits / (cases + said)


def by_class(draw: Draw, loss: float, *, metric: str, cases: int, others: int, right: float, wrongly: float) -> Scores:
    """F1 falls by losing cases of the class, precision by taking others for it."""
    figure = partial(of_class, metric, cases=cases, others=others, right=right)
    lost, more, whole = 0.0, 0.0, figure(0.0, wrongly=wrongly)
    if loss and metric == "f1":
        lost = brentq(lambda each: whole - figure(each, wrongly=wrongly) - loss, 0, right)
    elif loss:
        more = brentq(lambda each: whole - figure(0.0, wrongly=wrongly + each) - loss, 0, 1 - wrongly)
    gained = 0.01
    mine = draw.choice(4, cases, p=[lost + gained, gained, right - lost - gained, 1 - right - gained])
    theirs = draw.choice(4, others, p=[more + wrongly / 5, wrongly / 5, wrongly * 4 / 5, 1 - more - wrongly * 6 / 5])
    labels = np.repeat([0, 1], [cases, others])
    # of a: lost, gained, right in both, wrong in both; of the others: newly taken for a, no more, in both, in none
    before = np.concatenate([np.isin(mine, [1, 3]), ~np.isin(theirs, [1, 2])])
    after = np.concatenate([np.isin(mine, [0, 3]), ~np.isin(theirs, [0, 2])])
    return two_classes([before, after], labels)


def curve(draw: Draw, loss: float, *, positives: int, others: int, area: float, few: bool = False) -> Scores:
    """Normal scores whose area under the curve falls by the loss: every positive a little, or a few to behind all others."""
    labels = np.repeat([0, 1], [others, positives])
    shared, own = draw.standard_normal(len(labels)), draw.standard_normal((2, len(labels)))
    alike, sides = (0.99, []) if few else (0.9, [])
    for noise, value in zip(own, (area, area if few else area - loss), strict=True):
        sides.append(alike**0.5 * shared + (1 - alike) ** 0.5 * noise + labels * norm.ppf(value) * 2**0.5)
    if few:
        sides[1] = np.where((labels == 1) & (draw.random(len(labels)) < loss / area), -9.0, sides[1])
    each = [1 / (1 + np.exp(-score)) for score in sides]
    before, after = (answers(np.stack([1 - share, share], axis=1), labels, ("a", "b")) for share in each)
    return before, after


def sureness(
    draw: Draw, loss: float, *, cases: int, classes: int, gap: float, shape: str = "too sure", alike: float = 0.95
) -> Scores:
    """A calibration error of `gap` before and by the loss more after, with shares of the given class spread evenly.

    The shape says where it lies: everywhere "too sure" or "too shy", or "crossing": too sure below the middle and too shy above.
    """
    low, high = 1 / classes + 0.05, 0.95
    sure, labels = draw.uniform(low, high, cases), draw.integers(classes, size=cases)
    moved = sure + draw.normal(0, 0.01, cases)
    moved = np.where(moved > high, 2 * high - moved, np.where(moved < low, 2 * low - moved, moved))  # still spread evenly
    common, own, same = draw.random(cases), draw.random((2, cases)), draw.random(cases) < alike
    sides = []
    for alone, share, error in zip(own, (sure, moved), (gap, gap + loss), strict=True):
        wave = {"too sure": 1.0, "too shy": -1.0}.get(shape, np.pi / 2 * np.sin(2 * np.pi * (share - low) / (high - low)))
        right = np.where(same, common, alone) < share - error * wave
        decided = np.where(right, labels, (labels + 1) % classes)
        rest = (1 - share) / (classes - 1)
        sides.append(rest[:, None] + np.eye(classes)[decided] * (share - rest)[:, None])
    before, after = (answers(each, labels, tuple("abcdefgh"[:classes])) for each in sides)
    return before, after


def masks(draw: Draw, loss: float, *, patients: int, kind: str) -> tuple[SegmentationScore, SegmentationScore]:
    """Dice of each patient; differences are normal, or a few patients lose half of theirs."""
    old = draw.uniform(0.7, 0.95, patients)
    fall = draw.normal(loss, 0.04, patients)
    if kind != "normal":
        fall = 0.5 * (draw.random(patients) < loss / 0.5) + draw.normal(0, 0.01, patients)
    size, none = 100_000, np.zeros((patients, 1, 0), dtype=np.uint8)
    sides = []
    for each in (old, old - fall):
        both = np.round(np.clip(each, 0, 1) * size).astype(np.int64)[:, None]
        whole = np.full((patients, 1), size)
        sides.append(SegmentationScore(both, whole, whole, none, np.ones(patients, dtype=bool), np.arange(patients), ("a",)))
    return sides[0], sides[1]


def scenarios() -> list[Scenario]:
    """All of them."""
    free, found = Limits(1.0, 1.0), []
    for cases, limit, gained in ((60, 0.06, 0.0), (122, 0.06, 0.01), (500, 0.02, 0.01), (1712, 0.02, 0.02), (1712, 0.01, 0.01)):
        make = partial(shares, cases=cases, right=0.95, gained=gained)
        found.append(Scenario("recall", f"{cases}, {gained:.0%} gained", replace(free, max_class_drop=limit), 1, make, limit))
    for cases, share in ((122, 0.06), (600, 0.03)):
        make, limits = partial(shares, cases=cases, right=0.9, gained=0.01), replace(free, max_class_drop=Relative(share))
        found.append(Scenario("recall, relative limit", f"{cases}, 1% gained", limits, 1, make, share * 0.9))
    for patients, each, alike in ((20, 6, 0.7), (30, 10, 0.7), (100, 6, 0.7), (100, 12, 1.0), (200, 3, 0.0)):
        make = partial(clustered, patients=patients, each=each, alike=alike, gained=0.02)
        words = f"{patients} patients of {each}, alike {alike:g}"
        found.append(Scenario("accuracy, by patient", words, replace(free, max_drop=0.06), 0, make, 0.06))
    for cases, others in ((30, 400), (122, 800)):
        for metric, figure in (("f1", "F1"), ("precision", "precision")):
            settings = {"cases": cases, "others": others, "right": 0.93, "wrongly": 0.01}
            make = partial(by_class, metric=metric, **settings)  # type: ignore[arg-type]
            limits = replace(free, max_class_drop=0.06, class_metric=metric)
            found.append(Scenario(figure, f"{cases} of the class, {others} others", limits, 1, make, 0.06, drawn=True))
    limits = replace(free, metric="macro_f1", max_drop=0.03)
    loss_of_macro = partial(macro, cases=122, others=800, right=0.93, wrongly=0.01)
    found.append(Scenario("macro F1", "122 of the class, 800 others", limits, 0, loss_of_macro, 0.03, drawn=True))
    for positives, others, area, limit in (
        *((10, 1000, 0.9, 0.02), (12, 200, 0.9, 0.02), (30, 300, 0.9, 0.02), (30, 300, 0.9, 0.05), (60, 600, 0.9, 0.05)),
        *((100, 900, 0.95, 0.03), (200, 1000, 0.9, 0.02), (50, 50, 0.9, 0.03), (300, 300, 0.9, 0.03)),
    ):
        for few, kind in ((False, "all lose a little"), (True, "few lose all")):
            make = partial(curve, positives=positives, others=others, area=area, few=few)
            words = f"{positives} of {positives + others}, {kind}"
            found.append(Scenario("AUC", words, replace(free, metric="auc", max_drop=limit), 0, make, limit))
    for cases in (20, 122):
        limits = replace(free, max_class_drop=1.0, min_class_f1=0.9)
        make = partial(floor, cases=cases, others=800, reached=0.9, better=0.97)
        found.append(Scenario("F1 to be reached", f"{cases} of the class, 800 others", limits, 3, make, 1.0, words="90 %"))
    limits = replace(free, max_regressed=0.05)
    for cases in (100, 600):
        make = partial(regressing, cases=cases, gained=0.03)
        found.append(Scenario("share regressed", f"{cases}, 3% gained", limits, -1, make, 0.05))
    for patients, each in ((40, 6), (100, 6)):
        make = partial(patients_of_class, patients=patients, each=each)
        limits = replace(free, max_class_drop=0.06, class_metric="f1")
        found.append(Scenario("F1, by patient", f"{patients} patients of {each}, 400 others", limits, 1, make, 0.06, drawn=True))
    limits = replace(free, max_ece_rise=0.02)
    for cases, classes, gap, shape, alike in (
        *((150, 2, 0.0, "too sure", 0.95), (300, 2, 0.0, "too sure", 0.95), (600, 4, 0.0, "too sure", 0.95)),
        *((1000, 4, 0.0, "crossing", 0.95), (2000, 8, 0.0, "too sure", 0.95), (2000, 8, 0.0, "too sure", 0.99)),
        *((300, 8, 0.0, "too sure", 0.99), (600, 2, 0.05, "too sure", 0.95), (600, 2, 0.04, "too shy", 0.99)),
        *((2000, 4, 0.04, "too shy", 0.95), (2000, 8, 0.03, "crossing", 0.95), (2000, 8, 0.03, "crossing", 0.99)),
    ):
        make = partial(sureness, cases=cases, classes=classes, gap=gap, shape=shape, alike=alike)
        words = f"{cases} of {classes} classes, {shape}, {gap:.0%} before, {1 - alike:.0%} answered anew"
        found.append(Scenario("calibration error", words, limits, -1, make, 0.02, slow=True))
    few = "a few lose half"
    for patients, kind in (*((each, "normal") for each in (12, 40, 60)), *((each, few) for each in (5, 12, 30, 40, 60, 150))):
        make = partial(masks, patients=patients, kind=kind)
        found.append(Scenario("Dice", f"{patients} patients, {kind}", replace(free, max_drop=0.04), 0, make, 0.04))
    make = partial(masks, patients=40, kind="normal")
    limits = replace(free, max_drop=Relative(0.05))
    found.append(Scenario("Dice, relative limit", "40 patients, normal", limits, 0, make, 0.05 * 0.825))
    for rare in (6, 12, 50):
        make = partial(two_kinds, patients=100, rare=rare)
        found.append(Scenario("Dice of two classes", f"100 patients, {rare} with the second", replace(free, max_drop=0.04), 0, make, 0.04))
    return found


def regressing(draw: Draw, loss: float, *, cases: int, gained: float) -> Scores:
    """A share of all cases that turns wrong, `loss` or a fifth of it, while others turn right."""
    return shares(draw, (loss or 0.01) - gained, cases=cases, right=0.9, gained=gained)


def floor(draw: Draw, loss: float, *, cases: int, others: int, reached: float, better: float) -> Scores:
    """An artifact whose F1 in the population is `reached` where it loses, else `better`; half of its errors are of either kind."""
    figure = reached if loss else better
    # F1 = 2 h / (2 h + e) with e errors, half of which are missed: h = cases - e / 2.
    wrong = 2 * cases * (1 - figure)
    found = draw.random(cases) >= wrong / 2 / cases
    taken = draw.random(others) < wrong / 2 / others
    labels = np.repeat([0, 1], [cases, others])
    decided = np.concatenate([~found, ~taken])
    return two_classes([labels, decided], labels)


def patients_of_class(draw: Draw, loss: float, *, patients: int, each: int, others: int = 400) -> Scores:
    """Recall of a class falls patient by patient, so that its F1 falls by the loss; every other case is right."""
    right = 0.95

    def figure(recall: float) -> float:
        return 2 * recall / (1 + recall)

    lost = brentq(lambda part: figure(right) - figure(right - part) - loss, 0, right) if loss else 0.0
    whose = np.repeat(np.arange(patients), each)
    place = np.where(draw.random(len(whose)) < 0.7, draw.random(patients)[whose], draw.random(len(whose)))
    before, after = place < right, (place < right - lost)
    labels = np.repeat([0, 1], [len(whose), others])
    ids = np.concatenate([whose, np.arange(patients, patients + others)])
    rest = np.ones(others, dtype=bool)
    return two_classes([np.concatenate([~each_, rest]) for each_ in (before, after)], labels, ids)


def two_kinds(draw: Draw, loss: float, *, patients: int, rare: int) -> tuple[SegmentationScore, SegmentationScore]:
    """Two classes, of which the second is shown by few patients, and loses twice the loss there."""
    size, none = 100_000, np.zeros((patients, 2, 0), dtype=np.uint8)
    old = draw.uniform(0.7, 0.9, (patients, 2))
    fall = draw.normal(0, 0.03, (patients, 2)) + np.array([0.0, 2 * loss])
    has = np.stack([np.ones(patients, dtype=bool), np.arange(patients) < rare], axis=1)
    sides = []
    for each in (old, old - fall):
        both = np.round(np.clip(each, 0, 1) * size).astype(np.int64) * has
        whole = has * size
        sides.append(SegmentationScore(both, whole, whole, none, np.ones(patients, dtype=bool), np.arange(patients), ("a", "b")))
    return sides[0], sides[1]


def macro(draw: Draw, loss: float, *, cases: int, others: int, right: float, wrongly: float) -> Scores:
    """Macro F1 of two classes falls by losing cases of the first, which are then taken for the second."""

    def both(lost: float) -> float:
        first = of_class("f1", lost, cases=cases, others=others, right=right, wrongly=wrongly)
        hits, said = others * (1 - wrongly), others * (1 - wrongly) + cases * (1 - right + lost)
        return (first + 2 * hits / (others + said)) / 2

    lost = brentq(lambda each: both(0.0) - both(each) - loss, 0, right - 0.01) if loss else 0.0
    fall = of_class("f1", 0.0, cases=cases, others=others, right=right, wrongly=wrongly) - of_class(
        "f1", lost, cases=cases, others=others, right=right, wrongly=wrongly
    )
    return by_class(draw, fall, metric="f1", cases=cases, others=others, right=right, wrongly=wrongly)


def study(scenario: Scenario, repeats: int, seed: int) -> dict[str, Any]:
    """Ask the rail so many times, of a model at the limit and of one without a loss."""
    draw, counts = np.random.default_rng(seed), {"pass": 0, "fail": 0, "inconclusive": 0}
    without, plain, method = 0, 0, ""
    for _ in track(range(repeats), f"{scenario.name}, {scenario.cases}"):
        rail = _rail(scenario, draw, scenario.loss)
        counts[rail.outcome] += 1
        plain += rail.held_by_value
        method = rail.estimate.method
        without += _rail(scenario, draw, 0.0).outcome == "pass"
    interval = binomtest(counts["pass"], repeats).proportion_ci(0.95)
    return {
        "figure": scenario.name,
        "cases": scenario.cases,
        "limit": scenario.limit,
        "method": method,
        "repeats": repeats,
        "passes": counts["pass"] / repeats,
        "passes_low": float(interval.low),
        "passes_high": float(interval.high),
        "fails": counts["fail"] / repeats,
        "passes_without_a_loss": without / repeats,
        "plain_passes": plain / repeats,
    }


def _rail(scenario: Scenario, draw: Draw, loss: float) -> Rail:
    before, after = scenario.make(draw, loss)
    return judged_rails(scenario.limits, before, after)[scenario.which]


def on_record() -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the last run, by figure and cases."""
    rows = json.loads((RESULTS / "coverage.json").read_text(encoding="utf-8"))["results"]
    return {(each["figure"], each["cases"]): each for each in rows}


def row(result: dict[str, Any]) -> list[str]:
    """A line of the table."""
    exceeded = " **above 5 %**" if result["passes_low"] > ALPHA else ""
    return [
        result["figure"],
        result["cases"],
        result["limit"],
        result["method"],
        f"{100 * result['passes']:.1f} %{exceeded}",
        f"{100 * result['passes_low']:.1f} to {100 * result['passes_high']:.1f} %",
        f"{100 * result['fails']:.1f} %",
        f"{100 * result['passes_without_a_loss']:.0f} %",
        f"{100 * result['plain_passes']:.0f} %",
    ]


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--drawn", type=int, default=300, help="repeats of figures that take long")
    parser.add_argument("--bootstrapped", action="store_true", help="figures that are bootstrapped anew, too")
    parser.add_argument("--only", default="", help="figures whose name holds this; the others are kept as they are on record")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    results, recorded = [], on_record()
    with shown():
        for number, scenario in enumerate(scenarios()):
            if arguments.only in scenario.name and (arguments.bootstrapped or not scenario.drawn):
                few = scenario.drawn or scenario.slow
                results.append(study(scenario, arguments.drawn if few else arguments.repeats, number))
                note(" | ".join(row(results[-1])))
            elif (scenario.name, scenario.cases) in recorded:
                results.append(recorded[scenario.name, scenario.cases])
    table = [row(each) for each in results]
    above = [each for each in results if each["passes_low"] > ALPHA]
    counts = [each["repeats"] for each in results]
    notes = [
        f"{min(counts)} to {max(counts)} simulated test sets for each row; the interval is Clopper and Pearson’s.",
        f"Above 5 % beyond the chance of the simulation: {len(above)} of {len(results)} rows.",
    ]
    if not arguments.dry:
        write("coverage", TITLE, COLUMNS, table, {"results": results}, notes)
    print(json.dumps([*table, *notes], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
