"""What tests of a search look at: its trials, and what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optimize.candidate import Candidate, Step
from optimize.guard.score import Score
from optimize.searching.trial import Trial
from optimize.searching.walk import Judge, Search

# An error budget far above any error there can be: everything goes, and the guard-rails refuse it.
RUINOUS = 1e6


def settings(trials: list[dict[str, Any]]) -> list[tuple[str, float, bool]]:
    """Of each trial: what was done, how boldly, and whether it was kept."""
    return [(entry["step"], next(iter(entry["settings"].values())), entry["kept"]) for entry in trials]


def timeless(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in trials]


def written(search: Search) -> list[dict[str, Any]]:
    return [json.loads(line) for line in search.ledger.path.read_text().splitlines()][1:]


def ran(search: Search, done: Sequence[Mapping[str, Any]] = ()) -> tuple[Candidate, list[dict[str, Any]]]:
    """The best candidate and all trials of a search."""
    result = search.run(done)
    return result.best, list(result.trials)


class Counted(Search):
    """Counts what is really tried."""

    tried: list[Step]

    def attempt(self, step: Step, start: Candidate, baseline: Score, judge: Judge) -> tuple[Trial, Candidate]:
        self.tried.append(step)
        return super().attempt(step, start, baseline, judge)


def resumed(search: Search) -> tuple[Candidate, list[dict[str, Any]], int]:
    """Go on from the ledger; also how many proposals were made again."""
    counted = Counted(**{name: getattr(search, name) for name in search.__dataclass_fields__})
    object.__setattr__(counted, "tried", [])
    best, trials = ran(counted, search.ledger.resume())
    return best, trials, len(counted.tried)
