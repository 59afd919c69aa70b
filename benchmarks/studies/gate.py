"""How often the latency gate is wrong, beside a busy process on the same cores: false alarms, slow-downs caught, seconds to decide.

    python -m benchmarks.studies.gate [--pairs 80] [--live 2] [--quick] [--samples FILE] [--recorded FILE] [--dry]

Pairs of fresh processes are recorded beside the neighbour of `gate_models.py`: two artifacts, each against itself and against itself made
5 % slower. From these pairs 1,000 decisions are drawn for each slow-down (`gate_rules.py`); 2 % and 10 % are the pairs of the model
against itself with every block of the candidate made longer. Some decisions are made live, by `compare_latency` itself. Other rules decide
on the same samples. About 19 minutes; the machine must have no other work.

    --samples FILE     write what was measured there as soon as it is, so that a run that is stopped is not lost
    --recorded FILE    draw again from the samples of an earlier result, or of such a file; nothing is measured
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.results import write
from benchmarks.studies.gate_models import SIZES, artifact, neighbour
from benchmarks.studies.gate_rules import PROCESSES, GateAnswer, Rule, gate, mean_rule, medians_rule, slower, t_test_rule
from optimize.backends.artifact import Artifact
from optimize.deploy.gate.latency import compare_latency
from optimize.guard.exact import clopper_pearson
from optimize.measure.duet import Mode, PairSample, measure_pair
from optimize.progress import note, shown, track

LIMIT = 0.05
PLANTED = (0.0, 0.05)
"""Slow-downs that are recorded; the first is a model against itself."""
SLOWDOWNS = (0.0, 0.02, 0.05, 0.10)
DECISIONS = 1000
THREADS = 1
OTHERS: dict[str, tuple[Rule, int]] = {
    "pytest-benchmark, mean:5%": (mean_rule, 1),
    "Welch's t-test, p < 0.05": (t_test_rule, 1),
    "medians of 20 processes, 5 %": (medians_rule, PROCESSES),
    "medians of 20 processes, 2.5 %": (partial(medians_rule, share=0.5), PROCESSES),
}
"""Rule -> how it decides, and how many processes of each model it takes."""
COLUMNS = ("artifact", "rule", "A/A: false alarms", "+2 %: reported", "+5 %: caught", "+5 %: passed", "+10 %: caught", "median seconds")
TITLE = "Latency gate with a limit of 5 %, beside a busy process on 2 cores: how often 1,000 decisions report a slow-down"


@dataclass(frozen=True)
class Recorded:
    """A pair of processes that was recorded: its artifact, the slow-down that was planted, and what was timed."""

    artifact: str
    planted: float
    pair: PairSample

    def as_dict(self) -> dict[str, Any]:
        """Return the form in the result: the blocks of each model as one text of microseconds, since one number a line is unreadable."""
        blocks = {name: " ".join(str(round(ns / 1e3)) for ns in getattr(self.pair, f"{name}_ns")) for name in ("baseline", "candidate")}
        pair = {name: getattr(self.pair, name) for name in ("mode", "first", "calls", "seconds")}
        return {"artifact": self.artifact, "planted": self.planted, **pair, **blocks}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Recorded:
        """Return the pair of a row of a result."""
        blocks = [tuple(1000 * int(word) for word in row[name].split()) for name in ("baseline", "candidate")]
        return cls(row["artifact"], row["planted"], PairSample(row["mode"], row["first"], row["calls"], *blocks, row["seconds"]))


@dataclass(frozen=True)
class Named:
    """An artifact as `compare_latency` takes it."""

    name: str
    model: Artifact


def record(models: Sequence[Named], pairs: int, mode: Mode, planted: Sequence[float] = PLANTED) -> list[Recorded]:
    """Return so many pairs for each artifact and slow-down, taken in turns, so that a slow quarter of an hour is in all of them."""
    plan = [(seed, model, slowdown) for seed in range(pairs) for model in models for slowdown in planted]
    taken = []
    for position, (_, model, slowdown) in enumerate(track(plan, f"pairs, {mode}")):
        pair = measure_pair(model, model, threads=THREADS, mode=mode, slowdown=slowdown, seed=position)
        taken.append(Recorded(model.name, slowdown, pair))
    return taken


def decide_live(models: Sequence[Named], seed: int, slowdowns: Sequence[float]) -> list[dict[str, Any]]:
    """Return one decision of `compare_latency` for each artifact and slow-down."""
    results = []
    for model, slowdown in track([(model, slowdown) for model in models for slowdown in slowdowns], "live decisions"):
        answer = compare_latency(model, model, max_slowdown=LIMIT, threads=THREADS, seed=1000 * seed, slowdown=slowdown)
        figures = {name: value for name, value in answer.as_dict().items() if name != "samples"}
        results.append({"artifact": model.name, "planted": slowdown, **figures})
        note(f"{model.name}, {100 * slowdown:g} % planted: {answer.outcome} after {answer.seconds:.0f} s; {answer.reason}")
    return results


def pairs_of(recorded: Sequence[Recorded], name: str, slowdown: float) -> list[PairSample]:
    """Return the interleaved pairs with this slow-down: recorded where it was planted, otherwise made of those without one."""
    planted = slowdown if slowdown in PLANTED else PLANTED[0]
    pairs = [row.pair for row in recorded if (row.artifact, row.planted, row.pair.mode) == (name, planted, "interleaved")]
    return pairs if slowdown in PLANTED else slower(pairs, slowdown)


def gate_rates(pairs: Sequence[PairSample], draw: np.random.Generator, decisions: int) -> dict[str, Any]:
    """Return the outcomes of so many resampled decisions of the gate, and the seconds they took."""
    answers: list[GateAnswer] = [gate(pairs, draw, LIMIT) for _ in range(decisions)]
    counts = Counter(answer.outcome for answer in answers)
    seconds = [answer.seconds for answer in answers]
    quantiles = {
        "median_s": median(seconds),
        "p95_s": float(np.percentile(seconds, 95)),
        "pairs": median(answer.pairs for answer in answers),
    }
    return {
        "reported": counts["fail"],
        "passed": counts["pass"],
        "inconclusive": counts["inconclusive"],
        "decisions": decisions,
        **quantiles,
    }


def other_rates(rule: Rule, processes: int, pairs: Sequence[PairSample], draw: np.random.Generator, decisions: int) -> dict[str, Any]:
    """Return how often another rule reports a regression; what it does not report has passed."""
    reported = sum(rule(pairs, draw, LIMIT) for _ in range(decisions))
    spent = processes * median(pair.seconds for pair in pairs)
    return {"reported": reported, "passed": decisions - reported, "inconclusive": 0, "decisions": decisions, "median_s": spent}


def analysed(recorded: Sequence[Recorded], decisions: int) -> list[dict[str, Any]]:
    """Return the rates of every rule for every artifact."""
    results = []
    for name in track(list(SIZES), "resampling"):
        draw = np.random.default_rng(0)
        pairs = {slowdown: pairs_of(recorded, name, slowdown) for slowdown in SLOWDOWNS}
        rules = {"gate": gate_rates, **{rule: partial(other_rates, *how) for rule, how in OTHERS.items()}}
        for rule, rates in rules.items():
            found = {f"{slowdown:g}": rates(taken, draw, decisions) for slowdown, taken in pairs.items()}
            results.append({"artifact": name, "rule": rule, "rates": found})
    return results


def spreads(recorded: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Return for each artifact, slow-down and mode how the log ratios of its pairs lie."""
    kinds = sorted({(row.artifact, row.planted, row.pair.mode) for row in recorded})
    results = []
    for kind in kinds:
        ratios = np.array([row.pair.log_ratio for row in recorded if (row.artifact, row.planted, row.pair.mode) == kind])
        figures = {"median": float(np.median(ratios)), "sd": float(ratios.std(ddof=1)), "largest": float(np.abs(ratios).max())}
        neighbours = float(np.corrcoef(ratios[:-1], ratios[1:])[0, 1])
        results.append({**dict(zip(("artifact", "planted", "mode"), kind, strict=True)), "n": len(ratios), **figures, "lag_1": neighbours})
    return results


def row(result: Mapping[str, Any]) -> list[str]:
    """A line of the table."""

    def share(slowdown: str, kind: str = "reported") -> str:
        rates = result["rates"][slowdown]
        low, high = clopper_pearson(rates[kind], rates["decisions"], 0.025)
        return f"{100 * rates[kind] / rates['decisions']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"

    spent = " / ".join(f"{result['rates'][slowdown]['median_s']:.0f}" for slowdown in ("0", "0.05"))
    return [result["artifact"], result["rule"], share("0"), share("0.02"), share("0.05"), share("0.05", "passed"), share("0.1"), spent]


def notes(results: Mapping[str, Any]) -> list[str]:
    """Lines below the table."""
    lines = [
        "In brackets the interval of Clopper and Pearson, 95 %. Median seconds: A/A / +5 %. +5 % was planted and recorded; "
        "+2 % and +10 % are the pairs of A/A with every block of the candidate made longer.",
        "The time in which a process waited for a core is taken off for all rules. The other rules do not do that by themselves, so in "
        "practice they are wrong more often than here.",
    ]
    for spread in results["spreads"]:
        kind = f"{spread['artifact']}, {spread['mode']}, {100 * spread['planted']:g} % planted"
        figures = f"median {100 * spread['median']:+.2f} %, standard deviation {100 * spread['sd']:.2f} %"
        lines.append(f"{kind}: log ratios of {spread['n']} pairs, {figures}.")
    live = results["live"]
    for slowdown in sorted({answer["planted"] for answer in live}):
        outcomes = Counter(answer["outcome"] for answer in live if answer["planted"] == slowdown)
        spent = median(answer["seconds"] for answer in live if answer["planted"] == slowdown)
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        lines.append(f"Live, {100 * slowdown:g} % planted: {said}; median {spent:.0f} s.")
    return lines


def measured(pairs: int, duets: int, live: int, slowdowns: Sequence[float], keep: Path | None) -> dict[str, Any]:
    """Return what has to be measured beside the neighbour; it is written to `keep` after each part."""
    with tempfile.TemporaryDirectory() as folder, neighbour(seed=0):
        models = [Named(name, artifact(name, Path(folder) / str(position))) for position, name in enumerate(SIZES)]
        recorded = record(models, pairs, "interleaved") + record(models, duets, "duet", planted=PLANTED[:1])
        raw: dict[str, Any] = {"samples": [each.as_dict() for each in recorded], "live": []}
        for seed in range(live + 1):
            if keep:
                keep.write_text(json.dumps(raw), encoding="utf-8")
            if seed < live:
                raw["live"] += decide_live(models, seed, slowdowns)
        return raw


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=80, help="recorded for each artifact and slow-down")
    parser.add_argument("--live", type=int, default=2, help="decisions for each artifact and slow-down")
    parser.add_argument("--quick", action="store_true", help="few pairs, about four minutes")
    parser.add_argument("--samples", type=Path, help="file for what was measured, while the study goes on")
    parser.add_argument("--recorded", type=Path, help="an earlier result, or such a file")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    with shown():
        earlier = json.loads(arguments.recorded.read_text(encoding="utf-8")) if arguments.recorded else None
        if earlier:
            raw = {name: earlier[name] for name in ("samples", "live")}
        elif arguments.quick:
            raw = measured(10, 3, 1, PLANTED, arguments.samples)
        else:
            raw = measured(arguments.pairs, 12, arguments.live, (0.0, 0.05, 0.10), arguments.samples)
        recorded = [Recorded.of(sample) for sample in raw["samples"]]
        results = {**raw, "results": analysed(recorded, DECISIONS), "spreads": spreads(recorded)}
    table, lines = [row(each) for each in results["results"]], notes(results)
    if not arguments.dry:
        write("gate", TITLE, COLUMNS, table, results, lines, recorded=earlier if earlier and "machine" in earlier else None)
    print(json.dumps([*table, *lines], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
