"""Correction probability: which of two channels the network needs more, by the cases that only one of the maskings gets right.

Mask channel i and see which cases are still right, A_i; mask j, A_j. Of N cases

    n10 = #(A_i and not A_j)      n01 = #(not A_i and A_j)      r = min(n10, n01) / max(n10, n01), 1 where both are 0

As published, a pair merges when r >= .8, and the channel with the larger share n / N is kept. But a large n10 means that cases are right
*without* i and wrong without j: it is j that the network needs, so that rule keeps the wrong one. And a ratio of two small counts says
little. Example: of 1000 cases masking i loses 2 and masking j loses 1, so n01 = 2, n10 = 1 and r = .5: not alike, as published. Yet a fair
coin gives 2 to 1 or more in every toss of three: p = 1. With 20 and 10 r is the same and p = .10; with 40 and 20 p = .014.

So the sound form of the rule is an exact McNemar test: if both channels are equally needed, the discordant cases are tosses of a fair coin.

"Right" means: the class that the original predicts. No label is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from optimize.candidate import Candidate, Floats, Reference
from optimize.data.output_meaning import of_two_classes
from optimize.errors import InputError
from optimize.graph.surgery import mask_channels
from optimize.graph.trace import ChannelGroup, Index
from optimize.progress import track


@dataclass(frozen=True)
class Paired:
    """Cases on which masking channel i and masking channel j differ.

    Args:
        n10: number of cases that are right with i masked and wrong with j masked.
        n01: number of cases that are wrong with i masked and right with j masked.
        cases: number of cases that were looked at.
    """

    n10: int
    n01: int
    cases: int


def ratio(paired: Paired) -> float:
    """Return the published r, in [0, 1]: 1 where as many cases are right under one masking alone as under the other alone."""
    low, high = sorted((paired.n10, paired.n01))
    return low / high if high else 1.0


def mcnemar(paired: Paired) -> float:
    """Return the exact two-sided p-value of "both channels are needed equally" (McNemar 1947; binomial on the discordant cases)."""
    from scipy.stats import binomtest

    discordant = paired.n10 + paired.n01
    return float(binomtest(paired.n10, discordant).pvalue) if discordant else 1.0


def paired_outcomes(
    candidate: Candidate, reference: Reference, group: ChannelGroup, pairs: Sequence[tuple[int, int]], inputs: Floats | None = None
) -> list[npt.NDArray[np.int8]]:
    """Return for each pair (i, j) an int8 per case: +1 right with i masked only, -1 right with j masked only, else 0.

    The network runs once for each channel that occurs in a pair.

    Args:
        candidate: the network to mask channels in.
        reference: its original says what is right, for each position of dense outputs.
        group: group of the candidate's channels.
        pairs: channels to compare.
        inputs: (N, C, *spatial); None for all calibration inputs.
    """
    inputs = reference.calibration if inputs is None else inputs
    meaning = reference.original.outputs
    if meaning == "values":
        raise InputError("`importance`: this signal is for classes, and the network gives numbers: take 'output_error'.")
    truth = of_two_classes(reference.original.predict(inputs), meaning).argmax(1)
    correct: dict[int, npt.NDArray[np.bool_]] = {}
    for channel in track(sorted({channel for pair in pairs for channel in pair}), f"mask channels of {group.name}"):
        masked = Candidate(masked_channel(candidate.module, group, channel), candidate.example)
        correct[channel] = of_two_classes(masked.predict(inputs), meaning).argmax(1) == truth
    return [(correct[i].astype(np.int8) - correct[j].astype(np.int8)).ravel() for i, j in pairs]


def masked_channel(module: nn.Module, group: ChannelGroup, channel: int) -> nn.Module:
    """Return a copy of the network in which no layer reads the channel."""
    return mask_channels(module, group, np.array([channel]))


def least_certain(outputs: Floats, per_class: int = 512) -> Index:
    """Return the published active set: of every predicted class the cases with the smallest lead over the runner-up, in order.

    Args:
        outputs: outputs of the original, (N, K) with K at least 2.
        per_class: largest number of cases of each class.
    """
    two = np.sort(outputs, axis=1)[:, -2:]
    # outputs (3.0, 2.9, 0.1) lead by .1 and are less certain than (1.0, 0.2, 0.1), which lead by .8
    lead, classes = two[:, 1] - two[:, 0], outputs.argmax(1)
    ranked = [np.flatnonzero(classes == label)[np.argsort(lead[classes == label], kind="stable")] for label in np.unique(classes)]
    return np.sort(np.concatenate([cases[:per_class] for cases in ranked]))
