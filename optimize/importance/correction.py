"""Correction probability: which of two channels the network needs more, by the cases that only one of the maskings gets right.

Mask channel i and see which cases are still right, A_i; mask j, A_j. Of N cases

    n10 = #(A_i and not A_j)      n01 = #(not A_i and A_j)      r = min(n10, n01) / max(n10, n01), 1 where both are 0

As published, a pair may merge when r >= .8. A ratio of two small counts says little: counts of 1 and 2 have r = .5. The sound form: if both
channels are needed equally, each discordant case is a fair coin toss, so an exact McNemar test tells when they are not.

Example: of 100 cases, 6 are right only with i masked and 8 only with j masked. Then r = 6 / 8 = .75, which the published rule refuses, but
McNemar's p = .79 shows no difference at all.

"Right" means: the class the original predicts. No label is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from optimize.candidate import Candidate, Floats, Reference
from optimize.graph.surgery import mask_channels
from optimize.graph.trace import ChannelGroup, Index
from optimize.progress import track


@dataclass(frozen=True)
class Paired:
    """Cases on which masking channel i and masking channel j differ.

    Args:
        n10: right with i masked, wrong with j masked.
        n01: wrong with i masked, right with j masked.
        cases: how many were looked at.
    """

    n10: int
    n01: int
    cases: int


def ratio(paired: Paired) -> float:
    """The published r, in [0, 1]: 1 where the two maskings correct equally many cases, none included."""
    low, high = sorted((paired.n10, paired.n01))
    return low / high if high else 1.0


def mcnemar(paired: Paired) -> float:
    """Exact two-sided p-value of "both channels are needed equally" (McNemar 1947; binomial on the discordant cases)."""
    from scipy.stats import binomtest

    discordant = paired.n10 + paired.n01
    return float(binomtest(paired.n10, discordant).pvalue) if discordant else 1.0


def discordant_cases(
    candidate: Candidate, reference: Reference, group: ChannelGroup, pairs: Sequence[tuple[int, int]], inputs: Floats | None = None
) -> list[npt.NDArray[np.int8]]:
    """Of each pair (i, j) the cases, +1 right with i alone masked, -1 right with j alone masked, else 0; one pass per channel that occurs.

    Args:
        candidate: the network to mask channels in.
        reference: its original says what is right, for each position of dense outputs.
        group: of the candidate.
        pairs: channels to compare.
        inputs: (N, C, *spatial); None for all calibration inputs.
    """
    inputs = reference.calibration if inputs is None else inputs
    truth = reference.original.predict(inputs).argmax(1)
    right: dict[int, npt.NDArray[np.bool_]] = {}
    for channel in track(sorted({channel for pair in pairs for channel in pair}), f"mask channels of {group.name}"):
        masked = Candidate(masked_channel(candidate.module, group, channel), candidate.example)
        right[channel] = masked.predict(inputs).argmax(1) == truth
    return [(right[i].astype(np.int8) - right[j].astype(np.int8)).ravel() for i, j in pairs]


def masked_channel(module: nn.Module, group: ChannelGroup, channel: int) -> nn.Module:
    """A copy of the network in which nobody reads the channel."""
    return mask_channels(module, group, np.array([channel]))


def doubtful(outputs: Floats, each: int = 512) -> Index:
    """The published active set: of every predicted class the cases with the smallest lead over the runner-up, in order, at most `each`.

    Args:
        outputs: of the original, (N, K) with K at least 2.
        each: cases per class.
    """
    two = np.sort(outputs, axis=1)[:, -2:]
    lead, classes = two[:, 1] - two[:, 0], outputs.argmax(1)
    chosen = [np.flatnonzero(classes == one)[np.argsort(lead[classes == one], kind="stable")[:each]] for one in np.unique(classes)]
    return np.sort(np.concatenate(chosen))
