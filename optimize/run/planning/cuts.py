"""Which channels of a network can be removed, and which are left alone, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from optimize.candidate import Candidate, Floats, parameters
from optimize.graph.channel_groups import ChannelGroup
from optimize.graph.trace import trace
from optimize.reconstruction.channel_removal import affected_layers, unprunable_reasons
from optimize.reconstruction.layer_repair import repairable


@dataclass(frozen=True, eq=False)
class Cuts:
    """Which channels can be removed.

    Args:
        groups: channels that can be removed together, in execution order.
        refused: (name of the channels, reason) of those that are left alone.
        layers: layers that can be repaired, in execution order.
        cut_parameters: parameters of the layers that hold removable channels.
        parameters: parameters of the whole network.
    """

    groups: tuple[ChannelGroup, ...]
    refused: tuple[tuple[str, str], ...]
    layers: tuple[str, ...]
    cut_parameters: int
    parameters: int

    @property
    def channels(self) -> int:
        """Number of removable channels."""
        return sum(group.size for group in self.groups)

    @property
    def left_alone(self) -> tuple[str, ...]:
        """Sentences on channels that cannot be removed, and why."""
        return tuple(f"channels of {name} were left alone: {reason}" for name, reason in self.refused)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan of cuts as plain JSON."""
        return {
            "groups": [{"name": group.name, "channels": group.size} for group in self.groups],
            "channels": self.channels,
            "left_alone": [{"name": name, "reason": reason} for name, reason in self.refused],
            "parameters": self.parameters,
            "parameters_of_cut_layers": self.cut_parameters,
        }


def cuts(candidate: Candidate, original: nn.Module, inputs: Floats) -> Cuts:
    """Return which channels of a candidate can be removed.

    Args:
        candidate: the network to look at.
        original: the network that repairs aim at; the candidate's own module for an original.
        inputs: at least two real inputs, (N, C, *spatial), on which a cut is tried.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)).eval()
        >>> removable = cuts(Candidate(net, torch.zeros(1, 1, 4, 4)), net, np.zeros((2, 1, 4, 4), np.float32))
        >>> removable.channels, [name for name, _ in removable.refused]
        (8, ['3'])
    """
    graph = trace(candidate)
    layers = repairable(candidate.module, original, graph)
    reasons = unprunable_reasons(graph.groups, candidate.module, layers, inputs)
    able = tuple(group for group, reason in zip(graph.groups, reasons, strict=True) if reason is None)
    refused = [(group.name, reason) for group, reason in zip(graph.groups, reasons, strict=True) if reason is not None]
    cut_parameters = sum(parameters(candidate.module.get_submodule(name)) for name in affected_layers(able))
    return Cuts(able, (*graph.fixed, *refused), tuple(layers), cut_parameters, candidate.parameters)
