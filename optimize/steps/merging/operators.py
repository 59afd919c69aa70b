"""Merge operators: what is left in the place of channels that go.

An operator is two answers: what each kept channel computes from now on, and how much of it the readers take on behalf of the channels that
go, as a matrix R (kept channel m, any channel n), so that a reader's columns become  U'_m = sum_n R_mn U_n.

    operator          the kept channel computes                               R
    drop              what it did                                             the identity
    average           the mean of its family's filters, biases and norms      the identity, as published: the others' columns are lost
    average-add       the same                                                members of the family 1
    medoid            what the family's most central channel did              members of the family 1
    crossover-sgd     a filter trained to the family's maximum, as published  the identity, as published
    crossover         the filter nearest to a target of the family            the scale that fits each member best, reader by reader
    fold              a centroid of k-means, norm folded in, its variance     members of its cluster 1
    neuron-merging    what it did                                             scale of each removed filter against its nearest kept one

A family is a kept channel and the removed ones most like it (`steps/merging/pairing.py`); fold and neuron-merging pair by filters instead,
as their authors do, among the same kept channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from optimize.candidate import Reference
from optimize.graph.layer_types import groups, linear_submodule
from optimize.graph.surgery import with_tensors
from optimize.graph.trace import ChannelGroup, Index, Slot
from optimize.progress import note
from optimize.reconstruction.layer_matrix import columns, matrix, weight_from
from optimize.reconstruction.layer_matrix import unrepairable_reason as no_closed_form
from optimize.reconstruction.layer_repair import RIDGE, ROWS
from optimize.reconstruction.moments import WIDEST
from optimize.steps.merging.crossover import Target, by_gradient, closed_form, sample_inputs, sample_rows, scales
from optimize.steps.merging.folding import ProducerLayer, compensate, fold

Operator: TypeAlias = Literal["drop", "average", "average-add", "medoid", "crossover-sgd", "crossover", "fold", "neuron-merging"]
Likeness: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MergeOperator:
    """Let kept channels stand for others; nothing is cut yet.

    A group whose channels several layers make or scale, or whose producer is no plain convolution or linear layer, is dropped from whatever
    the operator (`fallback` says why).

    Args:
        operator: name of the operator, see the module's table.
        target: aim of "crossover", see `crossover.py`.
        rows: sampled positions for each fit.
        ridge: strength of the pull to the present weights, see `Repair`.
    """

    operator: Operator
    target: Target = "max"
    rows: int = ROWS
    ridge: float = RIDGE

    def __call__(
        self,
        module: nn.Module,
        group: ChannelGroup,
        norms: Mapping[str, str],
        merge_into: Index,
        reference: Reference,
        likeness: Likeness | None = None,
    ) -> nn.Module:
        """Return the network in which the readers of every channel read the kept channel that stands for it.

        Args:
            module: the network.
            group: the channels.
            norms: `Graph.norms`.
            merge_into: (size,) the kept channel that stands for each channel; a kept one stands for itself.
            reference: the inputs a fit looks at.
            likeness: (size, size), from which "medoid" finds a family's most central channel; None takes the kept channel.
        """
        if self.operator == "drop":
            return module
        # a reason in place of a layer: these channels are dropped, so that a comparison of operators removes the same ones everywhere
        producer = _producer(group, module, norms, self.operator, self.target)
        if isinstance(producer, str):
            note(f"{group.name}: dropped, not merged: {producer}")
            return module
        if self.operator == "average":
            return producer.mixed(_mean(_members(merge_into)))
        if self.operator == "crossover-sgd":
            return by_gradient(producer, merge_into, reference.calibration)
        if self.operator == "neuron-merging":
            return _read_for_all(module, group, compensate(producer, np.unique(merge_into)))
        if self.operator == "average-add":
            return _read_for_all(producer.mixed(_mean(_members(merge_into))), group, _members(merge_into))
        if self.operator == "medoid":
            return _read_for_all(producer.mixed(_medoids(_members(merge_into), likeness)), group, _members(merge_into))
        # "fold" and "crossover" need the moments of what the layer reads, which cost a pass over the inputs
        reading = sample_inputs(module, producer.name, reference.calibration, rows=self.rows, seed=reference.seed)
        if self.operator == "fold":
            module, merge_into = fold(producer, np.unique(merge_into), reading.mean, reading.gram)
            return _read_for_all(module, group, _members(merge_into))
        crossed = closed_form(producer, merge_into, reading, target=self.target, ridge=self.ridge)
        return self._scaled(module, crossed, group, merge_into, reference)

    def _scaled(self, unmerged: nn.Module, merged: nn.Module, group: ChannelGroup, merge_into: Index, reference: Reference) -> nn.Module:
        """Return the merged network whose readers take each kept channel times the scale that gives best what they read before."""
        made = merged
        for slot in group.consumers:
            old, new = (
                sample_rows(network, slot.module, reference.calibration, rows=self.rows, seed=reference.seed)
                for network in (unmerged, merged)
            )
            # each reader has a scale of its own: behind a pooling or an activation, channels relate to each other in another way
            scale = scales(old, new, columns(linear_submodule(merged, slot.module), slot.index), merge_into)
            made = _read_for_others(made, slot, _members(merge_into) * scale)
        return made


def fallback(group: ChannelGroup, module: nn.Module, norms: Mapping[str, str], operator: Operator, target: Target = "max") -> str | None:
    """Return why the operator cannot merge these channels and they are dropped; None where it can, and for "drop".

    Args:
        group: the channels.
        module: the network.
        norms: `Graph.norms`.
        operator: name of the operator, see `MergeOperator`.
        target: aim of "crossover", see `MergeOperator`.
    """
    producer = _producer(group, module, norms, operator, target)
    return producer if isinstance(producer, str) and operator != "drop" else None


def _producer(group: ChannelGroup, module: nn.Module, norms: Mapping[str, str], operator: Operator, target: Target) -> ProducerLayer | str:
    """Return the layer that makes the channels, or why the operator cannot work on it."""
    first, *further = [slot for slot in group.slots if slot.side == "out"]
    layer, norm = module.get_submodule(first.module), norms.get(first.module)
    why = no_closed_form(layer)
    if why is not None or getattr(layer, "transposed", False) or groups(layer) > 1:
        return f"{first.module}, which makes them, is not a plain convolution or linear layer"
    if [slot.module for slot in further] != ([] if norm is None else [norm]) or any(slot.index.shape[1] != 1 for slot in (first, *further)):
        return f"other layers make or scale them too: {', '.join(slot.module for slot in further)}"
    if operator in ("crossover", "fold") and len(matrix(linear_submodule(module, first.module))) > WIDEST:
        return f"{first.module}, which makes them, has more than the {WIDEST} columns that a gram matrix may have"
    folds = operator == "fold" or (operator == "crossover" and target == "post-activation")
    if folds and norm is not None and not getattr(module.get_submodule(norm), "affine", True):
        return f"{norm} has no slope and shift of its own to set"
    return ProducerLayer(module, first.module, norm, first.index[:, 0])


def _members(merge_into: Index) -> torch.Tensor:
    """Return a (size, size) matrix: 1 where channel m, the row, stands for channel n."""
    return torch.from_numpy((merge_into == np.arange(len(merge_into))[:, None]).astype(np.float64))


def _mean(reads: torch.Tensor) -> torch.Tensor:
    """Return a (size, size) mixture: each kept channel the mean of its family; rows of removed ones stay, and are cut."""
    members = reads.sum(1, keepdim=True)
    # Example: channel 0 stands for 0 and 2 of three: row 0 is (.5, 0, .5). Rows 1 and 2: channel 1 keeps itself; 2 stands for nobody, and
    # its row of the identity keeps it until it is cut.
    return torch.where(members > 0, reads / members.clamp_min(1), torch.eye(len(reads), dtype=reads.dtype))


def _medoids(reads: torch.Tensor, likeness: Likeness | None) -> torch.Tensor:
    """Return a (size, size) mixture: each kept channel the member of its family that is most like the rest of it; itself when in doubt."""
    mixture = torch.eye(len(reads), dtype=reads.dtype)
    if likeness is None:
        return mixture
    for k in torch.nonzero(reads.sum(1) > 1).flatten().tolist():
        family = np.concatenate([[k], np.setdiff1d(np.flatnonzero(reads[k].numpy()), [k])])
        # rounded, so that rounding errors do not decide between equals; the kept channel is first and wins a tie
        central = np.round(likeness[np.ix_(family, family)].mean(1), 9).argmax()
        mixture[k] = torch.nn.functional.one_hot(torch.tensor(family[central]), len(reads))
    return mixture


def _read_for_all(module: nn.Module, group: ChannelGroup, reads: torch.Tensor) -> nn.Module:
    """Return the network whose readers take each kept channel on behalf of others too."""
    for slot in group.consumers:
        module = _read_for_others(module, slot, reads)
    return module


def _read_for_others(module: nn.Module, slot: Slot, reads: torch.Tensor) -> nn.Module:
    """Return the network in which one reader has U' = R U over its channels."""
    layer = linear_submodule(module, slot.module)
    whole, owned = matrix(layer).clone(), columns(layer, slot.index)  # (p, m), (size, b)
    # whole[owned] is (size, b, m): the sum over channels n of R_mn U_n is one product of R with its first axis
    whole[owned] = torch.tensordot(reads, whole[owned], 1)
    return with_tensors(module, slot.module, weight=weight_from(layer, whole))
