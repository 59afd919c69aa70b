"""The original in torch behind a session: as it is, and compiled by inductor."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch

from optimize.backends import torch as plain
from optimize.backends.session import Session
from optimize.candidate import Candidate, Floats
from optimize.errors import OptimizeError
from optimize.graph.surgery import copy_module
from optimize.hardware.machine import instruction_sets

EAGER, COMPILED = "torch", "torch.compile"
BATCH = 8
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def precision(target: str) -> str:
    """bf16 for what is compiled, where the machine has instructions for it; else f32."""
    return "bf16" if target == COMPILED and _BF16 & set(instruction_sets()) else "f32"


def build(candidate: Candidate, target: str) -> Session:
    """The candidate in torch, `EAGER` or `COMPILED`.

    Raises:
        OptimizeError: when inductor finds no C++ compiler.
    """
    return plain.build(candidate) if target == EAGER else _compiled(candidate)


def _compiled(candidate: Candidate) -> Session:
    """Compiled with its weights frozen in, once for one input and once for `BATCH`; other batches run in pieces, padded with zeros."""
    from torch._inductor import config, cpp_builder

    try:
        cpp_builder.get_cpp_compiler()
    except Exception as problem:
        raise OptimizeError("inductor finds no C++ compiler: install g++.") from problem
    module, bf16 = copy_module(candidate.module, share=False).eval(), precision(COMPILED) == "bf16"
    call = torch.compile(module, dynamic=False)
    held = ExitStack()
    held.callback(torch._dynamo.reset)
    held.enter_context(config.patch(freezing=True))  # for as long as the session is open: it would cost time in every call

    def run(inputs: Floats) -> Floats:
        return np.concatenate([_piece(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)])

    def _piece(inputs: Floats) -> Floats:
        whole = inputs
        if 1 < len(inputs) < BATCH:
            whole = np.concatenate([inputs, np.zeros((BATCH - len(inputs), *inputs.shape[1:]), dtype=np.float32)])
        # no_grad, since what was made in inference mode is not frozen.
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs: torch.Tensor = call(torch.from_numpy(whole))
        return np.asarray(outputs.float().numpy()[: len(inputs)], dtype=np.float32)

    return Session(tuple(candidate.example.shape[1:]), run, module, held.close)
