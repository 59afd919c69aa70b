"""A safetensors file: named tensors, and nothing that could run."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

NAMED = "safetensors"


def recognises(path: Path, head: bytes) -> bool:
    """Return whether a header in JSON follows the eight bytes of its length."""
    return head[8:9] == b"{" and head[9:10] in b'"} \n'


def read(path: Path, *, trust_pickle: bool, code: Path) -> dict[str, torch.Tensor]:
    """Return the tensors, tied ones under each of their names: `save_model` writes one of them, and the other names into the metadata."""
    tensors: dict[str, torch.Tensor] = load_file(path)
    with safe_open(path, framework="pt") as file:
        tied = dict(file.metadata() or {})
    return tensors | {name: tensors[stored] for name, stored in tied.items() if stored in tensors and name not in tensors}
