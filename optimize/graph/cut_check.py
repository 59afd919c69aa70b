"""A trial of cuts: the network itself is run with fewer channels, since a trace may be wrong.

Operations that mix channels (a softmax, a normalization), fixed shapes, and channels that are part of the output all show.

One group at a time, a network of L groups takes L copies and runs, and each run takes L layers. So all groups are tried at once, in two
trials. Errors of many cuts could hide behind each other, and with half of the channels of every layer a signal may not come through.
Therefore each layer is judged on its own: once its output was compared, it is replaced by what the original's layer gave, at the channels
that stay. What lies between two layers then sees real values, whatever was cut in front. Groups that fail are halved and tried again until
each is alone, and what a group alone gives is the answer.

Example: conv1 -> relu -> conv2 -> softmax over channels -> conv3. The group of conv1 is right: conv2 gives at its channels that stay what
it gives when it reads nothing from the cut ones. The group of conv2 is wrong: without half of the channels, the softmax gives the others
more, and conv3's output differs. conv3 reads the group of conv2 alone, so the group of conv1 passes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from optimize.graph.channel_groups import ChannelGroup, Index
from optimize.graph.layer_types import LINEAR_MAPS
from optimize.graph.surgery import copy_module, cut_groups_in_place, cut_in_place, lost_positions, mask_in_place

Outputs: TypeAlias = dict[str, list[torch.Tensor]]
"""Layer -> its output at every call."""

TOLERANCE = 1e-3
"""Largest deviation that counts as rounding, relative to a value and to the largest value."""
MAX_COUNTED_BITS = 20
"""Up to this size, the sets of channels that groups of one size keep are drawn without repetition; beyond, repetitions do not occur."""


def check_cut(module: nn.Module, group: ChannelGroup, inputs: torch.Tensor) -> str | None:
    """Return why cutting the group's channels differs from setting their readers' weights to zero; None where it does not.

    Args:
        module: the network.
        group: the channels to try.
        inputs: (N, C, *spatial), a few inputs.
    """
    # a regular cut and a random one: a regular one alone can pass by luck where channels are used in blocks
    for keep in (np.arange(0, group.size, 2), np.sort(np.random.default_rng(0).permutation(group.size)[: group.size // 2 + 1])):
        try:
            trial = copy_module(module)
            with torch.inference_mode():
                # what a correct cut must equal: the readers take nothing from these channels
                mask_in_place(trial, group, np.setdiff1d(np.arange(group.size), keep))
                expected = trial(inputs.clone())
                # the masked columns are those that the cut takes out, so the masked network can be cut in place of the network
                cut_in_place(trial, group, keep)
                actual = trial(inputs.clone())
        except Exception as problem:  # the user's forward, on shapes it may not expect: whatever it raises means "cannot be cut"
            return f"the network does not run with fewer channels ({type(problem).__name__})"
        if expected.shape != actual.shape:
            return "the channels are part of the network's output"
        if not _close(actual, expected):
            return "something mixes the channels"
    return None


def check_cuts(module: nn.Module, groups: Sequence[ChannelGroup], inputs: torch.Tensor) -> list[str | None]:
    """Return for every group what `check_cut` returns, in a number of runs that does not grow with the groups that can be cut.

    With k groups of L that cannot be cut, about k log2(L) further trials tell which.

    Args:
        module: the network.
        groups: groups of the network, as `trace` gives them.
        inputs: (N, C, *spatial), a few inputs.
    """
    reasons: dict[int, str | None] = dict.fromkeys(range(len(groups)))
    waiting = list(_batches(groups))
    original: Outputs = {}
    if any(len(batch) > 1 for batch in waiting):
        try:
            _run(module, inputs, _recorder(original))
        except Exception:  # a forward that the trial disturbs, whatever it raises: the groups are tried one by one
            return [check_cut(module, group, inputs) for group in groups]
    while waiting:
        batch = waiting.pop()
        suspects = batch
        if len(batch) > 1:
            places = _suspects(module, [groups[place] for place in batch], inputs, original)
            suspects = [batch[place] for place in places]
        if len(suspects) == 1:
            reasons[suspects[0]] = check_cut(module, groups[suspects[0]], inputs)
        elif suspects:
            waiting += [suspects[: len(suspects) // 2], suspects[len(suspects) // 2 :]]
    return list(reasons.values())


def _batches(groups: Sequence[ChannelGroup]) -> Iterator[list[int]]:
    """Yield the numbers of groups that are tried together: so few of each size that all can keep different channels.

    Example: a group of 3 channels can keep 6 different sets of them, some but not all. Of 10 such groups, 6 make one batch and 4 the next.
    A sum that the trace has missed would go unnoticed if both its operands kept the same channels.
    """
    batches: dict[int, list[int]] = {}
    counts: dict[int, int] = {}
    for place, group in enumerate(groups):
        # a single channel always stays, so there is nothing to try
        if group.size > 1:
            batches.setdefault(counts.get(group.size, 0) // _choices(group.size), []).append(place)
            counts[group.size] = counts.get(group.size, 0) + 1
    yield from batches.values()


def _choices(size: int) -> int:
    """Return in how many ways some of the channels can stay, but not all; for large groups a number that is large enough."""
    return (1 << min(size, MAX_COUNTED_BITS)) - 2


def _samples(groups: Sequence[ChannelGroup], random: np.random.Generator) -> list[Index]:
    """Return for each group a random set of channels to keep, about half of them; groups of one size keep different sets."""
    sets: dict[int, Iterator[Any]] = {}
    for size in {group.size for group in groups}:
        count = sum(group.size == size for group in groups)
        # as a number whose bits say which of the first channels stay: from 1 (the first alone) to 2^size - 2 (all but the first)
        sets[size] = iter(random.choice(_choices(size), count, replace=False) + 1)
    keeps = []
    for group in groups:
        bits = (next(sets[group.size]) >> np.arange(min(group.size, MAX_COUNTED_BITS))) & 1
        further = random.integers(0, 2, group.size - len(bits))
        keeps.append(np.flatnonzero(np.concatenate([bits, further])))
    return keeps


def _suspects(module: nn.Module, groups: Sequence[ChannelGroup], inputs: torch.Tensor, original: Outputs) -> list[int]:
    """Return the numbers of the groups that may not be cut; groups that are not among them may.

    Args:
        module: the network.
        groups: groups to cut together.
        inputs: (N, C, *spatial), a few inputs.
        original: outputs of the network's layers.
    """
    random = np.random.default_rng(0)
    differing: set[str] = set()
    for _ in range(2):
        cuts = list(zip(groups, _samples(groups, random), strict=True))
        try:
            # two copies: what the forward stores for itself must be of one width
            masked, cut = copy_module(module), copy_module(module)
            with torch.inference_mode():
                for group, keep in cuts:
                    mask_in_place(masked, group, np.setdiff1d(np.arange(group.size), keep))
                cut_groups_in_place(cut, cuts)
            expected: Outputs = {}
            lost = {name: positions for (name, side), positions in lost_positions(cuts).items() if side == "out"}
            whole = _run(masked, inputs, _recorder(expected, original))
            left = _run(cut, inputs, _comparer(expected, original, lost, differing))
        except Exception:  # as in `check_cut`; which group it was shows only when they are tried apart
            return list(range(len(groups)))
        # a call less than expected, or an output that differs: both are nobody's in particular
        if any(expected.values()) or not _close(left, whole):
            return list(range(len(groups)))
    return [place for place, group in enumerate(groups) if any(slot.module in differing for slot in group.slots)]


Replace: TypeAlias = Callable[[str, nn.Module, int, torch.Tensor], torch.Tensor]
"""(layer's name, the layer, number of the call, its output) -> the output to go on with."""


def _run(module: nn.Module, inputs: torch.Tensor, replace: Replace) -> torch.Tensor:
    """Return the network's outputs when every linear layer's output is replaced."""
    calls: dict[str, int] = {}

    def hook_of(name: str) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor]:
        def hook(layer: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
            number = calls[name] = calls.get(name, -1) + 1
            return replace(name, layer, number, output)

        return hook

    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LINEAR_MAPS)]
    # in front of the user's own hooks, which may give the output another form
    handles = [layer.register_forward_hook(hook_of(name), prepend=True) for name, layer in layers]
    try:
        with torch.inference_mode():
            result: torch.Tensor = module(inputs.clone())
    finally:
        for handle in handles:
            handle.remove()
    return result


def _recorder(outputs: Outputs, original: Outputs | None = None) -> Replace:
    """Return a function that adds each output to `outputs` and goes on with the original's, or where there is none with the output."""

    def record(name: str, _: nn.Module, number: int, output: torch.Tensor) -> torch.Tensor:
        outputs.setdefault(name, []).append(output.clone())  # a later operation may work in place
        return output if original is None else original[name][number].clone()

    return record


def _comparer(expected: Outputs, original: Outputs, lost: Mapping[str, Index], differing: set[str]) -> Replace:
    """Return a function that compares each output, and goes on with the original's at the channels that stay.

    Args:
        expected: outputs at full width; what was compared is dropped.
        original: outputs of the original's layers.
        lost: layer -> outputs that were cut.
        differing: the names of layers that differ are added to it.
    """

    def compare(name: str, layer: nn.Module, number: int, output: torch.Tensor) -> torch.Tensor:
        axis = -1 if isinstance(layer, nn.Linear) else output.dim() - len(layer.kernel_size) - 1  # type: ignore[arg-type]
        width = original[name][number].shape[axis]
        stay = torch.from_numpy(np.delete(np.arange(width), lost.get(name, np.empty(0, dtype=np.int64))))
        if not _close(output, expected[name].pop(0).index_select(axis, stay)):
            differing.add(name)
        return original[name][number].index_select(axis, stay)

    return compare


def _close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two tensors are equal up to rounding."""
    if actual.shape != expected.shape:
        return False
    return torch.allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE * float(expected.abs().max()))
