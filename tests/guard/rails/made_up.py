"""A guard-rail made up for tests, as a newcomer would write it: the source of its one file, and a process that has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCE = '''
"""The share of cases that are decided another way than before, right or wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from optimize.guard.rails import GuardRail

if TYPE_CHECKING:
    from optimize.guard.class_comparison import ClassComparison
    from optimize.guard.rail import Rail


def _classes(compared: ClassComparison, limit: float) -> Iterator[Rail]:
    from optimize.guard.intervals import share_of

    changed = compared.baseline.predicted != compared.candidate.predicted
    estimate = share_of(changed, compared.limits.confidence, compared.baseline.patients)
    yield compared.rail("ceiling", limit, "share of changed decisions", estimate, None, estimate.value)


RAIL = GuardRail(
    name="max_changed",
    rule="ceiling",
    help="Largest allowed share of decisions that change.",
    example="8%",
    criterion="share of decisions that change",
    unlimited="the share of decisions that change",
    classification=_classes,
)
'''


def run(folder: Path, script: str, source: str = SOURCE) -> str:
    """What a script prints in a process of its own in which the package `optimize.guard.rails` also looks for files in `folder`."""
    (folder / "max_changed.py").write_text(source, encoding="utf-8")
    start = f"import optimize.guard.rails as table\ntable.__path__.append({str(folder)!r})\n"
    done = subprocess.run([sys.executable, "-c", start + script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
