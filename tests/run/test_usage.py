"""What the manifest says of an artifact's use is enough to use it: read back and applied with the runtime alone, in a fresh process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.backends.self_test import TOLERANCES, attach, make
from optimize.candidate import Candidate, Floats
from optimize.data.dataset import Dataset, Preprocessing, Split
from optimize.data.preprocessing import WHOLE_EPSILON
from optimize.run.usage import usage
from tests.conftest import require
from tests.runs import Run

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "artifact.md").read_text(encoding="utf-8"), re.DOTALL)
COMPARE = """
recorded = numpy.load("model/golden.npz")["outputs"]
print(float(abs(outputs - recorded).max() / (recorded.max() - recorded.min())))
"""
PLAINLY = """
import sys
sys.modules["openvino_telemetry"] = None
import numpy, openvino
model = openvino.Core().compile_model("model/model.xml", "CPU")
outputs = model(numpy.load("model/golden.npz")["inputs"])[0]
"""


def difference(script: str, folder: Path) -> float:
    """What a script prints that is run in a process of its own, in the folder that holds `model/`."""
    silent = "import sys\nsys.modules['openvino_telemetry'] = None\n"
    script = re.sub(r'^folder = ".*"$', 'folder = "model"', script, flags=re.MULTILINE)  # the page shows the default folder of a run
    done = subprocess.run([sys.executable, "-c", silent + script + COMPARE], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return float(done.stdout)


def allowed(folder: Path) -> float:
    return max(TOLERANCES[part][0] for part in Artifact.read(folder / "model").precision.split("+"))


def test_the_example_for_onnx_runtime_gives_what_was_verified(accepted_onnxruntime: Run) -> None:
    (script,) = [example for example in EXAMPLES if "onnxruntime" in example]
    assert difference(script, accepted_onnxruntime.out) <= allowed(accepted_onnxruntime.out)


def test_the_report_of_a_run_comes_with_what_one_needs(accepted_onnxruntime: Run) -> None:
    """The images are uint8, normalized by 0.5 and 0.25, so inputs lie between -2 and 2; a softmax is no part of the net."""
    use = Artifact.read(accepted_onnxruntime.out / "model").use
    steps = use["input"].pop("preprocessing")
    low, high = use["input"].pop("range")
    assert -2 <= low < -1
    assert 1 < high <= 2
    assert steps == {
        "stored": "uint8, channels last, 0 to 255",
        "scale": 1 / 255,
        "standardize": None,
        "mean": [0.5],
        "std": [0.25],
        "pad": 0,
    }
    ends = {"dtype": "float32", "name": "output", "shape": ["N", 4]}
    decision = {"task": "classification", "meaning": "logits", "decision": "argmax of axis 1", "threshold": None}
    assert use == {
        "options": {},
        "defaults_suffice": True,
        "threads": 1,
        "input": {"name": "input", "shape": ["N", 1, 8, 8], "dtype": "float32", "layout": "NCHW"},
        "output": {**ends, **decision, "classes": ["bar", "disc", "cross", "ring"]},
    }


class Common(nn.Module):
    """What is common and loses its mark when it is written down as torch does: (N, 1, 16, 16) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.act = nn.Conv2d(1, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.PReLU()
        self.b, self.squeeze, self.excite = nn.Conv2d(8, 16, 3, padding=1), nn.Linear(16, 8), nn.Linear(8, 16)
        self.hidden, self.head = nn.Linear(16 * 16, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(self.act(self.norm(self.a(x))), 2)
        x = torch.relu(self.b(x))
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))[:, :, None, None]
        return torch.as_tensor(self.head(torch.relu(self.hidden(torch.tanh(torch.max_pool2d(x, 2).flatten(1))))))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Floats]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("common") / "model.onnx"
    export_onnx(Candidate(Common().eval(), torch.randn(1, 1, 16, 16)), path)
    return path, np.random.default_rng(0).standard_normal((32, 1, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("precision", ["f32", "int8+f32"])
def test_an_openvino_model_opened_with_three_lines_is_the_one_that_was_verified(
    precision: str, net: tuple[Path, Floats], tmp_path: Path
) -> None:
    """In a fresh process with default options, which mean bf16 on many CPUs; unmarked, f32 differs by far more than is allowed there."""
    runtime = backend(require("openvino"))
    onnx, inputs = net
    keep = ["b", "hidden"]
    home = tmp_path / "model"
    artifact = runtime.convert(onnx, home, precision) if precision == "f32" else runtime.quantize(onnx, home, inputs, ignored_layers=keep)
    with runtime.build(artifact, threads=1) as session:
        attach(artifact, session.predict, make(inputs, 0))
    limit = allowed(tmp_path)
    assert difference(PLAINLY, tmp_path) <= limit
    assert '<INFERENCE_PRECISION_HINT value="f32"' in artifact.main.read_text(encoding="utf-8")
    if precision == "f32" and "bf16" in runtime.precisions():
        unmarked = re.sub(r'<attribute name="precise"[^>]*>', "", artifact.main.read_text(encoding="utf-8"))
        artifact.main.write_text(unmarked, encoding="utf-8")
        assert difference(PLAINLY, tmp_path) > 5 * limit


def test_the_example_for_openvino_gives_what_was_verified_of_any_net(tmp_path: Path) -> None:
    """Upsampling and SiLU lose the mark; the options that the manifest names hold all the same."""
    runtime = backend(require("openvino"))
    torch.manual_seed(0)
    layers = [nn.InstanceNorm2d(8), nn.SiLU(), nn.Upsample(scale_factor=2.0, mode="bilinear"), nn.Conv2d(8, 2, 1)]
    export_onnx(Candidate(nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *layers).eval(), torch.randn(1, 1, 8, 8)), tmp_path / "net.onnx")
    inputs = np.random.default_rng(0).standard_normal((32, 1, 8, 8), dtype=np.float32)
    artifact = runtime.convert(tmp_path / "net.onnx", tmp_path / "model", "f32")
    labels = np.zeros((32, 1, 16, 16), dtype=bool)
    with runtime.build(artifact, threads=1) as session:
        use = usage(artifact, session.predict, dataset(Split("calibration", inputs, labels, Preprocessing())), None)
        attach(artifact.described(use), session.predict, make(inputs, 0))
    assert use["options"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert use["defaults_suffice"] is (False if "bf16" in runtime.precisions() else None)
    (script,) = [example for example in EXAMPLES if "openvino" in example]
    assert difference(script, tmp_path) <= allowed(tmp_path)


def dataset(calibration: Split) -> Dataset:
    """Only calibration is looked at."""
    return Dataset(None, calibration, calibration, calibration, ("one", "two"))


def described(outputs: Floats, split: Split) -> dict[str, Any]:
    """The section for a model that always gives these outputs."""
    artifact = Artifact(Path(), "tensorrt", "f16", split.inputs(slice(0, 1)).shape[1:], "1", ())
    return usage(artifact, lambda inputs: np.resize(outputs, (len(inputs), *outputs.shape[1:])), dataset(split), None)


def test_outputs_mean_what_they_are() -> None:
    images, labels = np.zeros((4, 8, 8), dtype=np.uint8), np.arange(4) % 2
    split = Split("calibration", images, labels, Preprocessing())
    assert described(np.array([[2.0, -1.0]], np.float32), split)["output"]["meaning"] == "logits"
    assert described(np.array([[0.25, 0.75]], np.float32), replace(split, outputs="probabilities"))["output"]["meaning"] == "probabilities"
    masks = replace(split, labels=np.zeros((4, 1, 8, 8), dtype=bool))
    found = described(np.full((1, 1, 8, 8), 0.5, np.float32), masks)["output"]
    assert (found["meaning"], found["threshold"]) == ("logits", 0.0)
    found = described(np.full((1, 1, 8, 8), 0.5, np.float32), replace(masks, outputs="probabilities"))["output"]
    assert (found["meaning"], found["threshold"], found["decision"]) == (
        "probabilities",
        0.5,
        "output above threshold: one mask per output",
    )
    found = described(np.full((1, 3, 8, 8), 0.5, np.float32), replace(split, labels=np.zeros((4, 8, 8), dtype=int)))["output"]
    assert found["decision"] == "argmax of axis 1; 0 is the background, then the classes"
    assert found["shape"] == ["N", 3, 8, 8]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("made", [Preprocessing(), Preprocessing((0.5, 0.1), (0.25, 2.0), 1), Preprocessing(standardize="image", pad=2)])
def test_the_steps_make_the_input(whole: bool, made: Preprocessing) -> None:
    """Applied by hand, as the documentation says, they give what the network is given."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (3, 5, 4, 2), dtype=np.uint8) if whole else draw.standard_normal((3, 2, 5, 4)).astype(np.float32)
    split = Split("calibration", images, np.arange(3) % 2, made)
    found = described(np.zeros((1, 2), np.float32), split)["input"]
    steps = found["preprocessing"]
    x = images.astype(np.float64).transpose(0, 3, 1, 2) if "channels last" in steps["stored"] else images.astype(np.float64)
    x = x * steps["scale"]
    if steps["standardize"]:
        assert steps["standardize"]["of"] == "image"
        x = (x - x.mean((2, 3), keepdims=True)) / (x.std((2, 3), keepdims=True) + steps["standardize"]["added_to_std"])
        assert (steps["standardize"]["added_to_std"] == WHOLE_EPSILON) is whole
    if steps["mean"]:
        x = (x - np.reshape(steps["mean"], (-1, 1, 1))) / np.reshape(steps["std"], (-1, 1, 1))
    x = np.pad(x, ((0, 0), (0, 0), (steps["pad"],) * 2, (steps["pad"],) * 2))
    np.testing.assert_allclose(split.inputs(), x, atol=1e-5)
    assert found["range"] == pytest.approx([x.min(), x.max()], abs=1e-5)
    assert found["shape"] == ["N", *x.shape[1:]]


def test_a_manifest_from_before_is_read(accepted_onnxruntime: Run, tmp_path: Path) -> None:
    for name in ("model.onnx", "golden.npz", "artifact.json"):
        (tmp_path / name).write_bytes((accepted_onnxruntime.out / "model" / name).read_bytes())
    manifest = json.loads((tmp_path / "artifact.json").read_text())
    del manifest["use"]
    (tmp_path / "artifact.json").write_text(json.dumps(manifest))
    assert Artifact.read(tmp_path).use == {}
