"""Correction probability: which of two channels can go, judged by the cases that only one of the two maskings gets right.

Mask channel i and see which cases are still right, A_i; mask j, A_j. Of N cases

    n10 = #(A_i and not A_j)      n01 = #(not A_i and A_j)      b_i = n10 / N      b_j = n01 / N
    r = min(b_i, b_j) / max(b_i, b_j), 1 where both are 0       m = (n10 + n01) / N

As published, a pair merges when r >= .8 and the channel with the larger b is kept (a tie: the larger L2 norm). But a large b_i means that
cases are right *without* i and wrong without j: it is j that the network needs, so that rule keeps the wrong one. And a ratio of two small
counts says little: 1 to 2 has r = .5. The sound form of both: the discordant cases are coin tosses if the channels are equally needed,
so an exact McNemar test tells when they are not, and then the channel kept is the one whose masking loses more.

"Right" means: the class the original predicts. No label is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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


def benefits(paired: Paired) -> tuple[float, float]:
    """(b_i, b_j): the share of cases that only masking this channel gets right."""
    return paired.n10 / paired.cases, paired.n01 / paired.cases


def ratio(paired: Paired) -> float:
    """The published r, in [0, 1]: 1 where the two maskings correct equally many cases, none included."""
    low, high = sorted((paired.n10, paired.n01))
    return low / high if high else 1.0


def flip_rate(paired: Paired) -> float:
    """The published m: the share of cases on which the two maskings differ."""
    return (paired.n10 + paired.n01) / paired.cases


def published_keep(paired: Paired) -> Literal["i", "j"] | None:
    """Which channel the published rule keeps: the one with the larger b. None: a tie, which the larger L2 norm decides."""
    return None if paired.n10 == paired.n01 else "i" if paired.n10 > paired.n01 else "j"


def mcnemar(paired: Paired) -> float:
    """Exact two-sided p-value of "both channels are needed equally" (McNemar 1947; binomial on the discordant cases)."""
    from scipy.stats import binomtest

    discordant = paired.n10 + paired.n01
    return float(binomtest(paired.n10, discordant).pvalue) if discordant else 1.0


def sound_keep(paired: Paired, level: float = 0.05) -> Literal["i", "j"] | None:
    """Which channel to keep: the one whose masking loses more cases. None: McNemar cannot tell them apart at this level."""
    if mcnemar(paired) > level:
        return None
    return "j" if paired.n10 > paired.n01 else "i"


def paired_counts(
    candidate: Candidate, reference: Reference, group: ChannelGroup, pairs: Sequence[tuple[int, int]], inputs: Floats | None = None
) -> list[Paired]:
    """Count for each pair (i, j) of the group's channels; arguments as for `flips`."""
    found = flips(candidate, reference, group, pairs, inputs)
    return [Paired(int((each > 0).sum()), int((each < 0).sum()), each.size) for each in found]


def flips(
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
