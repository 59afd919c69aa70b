"""Which method suits which layer, and what it may save: a guess from the audit, to be judged by a run.

    remove      channels that it reads never vary: they can go at once
    merge       some of its filters are nearly the same as earlier ones
    low rank    few whitened singular values hold 99 % of what it makes: two thinner layers in a row
    prune       what it makes has few dimensions: fewer channels carry them, and the layers behind are refitted
    keep        none of these saves `WORTH` of its multiply-accumulates

The saving of each method is that of the layer's own multiply-accumulates. Pruning also makes the layers behind cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optimize.run.auditing.layers import LayerAudit

WORTH = 0.1
"""Share of a layer's multiply-accumulates below which no method is worth its trouble."""


@dataclass(frozen=True)
class Advice:
    """What suits one layer.

    Args:
        layer: name of the layer.
        method: "remove", "merge", "low rank", "prune" or "keep".
        saves: share of the layer's multiply-accumulates that it may save.
        why: the figures behind it, in a few words.
    """

    layer: str
    method: str
    saves: float
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"layer": self.layer, "method": self.method, "saves": self.saves, "why": self.why}


def advise(layer: LayerAudit) -> Advice:
    """Return the method that may save most of a layer."""
    if layer.unused_inputs is None:
        return Advice(layer.name, "keep", 0.0, layer.note)
    inputs, outputs, held = layer.inputs, layer.outputs, layer.dimensions[-1]
    ways = [
        Advice(layer.name, "remove", layer.unused_inputs / inputs, f"{layer.unused_inputs} of {inputs} channels never vary"),
        Advice(layer.name, "merge", layer.twins / outputs, f"{layer.twins} of {outputs} filters are like an earlier one"),
        _low_rank(layer),
        Advice(layer.name, "prune", 1 - held / outputs, f"{held} of {outputs} dimensions hold 99 %"),
    ]
    best = max(ways, key=lambda way: way.saves)
    if best.saves < WORTH:
        return Advice(layer.name, "keep", 0.0, "nothing saves much")
    return Advice(best.layer, best.method, min(1.0, best.saves), best.why)


def _low_rank(layer: LayerAudit) -> Advice:
    rank, weights = layer.whitened_ranks[-1], layer.weights
    # p x m weights become r (p + m), where p m is the number of weights
    columns = weights / layer.outputs
    saves = 1 - rank * (columns + layer.outputs) / weights
    return Advice(layer.name, "low rank", max(0.0, saves), f"rank {rank} of {min(int(columns), layer.outputs)} holds 99 % of what it makes")
