"""The group pruner of torch-pruning, the way its documentation uses it: what our own search is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.candidate import Candidate
from optimize.errors import OptimizeError
from optimize.graph.surgery import copy_module

SIGNALS = ("group norm", "BN scale")


def group_pruned(
    original: Candidate,
    ratio: float,
    keeps: Sequence[str],
    *,
    signal: str = "group norm",
    everywhere: bool = True,
    multiple: int | None = None,
) -> Candidate:
    """The network after one step of the group pruner; it has answered one input.

    Args:
        original: is not changed.
        ratio: share of channels to remove, 0..1.
        keeps: layers that stay as wide as they are.
        signal: what channels are ranked by, of `SIGNALS`.
        everywhere: rank the channels of all layers together, else those of each layer alone, so that each loses the same share.
        multiple: widths are rounded to multiples of this; None for any width.

    Raises:
        OptimizeError: when nothing was removed: the pruner does nothing, and says nothing, on networks that it cannot follow.
    """
    import torch_pruning as tp

    module = copy_module(original.module, share=False).requires_grad_(True)
    ranked = tp.importance.BNScaleImportance() if signal == "BN scale" else tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.MetaPruner(
        module,
        original.example,
        importance=ranked,
        global_pruning=everywhere,
        pruning_ratio=ratio,
        ignored_layers=[module.get_submodule(name) for name in keeps],
        round_to=multiple,
    )
    pruner.step()
    made = Candidate(module.requires_grad_(False).eval(), original.example)
    made.predict(original.example.numpy())
    if made.parameters >= original.parameters:
        raise OptimizeError(f"torch-pruning removed nothing at `ratio` (={ratio:g}): it does not follow this network.")
    return made
