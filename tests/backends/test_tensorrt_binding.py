"""What an engine is bound to, and what the inspector tells of it: texts and tables, no TensorRT and no GPU."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from optimize.backends.tensorrt_common import binding, timings
from optimize.backends.tensorrt_common.binding import Device, built_on, device, mismatches
from optimize.backends.tensorrt_common.layers import EngineLayer, layers
from optimize.hardware.gpu import Gpu

ADA = Device("NVIDIA RTX 4090", "8.9", "580.65.06")
BUILT = {"flavour": "tensorrt-rtx", "version": "1.7", "compute_capabilities": "8.6, 8.9", "driver": "none", "gpu": "none"}


def seen(monkeypatch: pytest.MonkeyPatch, *devices: dict[str, str]) -> None:
    monkeypatch.setattr(binding, "gpu", lambda: Gpu(devices, "" if devices else "no NVIDIA GPU or driver found"))


def test_built_without_a_gpu() -> None:
    assert built_on("tensorrt-rtx", "1.7", ("8.6", "8.9"), None) == BUILT
    assert built_on("tensorrt", "10.1", ("8.9",), ADA)["driver"] == "580.65.06"
    assert built_on("tensorrt", "10.1", ("8.9",), ADA)["gpu"] == "NVIDIA RTX 4090"


@pytest.mark.parametrize(
    ("change", "version", "reason"),
    [
        ({}, "1.7", None),
        ({"driver": "580.65.06"}, "1.7", None),
        ({"driver": "570.100"}, "1.7", None),
        ({"driver": "580.65.10"}, "1.7", "the engine was built under driver 580.65.10, here is the older 580.65.06"),
        ({}, "1.8", "the engine was built by version 1.7, here is 1.8"),
        (
            {"compute_capabilities": "8.0, 12.0"},
            "1.7",
            "the engine is for compute capability 8.0, 12.0, here is 8.9 (NVIDIA RTX 4090)",
        ),
    ],
)
def test_a_mismatch_names_both_sides(change: dict[str, str], version: str, reason: str | None) -> None:
    assert mismatches(BUILT | change, version, ADA) == (() if reason is None else (reason,))


def test_a_manifest_that_says_nothing_fits_nothing() -> None:
    assert len(mismatches({}, "1.7", ADA)) == 2


def test_the_gpu_is_the_one_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi lists the hidden ones too; where torch has no CUDA, its first is all there is to go by."""
    seen(monkeypatch)
    assert device() is None
    seen(monkeypatch, {"name": "NVIDIA H100", "compute_capability": "9.0", "driver": "580.65.06", "memory_mib": "1"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == Device("NVIDIA H100", "9.0", "580.65.06")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="NVIDIA RTX 4090", major=8, minor=9))
    assert device() == ADA


def told(*each: Any) -> str:
    return json.dumps({"Layers": each, "Bindings": ["input", "output"]})


def layer(name: str, kind: str, given: str, **more: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": [{"Name": "t", "Format/Datatype": given}], "Outputs": [], **more}


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("Half", "f16"),
        ("BFloat16", "bf16"),
        ("Int8", "int8"),
        ("Float", "f32"),
        ("Row major linear FP16 format (kLINEAR)", "f16"),
        ("Row major linear BF16 format (kLINEAR)", "bf16"),
        ("Thirty-two wide channel vectorized row major INT8 format (kCHW32)", "int8"),
        ("Row major linear FP32", "f32"),
    ],
)
def test_each_way_of_writing_a_format_is_read(text: str, precision: str) -> None:
    assert layers(told(layer("conv", "CaskConvolution", text))) == {"conv": EngineLayer("conv", precision)}


def test_layers_are_named_after_the_first_onnx_node_in_them() -> None:
    fused = "[ONNX Layer: input_QuantizeLinear]\u001e[ONNX Layer: body]\u001e[ONNX Layer: node_relu]"
    assert layers(told(layer("__myl_Conv_0", "kgen", "Int8", Metadata=fused))) == {"__myl_Conv_0": EngineLayer("body", "int8")}
    only = "[ONNX Layer: cast_input]"
    assert layers(told(layer("k", "kgen", "Half", Metadata=only)))["k"].name == "cast_input"


def test_the_first_input_with_a_known_type_counts() -> None:
    given = [{"Format/Datatype": "Int32"}, {"Datatype": "Int8"}, {"Format/Datatype": "Float"}]
    assert layers(told({"Name": "a", "LayerType": "gemm", "Inputs": given}))["a"].precision == "int8"
    assert layers(told({"Name": "a", "LayerType": "gemm", "Outputs": given[2:]}))["a"].precision == "f32"


def test_movers_and_what_cannot_be_read_are_left_out() -> None:
    movers = [layer(kind, kind, "Float") for kind in ("Reformat", "NoOp", "Constant", "Shuffle")]
    assert layers(told(*movers, "a name alone", {"Name": "untold"}, layer("conv", "Conv", "Float"))).keys() == {"conv"}
    for text in ("", "[]", "{}", "null", '{"Layers": 3}', '{"Layers": [{"LayerType": "x", "Inputs": [{"Format/Datatype": "Half"}]}]}'):
        assert layers(text) == {}
    assert layers(told({"Name": "a", "LayerType": None, "Inputs": None})) == {}


def test_timings_are_kept_under_a_plain_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert timings.recall("tensorrt-10.1-NVIDIA RTX 4090") == b""
    timings.keep("tensorrt-10.1-NVIDIA RTX 4090", b"known")
    assert timings.recall("tensorrt-10.1-NVIDIA RTX 4090") == b"known"
    assert [path.name for path in (tmp_path / "optimize" / "timings").iterdir()] == ["tensorrt-10.1-NVIDIA-RTX-4090.cache"]
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    timings.keep("x", b"lost")
    assert timings.recall("x") == b""
