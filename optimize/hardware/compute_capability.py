"""Compute capabilities of NVIDIA GPUs that an engine can be compiled for without having one."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.errors import InputError

CURRENT = "current"
"""Stands for the GPU of the machine that compiles."""

SUPPORTED = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Capabilities that TensorRT for RTX 1.7 has kernels for; 9.0 is not among them."""

DEFAULT = ("8.0", "8.6", "8.9", "12.0")
"""Capabilities to compile for when none is named: Ampere, Ada and Blackwell have bf16, int8 and f16 in their tensor cores."""

BF16_FROM = (8, 0)


def ordered(capabilities: Sequence[str], name: str = "compute_capability") -> tuple[str, ...]:
    """Return the capabilities, lowest first, each once.

    Args:
        capabilities: compute capabilities, such as ("8.6", "12.0"), or ("current",).
        name: name of the setting, for errors.

    Raises:
        InputError: when one is not in `SUPPORTED`, or "current" does not stand alone.
    """
    asked = tuple(capability.strip() for capability in capabilities)
    if asked == (CURRENT,):
        return asked
    if unknown := [capability for capability in asked if capability not in SUPPORTED]:
        raise InputError(f"`{name}` (={unknown[0]!r}) must be some of {', '.join(SUPPORTED)}, or {CURRENT!r} alone for this machine's GPU.")
    return tuple(capability for capability in SUPPORTED if capability in asked)


def has_bf16(capability: str) -> bool:
    """Return whether a GPU computes in bf16."""
    major, _, minor = capability.partition(".")
    return (int(major), int(minor or 0)) >= BF16_FROM
