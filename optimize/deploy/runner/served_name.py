"""The name under which a model is served: part of an address, and of a folder's name in a model repository."""

from __future__ import annotations

import re


def served_name(name: str) -> str:
    """Return a model's name without the ending of its file, of ASCII letters, digits, "_", "-" and "." only.

    Args:
        name: name of the model's file, such as "cells.pt".

    Example:
        >>> served_name("cells.pt"), served_name("Zellen v2 (neu).onnx"), served_name("a/b.pt"), served_name("…")
        ('cells', 'Zellen_v2_neu', 'a_b', 'model')
    """
    stem = name.rpartition(".")[0] or name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("._-") or "model"
