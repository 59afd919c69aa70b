"""One file for each transformation of a candidate.

A step is a frozen dataclass with the call and the attributes of `optimize.candidate.Step`. Steps are found by looking at the files, so a
new one is one new file: nothing else names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.files import called_dataclasses

if TYPE_CHECKING:
    from optimize.candidate import Step


def steps() -> dict[str, type[Step]]:
    """Return every step by the name of its class.

    >>> [name for name in steps() if name.startswith("Prune")]
    ['Prune', 'PruneToWidths']
    """
    classes_by_file = called_dataclasses(__name__, "candidate", "reference")
    return {step.__name__: step for classes in classes_by_file.values() for step in classes}
