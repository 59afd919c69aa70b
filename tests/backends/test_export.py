from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from optimize.backends import backend, export
from optimize.backends.export import export_onnx
from optimize.backends.session import Session
from optimize.candidate import Candidate
from optimize.errors import InputError, OptimizeError, TargetUnavailable


class Kitchen(nn.Module):
    """Batch norm, a residual, pooling, a transposed convolution beside interpolation, concatenation, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6))
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.tail = nn.Conv2d(10, 4, 3, stride=2)
        self.head = nn.Linear(4 * 3 * 3, 5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = functional.max_pool2d(torch.relu(x + self.body(x)), 2)
        x = torch.cat([self.up(x), functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)], 1)
        return self.head(torch.flatten(self.tail(x), 1))


class Reused(nn.Module):
    """One convolution used twice, each time with a batch norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        nn.init.uniform_(self.first.running_mean, -1, 1)  # type: ignore[arg-type]
        nn.init.uniform_(self.second.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(torch.relu(self.first(self.conv(x))))).mean((2, 3))


class Calls(nn.Module):
    """A convolution, then any function of it."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.conv(x))


def candidate(module: nn.Module) -> Candidate:
    return Candidate(module.eval(), torch.zeros(1, 3, 8, 8))


@pytest.fixture(scope="module")
def kitchen() -> Candidate:
    torch.manual_seed(0)
    return candidate(Kitchen())


@pytest.fixture(scope="module")
def kitchen_file(kitchen: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "kitchen.onnx"
    export_onnx(kitchen, path)
    return path


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_any_batch_gives_what_torch_gives(name: str, kitchen: Candidate, kitchen_file: Path, tmp_path: Path) -> None:
    runtime = backend(name)
    try:
        runtime.preflight()
    except TargetUnavailable as reason:
        pytest.skip(str(reason))
    inputs = np.random.default_rng(2).standard_normal((8, 3, 8, 8), dtype=np.float32)
    with runtime.build(runtime.convert(kitchen_file, tmp_path, "f32")) as session:
        for batch in (1, 3, 8):
            np.testing.assert_allclose(session.predict(inputs[:batch]), kitchen.predict(inputs[:batch]), rtol=0, atol=1e-5)


def test_file_is_as_promised(kitchen_file: Path) -> None:
    model = onnx.load(kitchen_file, load_external_data=False)
    (entry,), (leaving,) = model.graph.input, model.graph.output
    sizes = [size.dim_param or size.dim_value for size in entry.type.tensor_type.shape.dim]
    assert (entry.name, leaving.name, sizes) == ("input", "output", ["batch", 3, 8, 8])
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    assert list(kitchen_file.parent.iterdir()) == [kitchen_file]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_layers_are_named_after_their_modules(kitchen_file: Path) -> None:
    nodes = onnx.load(kitchen_file).graph.node
    weighted = [node.name for node in nodes if node.op_type in ("Conv", "ConvTranspose", "Gemm")]
    assert weighted == ["stem.0", "body.0", "up", "tail", "head"]
    assert len({node.name for node in nodes}) == len(nodes)


def test_file_says_nothing_about_the_machine_that_exported(kitchen_file: Path) -> None:
    content = kitchen_file.read_bytes()
    for trace in (__file__, sys.prefix, torch.__file__, "stack_trace", "File "):
        assert trace.encode() not in content


def test_same_weights_give_the_same_bytes_without_a_word(
    kitchen: Candidate, kitchen_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = kitchen.fingerprint
    export_onnx(kitchen, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == kitchen_file.read_bytes()
    assert kitchen.fingerprint == before
    assert not kitchen.module.training
    assert capfd.readouterr() == ("", "")


def test_parity_counts_and_measures(kitchen: Candidate, tmp_path: Path) -> None:
    inputs = np.random.default_rng(3).standard_normal((4, 3, 8, 8), dtype=np.float32)
    parity = export_onnx(kitchen, tmp_path / "m.onnx", inputs)
    assert (parity.cases, parity.opset) == (5, 18)
    assert 0 <= parity.mean_abs_diff <= parity.max_abs_diff < 1e-5


def test_reused_convolution_has_its_batch_norms_folded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    parity = export_onnx(candidate(Reused()), tmp_path / "m.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds.count("Conv") == 2
    assert "BatchNormalization" not in kinds
    assert parity.max_abs_diff < 1e-5
    assert capfd.readouterr() == ("", "")


def test_wrong_folding_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: onnx.ModelProto) -> list[onnx.ModelProto]:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        bias = next(tensor for tensor in other.graph.initializer if tensor.name == "conv.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, "conv.bias"))
        return [other]

    monkeypatch.setattr(export, "_folded", broken)
    torch.manual_seed(0)
    assert export_onnx(candidate(Reused()), tmp_path / "m.onnx").max_abs_diff < 1e-5
    names = [node.name for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type == "Conv"]
    assert names == ["conv", "conv#2"]


def test_file_that_computes_something_else_is_refused(kitchen: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    other, trace = candidate(Kitchen()), export._trace
    monkeypatch.setattr(export, "_trace", lambda _, path: trace(other, path))
    with pytest.raises(OptimizeError, match=r"the exported ONNX file differs from torch by [\d.]+, more than 0\.001 of the largest output"):
        export_onnx(kitchen, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.view(4, 36).sum(1)[None], r"`model` runs on one input but not on two \(shape '\[4, 36\]' is invalid"),
        (lambda x: x.view(1, -1), r"`model` gives shape \(1, 288\) for two inputs, not \(2, 144\)"),
        (lambda x: x.mean((2, 3)) - x.mean((0, 2, 3)), r"`model` mixes the inputs of a batch"),
    ],
)
def test_tied_batch_is_explained(function: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message + r".*: its forward must keep the batch dimension free"):
        export_onnx(candidate(Calls(function)), tmp_path / "m.onnx")


def test_decision_on_values_is_explained_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = Calls(lambda x: x.mean((2, 3)) if x.sum() > 1e9 else x.amax((2, 3)))
    with pytest.raises(InputError, match=r"^`model` cannot be exported to ONNX: its forward decides in Python on tensor") as caught:
        export_onnx(candidate(module), tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_no_runtime_to_compare_with(kitchen: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise TargetUnavailable("not here")

    for name in ("onnxruntime", "openvino"):
        monkeypatch.setattr(f"optimize.backends.targets.{name}.preflight", missing)
    with pytest.raises(TargetUnavailable, match="no runtime to check the exported file with: pip install"):
        export_onnx(kitchen, tmp_path / "m.onnx")


def test_reading_and_building_an_artifact_needs_no_torch() -> None:
    runtimes = "optimize.backends.targets.openvino, optimize.backends.targets.onnxruntime"
    modules = f"optimize, optimize.backends.artifact, {runtimes}, optimize.measure.memory"
    script = f"import sys, {modules}; assert not {{'torch', 'openvino', 'onnxruntime', 'onnx', 'nncf'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_constant_image_before_an_instance_norm_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each norm makes of rounding what it makes of an image; where torch itself is not sure, the file cannot be wrong."""
    torch.manual_seed(0)
    blocks = [(nn.Conv2d(width, 8, 3, padding=1, padding_mode="reflect"), nn.InstanceNorm2d(8)) for width in (3, 8, 8, 8)]
    start = candidate(nn.Sequential(*(layer for block in blocks for layer in block), nn.Conv2d(8, 2, 1)))
    images = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    images[1], images[3] = 0, 0.3
    assert export.steady_cases(start, images).tolist() == [True, False, True, False, True]
    predict = Session.predict

    def other(wrong: Callable[[np.ndarray], np.ndarray]) -> None:
        def answers(session: Session, inputs: np.ndarray) -> np.ndarray:
            return predict(session, inputs) + wrong(inputs).reshape(-1, 1, 1, 1)

        monkeypatch.setattr(Session, "predict", answers)

    other(lambda inputs: inputs.reshape(len(inputs), -1).std(1) < 1e-6)
    parity = export_onnx(start, tmp_path / "m.onnx", images)
    assert (parity.cases, parity.max_abs_diff < 1e-4) == (3, True)
    other(lambda inputs: np.arange(len(inputs)) == 5)
    with pytest.raises(OptimizeError, match="differs from torch"):
        export_onnx(start, tmp_path / "m.onnx", images)


def test_random_inputs_are_of_the_examples_kind() -> None:
    example = torch.rand(1, 3, 8, 8) + 5
    cases = export._cases(Candidate(nn.Identity().eval(), example), None)
    assert (cases.shape, float(cases.min()) >= 5) == ((8, 3, 8, 8), True)
    for channel in range(3):
        np.testing.assert_array_equal(np.sort(cases[:, channel].reshape(8, -1)), np.tile(np.sort(example[0, channel].flatten()), (8, 1)))
    assert export._cases(candidate(nn.Identity()), None)[1:].std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("affine", [True, False])
def test_an_instance_norm_with_running_statistics_is_folded(affine: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(4, affine=affine, track_running_stats=True)
    nn.init.uniform_(norm.running_mean, -1, 1)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    start = candidate(nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 2, 1)))
    assert export_onnx(start, tmp_path / "m.onnx").max_abs_diff < 1e-5
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == ["Conv", "Relu", "Conv"]
    assert isinstance(start.module.get_submodule("1"), nn.InstanceNorm2d)
