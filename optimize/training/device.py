"""Device, precision and memory layout of training, and how it gives the same bytes each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import nn

from optimize.hardware.machine import instruction_sets

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16")


def device() -> torch.device:
    """Return the current GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def autocast(where: torch.device, precision: Precision) -> torch.autocast:
    """Return the context to call a network in; "auto" is bfloat16 where the machine computes it natively: emulated, it is slower."""
    half = precision == "bfloat16" or (precision == "auto" and native_bfloat16(where))
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=half)


def native_bfloat16(where: torch.device) -> bool:
    """Return whether a device has instructions that multiply bfloat16."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(instruction_sets())


def channels_last(module: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Return the module with channels last in memory, the layout that most kernels of convolutions compute in.

    It stays contiguous where it does not run with channels last: a `view` that flattens positions needs them to be last.

    Args:
        module: network, changed in place; it is called once in the mode it is in.
        inputs: some inputs, (N, C, *spatial).
    """
    # channels last is a layout of 2D maps only
    if inputs.dim() != 4:
        return module
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with torch.no_grad():
            module(inputs.clone())
    except RuntimeError:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return module


@contextmanager
def reproducible(where: torch.device) -> Iterator[None]:
    """Let the block run with kernels that give the same bytes each time only, and with random numbers of its own.

    On the CPU the bytes still depend on the number of threads.
    """
    enabled, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    gpu = [where] if where.type == "cuda" else []
    if gpu:
        # cuBLAS reads it once, when it is first used, and is not reproducible without
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(gpu):
        # some layers have no such kernel: those are warned about, not refused
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
