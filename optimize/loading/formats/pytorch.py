"""A file that `torch.save` wrote: a zip archive, or a bare pickle in the format from before PyTorch 1.6.

A pickle is a program. `torch.load(weights_only=True)` runs none of it and refuses whatever is not plain tensors and containers; only the
user's own word (`trust_pickle`) lifts that, and only for a file that was refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optimize.errors import InputError
from optimize.loading.factory import describe, user_code
from optimize.loading.foreign_files import PICKLE, SAVE_INSTEAD, ZIP, unsupported_zip_reason

NAMED = "PyTorch file (.pt, .pth)"

# Training scripts keep a numpy score, the state of numpy's generator or their arguments beside the weights: plain values that run nothing.
_SCALAR, _ARRAY = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
_HARMLESS: tuple[Any, ...] = (
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_ARRAY, "numpy.core.multiarray._reconstruct"),
    (_ARRAY, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "bool", "U1", "S1")),
    argparse.Namespace,
)


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file is a pickle, or a zip archive of `torch.save` that is no TorchScript and no exported program."""
    return head.startswith(PICKLE) or (head.startswith(ZIP) and unsupported_zip_reason(path) is None)


def read(path: Path, *, trust_pickle: bool, code: Path) -> object:
    """Return what was saved: weights by name, possibly nested beside other entries; with `trust_pickle` possibly a whole module.

    Raises:
        InputError: when the file is damaged, or would run something and is not trusted.
    """
    try:
        # An open file, not its path: torch.load would go by the suffix again.
        with path.open("rb") as file, torch.serialization.safe_globals(list(_HARMLESS)):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:
        refused = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|load of|but got <class) '?([\w.]+)", str(problem))
        # Whatever is no refusal of a name is a damaged file, and trusting its author would not mend it.
        if refused is None or not isinstance(problem, pickle.UnpicklingError):
            reason = describe(problem.__cause__ or problem).split(". ")[0]
            raise InputError(f"`model` (={path}) is damaged or no PyTorch file ({reason}): copy it again, or save it anew.") from problem
        if not trust_pickle:
            raise InputError(
                f"`model` (={path}) is a pickle that wants to run {refused[1]}, and a pickle can run anything: {SAVE_INSTEAD}, "
                "or pass --trust-pickle if you trust its author."
            ) from problem
    with path.open("rb") as file, user_code(code, f"`model` (={path}), loaded as a trusted pickle,"):
        return torch.load(file, map_location="cpu", weights_only=False)
