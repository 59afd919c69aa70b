"""PyTorch eager on the CPU: the original, behind the same session, to be measured beside the compiled model.

It is no target: there is nothing to convert and no artifact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from optimize.backends import EAGER
from optimize.backends.session import Session

if TYPE_CHECKING:
    from optimize.candidate import Candidate, Floats

NAME = EAGER


def preflight() -> None:
    """Do nothing: PyTorch is always installed."""


def unavailable_reason() -> str | None:
    """Return None: what is compiled here runs here."""
    return None


def version() -> str:
    """Return the version of PyTorch."""
    return str(torch.__version__)


def precisions() -> tuple[str, ...]:
    """Return ("f32",)."""
    return ("f32",)


def build(candidate: Candidate, *, threads: int | None = None) -> Session:
    """Run the candidate's module as it is; `threads` holds for the whole process until the session is closed."""
    threads_before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    module = candidate.module

    def run(inputs: Floats) -> Floats:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(inputs)).numpy(), dtype=np.float32)

    return Session(tuple(candidate.example.shape[1:]), run, module, lambda: torch.set_num_threads(threads_before))


def inspect(session: Session) -> dict[str, str]:
    """Return "f32" for each module that has parameters of its own."""
    return {name: "f32" for name, module in session.handle.named_modules() if next(module.parameters(recurse=False), None) is not None}
