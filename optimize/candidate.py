"""The one value that flows: an immutable model with the steps that made it.

Load gives a `Candidate`; every step is a function from (Candidate, Reference) to a new Candidate; nothing is changed in place,
so a refused proposal is simply dropped.
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
"""(N, C, *spatial) float32 -> (N, K) or (N, K, *spatial) float32: what every runtime offers."""
Meaning: TypeAlias = Literal["logits", "probabilities"]
"""What a network's outputs are: logits, or probabilities after a softmax or a sigmoid of its own (`data/output_meaning.py`)."""


def parameters(module: nn.Module) -> int:
    """Number of a network's parameters; a tensor used twice counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


class Step(Protocol):
    """A frozen dataclass that is called; its fields are its settings. It never changes what it is given.

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
        example: one input, (1, C, *spatial) float32, a calibration image or noise and never a constant; fixes every shape but the batch.
        lineage: the steps that led here, oldest first; empty for the original.
        kept: layer -> which of the original's output channels it still makes, in order; a layer not named still makes them all.
        outputs: what the network's outputs mean.
        notes: what was decided when it was loaded; empty for what steps made.

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
        """Run the network eagerly on the CPU, (N, C, *spatial) -> (N, K, ...), in batches of 256."""
        with torch.inference_mode():
            parts = [self.module(chunk.clone()) for chunk in torch.split(torch.from_numpy(np.ascontiguousarray(inputs)), 256)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def after(self, step: Step, module: nn.Module, kept: Mapping[str, npt.NDArray[np.int64]] | None = None) -> Candidate:
        """The candidate that `step` made of this one."""
        return replace(self, module=module.eval(), lineage=(*self.lineage, step), kept=self.kept if kept is None else kept, notes=())

    @property
    def parameters(self) -> int:
        """Number of parameters; a tensor used twice counts once."""
        return parameters(self.module)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and bytes of the state dict."""
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Labelled:
    """What recovery training learns from.

    Args:
        inputs: from indices to the network's inputs, (n, C, *spatial) float32; called for one batch at a time.
        labels: whole numbers: a class each, (N,), or masks, (N, *spatial) or (N, K, *spatial).
        patients: id per item, (N,), or None; a patient's items are never both trained on and held out.
    """

    inputs: Callable[[npt.NDArray[np.int64]], Floats]
    labels: npt.NDArray[Any]
    patients: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a step may look at: the original, unlabelled inputs to measure it on, and what to train on where that is allowed.

    Args:
        original: the model as it was loaded; every target of a repair comes from it.
        calibration: inputs, (N, C, *spatial) float32, ready for the network. No labels: repair needs none.
        seed: of everything a step draws at random.
        train: labelled items for recovery training; None where nothing may be trained.
        scratch: folder in which a long step keeps what it needs to continue after an interruption; None for nowhere.
        unseen: further inputs, (M, C, *spatial), that no step is fitted on, to measure on; None where there are none to spare.

    Attributes:
        memory: what steps have found out about the original on these inputs, and the last training, so that neither need be done again; it
            changes no result.

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
