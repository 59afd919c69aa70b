"""The normal equations and eliminations of a candidate from which many proposals start.

Proposals that start from one candidate differ in widths alone. The Gram matrix of a layer at that candidate holds the Gram matrix of every
narrower one: the rows and columns of the channels that stay. So one pass over the inputs serves all proposals, and a proposal costs the
solution of small linear systems.

What was found is kept in the reference's memory for the last two candidates, and for the last one only where that takes more than
`MEMORY_BYTES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optimize.candidate import Candidate, Reference
from optimize.graph.trace import ChannelGroup, Graph
from optimize.importance.output_error import Elimination
from optimize.reconstruction.layer_repair import repairable
from optimize.reconstruction.moments import Moments, OriginalOutputs
from optimize.reconstruction.ridge import Problem, build_problem

MEMORY_BYTES = 1 << 30
"""Bytes of Gram matrices that are kept."""
STARTS = 2
"""Number of candidates of which equations are kept: the start of a ladder, and the same without some of its layers."""


@dataclass(frozen=True, eq=False)
class StartEquations:
    """What is known of one candidate; filled as it is asked for.

    Args:
        rows: number of rows that each layer is fitted on.
        moments: layer -> its moments in the candidate.
        eliminations: (group, ridge) -> its elimination by output error, as far as a scan went.
        whole_eliminations: the same, down to one channel.
    """

    rows: int
    moments: dict[str, Moments] = field(default_factory=dict)
    eliminations: dict[tuple[str, float], Elimination] = field(default_factory=dict)
    whole_eliminations: dict[tuple[str, float], Elimination] = field(default_factory=dict)


def start_equations(candidate: Candidate, reference: Reference, rows: int) -> StartEquations:
    """Return what is known of a candidate, which may be nothing yet; what is added to it is remembered.

    Args:
        candidate: the start of proposals.
        reference: the original and the calibration inputs; its memory keeps the equations.
        rows: number of rows that each layer is fitted on.
    """
    known: dict[tuple[str, int], StartEquations] = reference.memory.setdefault("start equations", {})
    key = candidate.fingerprint, rows
    # taken out and put in again, so that the oldest is the first
    found = known.pop(key, None) or StartEquations(rows)
    known[key] = found
    while len(known) > STARTS or (len(known) > 1 and _bytes(known) > MEMORY_BYTES):
        known.pop(next(iter(known)))
    return found


def problems_at(
    candidate: Candidate, reference: Reference, graph: Graph, names: Sequence[str], equations: StartEquations, ridge: float
) -> list[Problem]:
    """Return the normal equations of layers in the candidate; moments that are not known are taken in one pass.

    Args:
        candidate: the start of proposals.
        reference: the original and the calibration inputs.
        graph: graph of the candidate.
        names: the layers.
        equations: what is known of the candidate; it is added to.
        ridge: strength of the pull to the present weights, see `Repair`.
    """
    original, module = reference.original.module, candidate.module
    missing = [name for name in names if name not in equations.moments]
    if missing:
        layers = repairable(module, original, graph)
        targets = OriginalOutputs(
            original, reference.calibration, layers, rows=equations.rows, seed=reference.seed, memory=reference.memory
        )
        equations.moments.update(targets.moments(module, missing))
    return [build_problem(module, original, graph, name, equations.moments[name], candidate.kept, ridge) for name in names]


def readers_of(groups_read: Sequence[ChannelGroup]) -> list[str]:
    """Return the layers that read these groups, each once."""
    return list(dict.fromkeys(slot.module for group in groups_read for slot in group.consumers))


def _bytes(known: Mapping[tuple[str, int], StartEquations]) -> int:
    return sum(moments.gram.nbytes for found in known.values() for moments in found.moments.values())
