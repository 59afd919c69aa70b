"""Programs in torch's own formats, written as ONNX in a temporary folder and rebuilt from there: one way for all kinds of file."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from optimize.errors import InputError
from optimize.loading.factory import describe
from optimize.loading.model_formats import ShapedNetwork


def rebuilt_from_onnx(name: str | Path, write: Callable[[Path], None], input_shape: Sequence[int]) -> ShapedNetwork:
    """Return the network of a program, by its ONNX file.

    Args:
        name: the program, for errors and notes.
        write: function that writes the program as ONNX to a path, and may raise whatever torch raises.
        input_shape: (C, *spatial) for sizes that the program leaves open.

    Raises:
        InputError: when it cannot be written as ONNX, or that cannot be read.
    """
    from optimize.loading.onnx_network import read_onnx  # late: it needs onnx, and other formats do not

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on deprecated calls inside torch
                write(path)
        except Exception as problem:  # operators without a form in ONNX, and those of a library that is not here
            raise InputError(
                f"`model` (={name}) cannot be rebuilt ({describe(problem)[:200]}): save model.state_dict() with torch.save and pass "
                "--arch file.py:factory."
            ) from problem
        try:
            return read_onnx(path, input_shape)
        except InputError as problem:
            # the temporary file means nothing to the user
            raise InputError(str(problem).replace(str(path), str(name))) from problem


def script_network(script: Any, name: str | Path, input_shape: Sequence[int]) -> ShapedNetwork:
    """Return the network of a TorchScript module, traced or scripted.

    Args:
        script: the module, which is not changed but put in eval mode.
        name: the module, for errors and notes.
        input_shape: (C, *spatial).

    Raises:
        InputError: when no shape is given, or it cannot be rebuilt.
    """
    if not input_shape:
        raise InputError(f"`--input` is missing: `model` (={name}) is TorchScript, which does not say it: pass --input C,H,W.")
    inputs = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))

    def write(path: Path) -> None:
        torch.onnx.export(
            script.cpu().float().eval(),
            (inputs,),
            str(path),
            dynamo=False,  # the other exporter does not take TorchScript
            opset_version=18,
            input_names=["input"],
            dynamic_axes={"input": {0: "batch"}},
            # batch norms stay layers of their own, whose channels can be scored
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )

    return rebuilt_from_onnx(name, write, input_shape)
