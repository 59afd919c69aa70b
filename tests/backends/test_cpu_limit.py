from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from optimize.backends.cpu_limit import VARIABLES, _below, effective_level, limitable, restrict_level
from optimize.errors import InputError
from optimize.hardware import machine
from optimize.hardware.cpu_level import level
from tests.conftest import require


def test_only_openvino_obeys_the_variables() -> None:
    assert limitable() == ("openvino",)


@pytest.fixture
def sapphire(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with AVX-512 VNNI in which nobody has used OpenVINO yet, nor restricted it."""
    monkeypatch.setattr(machine, "instruction_sets", lambda: ("avx2", "avx512f", "avx512_vnni"))
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # so that what is set is taken back
        monkeypatch.delenv(variable)


@pytest.mark.usefixtures("sapphire")
def test_openvino_is_kept_to_a_level_below() -> None:
    assert restrict_level("openvino", "avx2")
    assert [os.environ[variable] for variable in VARIABLES] == ["AVX2", "AVX2"]
    assert (effective_level("openvino"), effective_level("onnxruntime"), level()) == ("avx2", "avx512_vnni", "avx512_vnni")
    assert restrict_level("openvino", "avx2")  # again, in a process that it started


SCRIPT = """
import json
import torch
from optimize.backends.cpu_limit import restrict_level

assert restrict_level("openvino", "avx2")
images, weights = torch.rand(2, 32, 16, 16), torch.rand(32, 32, 3, 3)
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    torch.conv2d(images, weights)
import openvino as ov

taken = ov.opset13.parameter(list(images.shape))
given = ov.opset13.convolution(taken, weights.numpy(), [1, 1], [0, 0], [0, 0], [1, 1])
compiled = ov.compile_model(ov.Model([given], [taken]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
kinds = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
print(json.dumps([kind["primitiveType"].astype(str) for kind in kinds if kind["layerType"].astype(str) == "Convolution"]))
"""


@pytest.mark.parametrize("before", [{}, {VARIABLES[0]: "AVX2"}], ids=["unset", "set by the caller"])
def test_torch_keeps_its_own_level(before: dict[str, str]) -> None:
    """By the names of the kernels that both libraries tell, in a process of their own."""
    require("openvino")
    if not _below("avx2", level()) or not torch.backends.mkldnn.is_available():
        pytest.skip("this machine cannot compute as a lesser one")
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=clean | before, capture_output=True, text=True, check=True)
    of_torch = re.findall(r"exec,cpu,convolution,([^,]+)", done.stdout)
    of_openvino = json.loads(done.stdout.splitlines()[-1])
    assert of_torch
    assert not any("avx2" in kernel for kernel in of_torch)
    assert of_openvino
    assert all("avx2" in kernel for kernel in of_openvino)


@pytest.mark.usefixtures("sapphire")
@pytest.mark.parametrize(
    ("target", "cpu_level", "kept"),
    [
        ("openvino", "avx512_vnni", True),
        ("onnxruntime", "avx512_vnni", True),
        ("openvino", "amx", False),
        ("openvino", "avx_vnni", False),
        ("openvino", "i8mm", False),
        ("onnxruntime", "avx2", False),
    ],
)
def test_what_the_machine_is_needs_no_switch_and_what_it_lacks_has_none(target: str, cpu_level: str, kept: bool) -> None:
    assert restrict_level(target, cpu_level) is kept
    assert not {*VARIABLES} & {*os.environ}


@pytest.mark.usefixtures("sapphire")
def test_a_switch_that_comes_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", sys)
    with pytest.raises(InputError, match=r"`cpu_level` \(='avx2'\) must be known before OpenVINO is first used in a process"):
        restrict_level("openvino", "avx2")


@pytest.mark.usefixtures("sapphire")
@pytest.mark.parametrize("value", ["", "AVX512_CORE_AMX", "nonsense", "avx512_core_vnni"])
def test_a_switch_that_asks_for_no_less_changes_nothing(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], value)
    assert effective_level("openvino") == "avx512_vnni"
