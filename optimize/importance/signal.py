"""The protocol of every signal: how it is called and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup

Scores: TypeAlias = npt.NDArray[np.float64]


class Signal(Protocol):
    """A frozen dataclass that is called; its fields are its settings. It looks at no label and changes nothing it is given."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __call__(self, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> list[Scores]:
        """Return what each channel is worth, (size,) for every group of the candidate; larger is worth more, NaN where nothing can be said.

        Values compare within a group; whether they do across groups is the signal's own matter.
        """
        ...
