"""A search as one call, from an original and its data to the best candidate."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from optimize.candidate import Candidate, Labelled, Reference
from optimize.data.calibration_sampling import unlabelled
from optimize.data.dataset import Dataset, Split
from optimize.errors import InputError, require_candidate
from optimize.guard.acceptance_rule import AcceptanceRule
from optimize.guard.best_possible import best_possible_rails
from optimize.guard.evaluate import score_split
from optimize.guard.limits import POWER, Limits
from optimize.guard.verdict import search_confidence
from optimize.progress.deadline import Deadline
from optimize.searching.allocate import Allocate
from optimize.searching.ledger import Ledger
from optimize.searching.prices import Pricing
from optimize.searching.train_check import TrainCheck
from optimize.searching.walk import Search, SearchResult, Strategy


def labelled(split: Split) -> Labelled:
    """Return the items of a split, as recovery training reads them."""
    return Labelled(split.inputs, split.labels, split.patients)


def search(
    candidate: Candidate,
    data: Dataset,
    limits: Limits | None = None,
    *,
    strategy: Strategy | None = None,
    retrain: bool = False,
    seed: int = 0,
    power: float = POWER,
    time_budget_s: float | None = None,
) -> SearchResult:
    """Search for the smallest network that holds its limits on the guard split, in torch alone; nothing is compiled or timed.

    Args:
        candidate: the original; it is not changed.
        data: its four splits; the test split is not read.
        limits: the guard-rails; `Limits()` by default.
        strategy: strategy that makes proposals; by default `Allocate`, where a layer's price is its parameters and multiply-accumulates.
        retrain: let steps of the strategy that train learn from the train split.
        seed: seed of everything drawn at random.
        power: chance that the search aims at that the final verdict will be "pass", in 0.5..1.
        time_budget_s: seconds after which it ends with the best candidate so far; None to let the strategy end by itself. No proposal is
            begun that would take longer than what is left.

    Raises:
        InputError: when an argument is of the wrong kind or out of its range, or `retrain` is set and there is no train split.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from optimize.data.dataset import load_data
        >>> from optimize.loading.load import load_model
        >>> from optimize.searching.budgets import Budgets
        >>> rng = np.random.default_rng(0)
        >>> data = load_data({name: (rng.random((60, 1, 4, 4), np.float32), np.arange(60) % 2) for name in ("val", "test")})
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
        >>> result = search(load_model(net, input_shape=(1, 4, 4)), data, Limits(max_drop=0.5, max_class_drop=0.9), strategy=Budgets())
        >>> result.best.parameters <= 610, len(result.trials) > 0
        (True, True)
    """
    require_candidate(candidate)
    if not isinstance(data, Dataset):
        raise InputError(f"`data` is of class {type(data).__name__}: pass `load_data(…)`.")
    if limits is not None and not isinstance(limits, Limits):
        raise InputError(f"`limits` (={limits!r}) must be `Limits`: pass `Limits(max_drop=0.02)`.")
    if strategy is not None and not callable(strategy):
        raise InputError(f"`strategy` (={strategy!r}) must be an object such as `Budgets()` or `Allocate()`: pass one.")
    limits = limits or Limits()
    if not 0.5 <= power < 1:
        raise InputError(f"`power` (={power!r}) must be at least 0.5 and below 1, such as 0.9.")
    if time_budget_s is not None and not (isinstance(time_budget_s, int | float) and time_budget_s > 0):
        raise InputError(f"`time_budget_s` (={time_budget_s!r}) must be a number of seconds above 0: pass one, or leave it out.")
    deadline = None if time_budget_s is None else Deadline.after(time_budget_s)
    if retrain and data.training_split is None:
        raise InputError("`retrain` needs a train split: add train_images and train_labels to the data, or leave it out.")
    train = labelled(data.training_split) if retrain and data.training_split is not None else None
    # images without their labels: repair looks at what the original answers, never at the truth
    splits = [split for split in (data.calibration, data.train) if split is not None]
    inputs = unlabelled(candidate, splits, seed)
    cases = data.guard.n_independent, data.test.n_independent
    check = None
    if data.training_split is not None:
        check = TrainCheck.from_train(candidate, data.training_split, *cases, data.classes, limits, seed, power)
    confidence = search_confidence(limits, *cases, power)
    # the labels of the test split alone are read, since the chance of acceptance depends on its size
    sizes = best_possible_rails(data.test, data.classes, limits)
    baseline = score_split(candidate.predict, data.guard, data.classes, "judge the original")
    rule = AcceptanceRule.planned(limits, baseline, sizes, data.guard.n_independent, power, confidence)
    strategy = strategy or Allocate(Pricing(None))
    with tempfile.TemporaryDirectory() as folder:
        # an own folder that is deleted in the end: a search from Python is not resumed, so its ledger and snapshots are of no further use
        reference = Reference(candidate, inputs.fitted, seed, train, Path(folder), inputs.unseen)
        ledger = Ledger(Path(folder) / "ledger.jsonl", {})
        ledger.begin()
        search = Search(
            reference,
            data.guard,
            data.classes,
            limits,
            ledger,
            strategy,
            confidence,
            train_check=check,
            baseline_score=baseline,  # it is known already
            deadline=deadline,
            rule=rule,
        )
        result = search.run()
    return replace(result, notes=tuple(text for text in (rule.note, check and check.note) if text))
