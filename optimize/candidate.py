"""The value that every part passes on: an immutable model with the steps that made it.

Loading returns a `Candidate`. Every step is a function from (Candidate, Reference) to a new Candidate. Nothing is changed in place, so a
refused proposal is dropped and leaves no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Floats: TypeAlias = npt.NDArray[np.float32]
Predict: TypeAlias = Callable[[Floats], Floats]
"""A function from inputs (N, C, *spatial) float32 to outputs (N, K) or (N, K, *spatial) float32; every runtime has one."""
Meaning: TypeAlias = Literal["logits", "probabilities", "label logits", "label probabilities", "values"]
"""What a network's outputs are: logits, or probabilities after a softmax or a sigmoid of its own (`data/output_meaning.py`).

Outputs of several labels at once, each a yes or no of its own, are "label logits" and "label probabilities"; numbers are "values".
"""
CASES_AT_ONCE, VALUES_AT_ONCE = 256, 1 << 23
"""Inputs of a batch, and values of them: 55 images of 3 x 224 x 224, whose maps in a ResNet50 would else take gigabytes."""


def parameters(module: nn.Module) -> int:
    """Return the number of a network's parameters; a tensor that is used twice counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


class Step(Protocol):
    """A transformation of a candidate: a frozen dataclass that is called, with its settings as fields. It never changes its arguments.

    Attributes:
        TRAINS: whether it learns from labelled images of train: such a step's result cannot be checked on those images.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    TRAINS: ClassVar[bool]

    def __call__(self, candidate: Candidate, reference: Reference) -> Candidate:
        """Return the new candidate."""
        ...


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model on its way to the target.

    Args:
        module: the network, in eval mode; owned by the candidate and never changed.
        example: one input, (1, C, *spatial) float32: a calibration image or noise, never a constant. It sets every size but the batch.
        lineage: the steps that made this candidate, oldest first; empty for the original.
        kept: layer -> indices of the original's output channels that it still makes, in order; a layer that is not named makes all.
        outputs: meaning of the network's outputs, "logits" or "probabilities".
        notes: sentences on choices made at loading; empty for a candidate that a step made.

    Raises:
        ValueError: when the module is in training mode, or `example` holds another number of inputs than one.

    Example:
        >>> candidate = Candidate(nn.Linear(4, 2).eval(), torch.ones(1, 4))
        >>> candidate.parameters, candidate.predict(np.ones((3, 4), np.float32)).shape
        (10, (3, 2))
    """

    module: nn.Module
    example: torch.Tensor
    lineage: tuple[Step, ...] = ()
    kept: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    outputs: Meaning = "logits"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.module.training:
            raise ValueError("`module` must be in eval mode: call module.eval() before making a Candidate of it.")
        if self.example.shape[:1] != (1,):
            raise ValueError(f"`example` (shape {tuple(self.example.shape)}) must hold exactly one input: (1, C, *spatial).")

    def predict(self, inputs: Floats) -> Floats:
        """Run the network eagerly on the CPU, in batches of 256, or of fewer large inputs.

        Args:
            inputs: network inputs, (N, C, *spatial) float32.

        Returns:
            (N, K) or (N, K, *spatial) float32.
        """
        size = max(1, min(CASES_AT_ONCE, VALUES_AT_ONCE // max(1, inputs[:1].size)))
        # each chunk is cloned, so that a network that writes into its input cannot change the caller's array
        with torch.inference_mode():
            parts = [self.module(chunk.clone()) for chunk in torch.split(torch.from_numpy(np.ascontiguousarray(inputs)), size)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def after(self, step: Step, module: nn.Module, kept: Mapping[str, npt.NDArray[np.int64]] | None = None) -> Candidate:
        """Return the candidate that `step` made of this one.

        Args:
            step: the step, for the lineage.
            module: the new network.
            kept: the new `kept`; None where the channels are the same.
        """
        return replace(self, module=module.eval(), lineage=(*self.lineage, step), kept=self.kept if kept is None else kept, notes=())

    @property
    def parameters(self) -> int:
        """Number of parameters; a tensor used twice counts once."""
        return parameters(self.module)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes, types and bytes of the state dict, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images for recovery training.

    Args:
        inputs: function from indices, (n,), to the network's inputs, (n, C, *spatial) float32; called for one batch at a time.
        labels: whole numbers: one class per item, (N,), or masks, (N, *spatial) or (N, K, *spatial).
        patients: patient id of each item, (N,), or None. Items of one patient are never both trained on and held out.
    """

    inputs: Callable[[npt.NDArray[np.int64]], Floats]
    labels: npt.NDArray[Any]
    patients: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Reference:
    """The data that a step may use: the original, unlabelled inputs, and labelled images where training is allowed.

    Args:
        original: the model as it was loaded; repairs are fitted to its outputs.
        calibration: network inputs, (N, C, *spatial) float32. Repair needs no labels.
        seed: seed of everything that a step samples at random.
        train: labelled items for recovery training; None where nothing may be trained.
        scratch: folder where a long step keeps its state, to continue after an interruption; None for no such folder.
        unseen: further inputs, (M, C, *spatial) float32, for measurements; no step is fitted on them. None where too few are left.

    Attributes:
        memory: cache of what steps computed of the original on these inputs, and of the last training. It changes no result.

    Example:
        >>> original = Candidate(nn.Linear(4, 2).eval(), torch.ones(1, 4))
        >>> Reference(original, calibration=np.ones((8, 4), np.float32)).train is None
        True
    """

    original: Candidate
    calibration: Floats
    seed: int = 0
    train: Labelled | None = None
    scratch: Path | None = None
    unseen: Floats | None = None
    memory: dict[Any, Any] = field(init=False, default_factory=dict, repr=False)
