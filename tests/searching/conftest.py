from __future__ import annotations

from pathlib import Path

import pytest

from optimize.candidate import Candidate, Reference
from optimize.guard.limits import Limits
from optimize.searching.budgets import Budgets
from optimize.searching.ledger import Ledger
from optimize.searching.walk import Search
from tests import runs
from tests.searching.trials import RUINOUS


@pytest.fixture(scope="module")
def original() -> Candidate:
    return runs.original()


@pytest.fixture
def search(original: Candidate, tmp_path: Path) -> Search:
    ledger = Ledger(tmp_path / "ledger.jsonl", {"seed": 0})
    ledger.begin()
    aim = Reference(original, runs.split("train").inputs())
    return Search(aim, runs.split(), runs.CLASSES, Limits(), ledger, Budgets((0.001, RUINOUS), (0.99, 0.9, 0.01)))
