"""The order in which a signal lets a group's channels go, and the refusal of a signal that says nothing about a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimize.candidate import Candidate, Reference
from optimize.errors import InputError
from optimize.graph.trace import ChannelGroup, Index
from optimize.importance import name_of
from optimize.importance.signal import Scores, Signal


def removal_orders(signal: Signal, candidate: Candidate, reference: Reference, groups: Sequence[ChannelGroup]) -> dict[str, Index]:
    """Return the channels of every group, by the group's name: the one worth least first, without those that the signal is silent about.

    The signal is asked once, on the network as it is before anything is cut.

    Args:
        signal: signal that says what a channel is worth.
        candidate: the network.
        reference: the original and the calibration inputs.
        groups: the candidate's groups.

    Raises:
        InputError: when the signal is silent about every channel.
    """
    scores = signal(candidate, reference, groups)
    refuse_silence(signal, scores)
    return {group.name: ascending(score) for group, score in zip(groups, scores, strict=True)}


def refuse_silence(signal: Signal, scores: Sequence[Scores]) -> None:
    """See that a signal says something about some channel.

    Args:
        signal: signal that says what a channel is worth.
        scores: its answer, (size,) per group; nothing is refused where there is no group.

    Raises:
        InputError: when all of it is NaN.
    """
    if scores and all(np.isnan(score).all() for score in scores):
        raise InputError(f"`importance` (={name_of(signal)!r}) says nothing about any channel of this network: take 'output_error'.")


def ascending(score: Scores) -> Index:
    """Return the channels from the lowest score to the highest; equal ones in their order, NaN left out.

    >>> ascending(np.array([0.3, np.nan, 0.1, 0.3])).tolist()
    [2, 0, 3]
    """
    order = np.argsort(score, kind="stable")
    return np.asarray(order[~np.isnan(score[order])])
