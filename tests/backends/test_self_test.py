"""The self-test of an artifact: what its inputs keep of images and what not, and what it lets pass."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from optimize.backends import backend, cpu_limit, self_test
from optimize.backends.artifact import Artifact, ArtifactFile
from optimize.backends.export import export_onnx
from optimize.backends.tensorrt_common import binding
from optimize.candidate import Candidate, Floats
from optimize.errors import InputError
from optimize.hardware import cpu_level
from optimize.hardware.gpu import Gpu
from optimize.run.verification.verify import run_self_test
from tests.conftest import CPU_TARGETS, require


def images(*shape: int, count: int = self_test.MIXED) -> Floats:
    """Bright blocks on an empty ground, under noise, with a mean of their own."""
    draw = np.random.default_rng(5)
    found = draw.normal(0, 0.1, (count, *shape)).astype(np.float32)
    for number, image in enumerate(found):
        image[(slice(None), *(slice(2, 5 + number % 3) for _ in shape[1:]))] += 3
    return found + np.arange(count, dtype=np.float32).reshape(-1, *(1 for _ in shape))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12), (2, 6, 5, 7), (1, 16)], ids=str)
def test_the_spectrum_is_that_of_the_images_together_and_so_is_the_mean(shape: tuple[int, ...]) -> None:
    """By a transform written out: the amplitude at each frequency is the root of the mean square of the images'."""
    given = images(*shape)
    made = self_test.make(given, seed=0)
    assert (made.shape, made.dtype) == ((self_test.CASES, *shape), np.float32)
    phases = [np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(size)) / size) for size in shape[1:]]

    def amplitudes(batch: Floats) -> np.ndarray:
        values = batch.astype(complex)
        for axis, turned in enumerate(phases, start=2):
            values = np.moveaxis(np.tensordot(values, turned, (axis, 0)), -1, axis)
        return np.abs(values).reshape(*batch.shape[:2], -1)

    expected = np.sqrt((amplitudes(given) ** 2).mean(0))[:, 1:]
    np.testing.assert_allclose(amplitudes(made)[:, :, 1:], np.broadcast_to(expected, (len(made), *expected.shape)), rtol=1e-3, atol=1e-3)
    means = given.reshape(*given.shape[:2], -1).mean((0, 2))
    np.testing.assert_allclose(made.reshape(*made.shape[:2], -1).mean(2), np.broadcast_to(means, made.shape[:2]), rtol=1e-4)


def test_no_image_shows_in_an_input_wherever_it_is_moved_to() -> None:
    """By the largest correlation over all shifts, which is 1 for the image itself."""
    given = images(1, 24, 24, count=16)
    flat = [image[0] - image[0].mean() for image in (*given, *self_test.make(given, seed=1))]
    units = [np.fft.fft2(each / np.linalg.norm(each)) for each in flat]

    def most(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(np.fft.ifft2(one * other.conj())).max())

    pictures, inputs = units[:16], units[16:]
    assert all(most(picture, picture) == pytest.approx(1) for picture in pictures)
    alike = np.median([most(one, other) for one in pictures for other in pictures])
    shown = max(most(picture, made) for picture in pictures for made in inputs)
    assert shown < 0.6 < alike


def test_inputs_go_with_the_seed_and_large_ones_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    given = images(1, 8, 8, count=20)
    first, same, other = (self_test.make(given, seed) for seed in (0, 0, 1))
    assert first.tobytes() == same.tobytes()
    assert not np.allclose(first, other)
    assert len({each.tobytes() for each in first}) == self_test.CASES
    assert self_test.make(given[:1], 0).shape == first.shape
    for limit, count in ((5 * 64 * 4, 5), (1, 2)):
        monkeypatch.setattr(self_test, "LARGEST_BYTES", limit)
        assert len(self_test.make(given, 0)) == count


def there(monkeypatch: pytest.MonkeyPatch, level: str | None = "avx512_vnni", version: str = "1") -> None:
    """The machine: a stand-in for the processor and the runtime."""
    monkeypatch.setattr(self_test, "effective_level", lambda target: level)
    monkeypatch.setattr(self_test, "backend", lambda target: SimpleNamespace(version=lambda: version))
    monkeypatch.setattr(self_test, "CASES", 2)  # as many as LOGITS answers


def sealed(folder: Path, outputs: np.ndarray, precision: str = "f32", made_for: str | None = None) -> Artifact:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(b"weights")
    artifact = Artifact.save(folder, target="onnxruntime", precision=precision, input_shape=(1, 8, 8), runtime="1", files=("model.onnx",))
    return self_test.attach(artifact, answering(outputs), self_test.make(images(1, 8, 8), 0)[: len(outputs)], made_for)


def answering(outputs: np.ndarray) -> Callable[[Floats], Floats]:
    return lambda _: np.asarray(outputs, dtype=np.float32)


def checked(artifact: Artifact, outputs: np.ndarray) -> self_test.Check:
    found = self_test.check(artifact, answering(outputs))
    assert found is not None
    return found


LOGITS = np.array([[0.0, 4.0, 10.0], [6.0, 5.9, 0.0]])
"""A range of 10, and a near tie in the second."""


def test_the_seal_is_in_the_manifest_and_not_in_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = sealed(tmp_path / "model", LOGITS, made_for="avx2")
    assert Artifact.read(artifact.folder) == artifact
    assert artifact.built == {"isa": "avx512_vnni", "made_for": "avx2"}
    assert artifact.golden == ArtifactFile.of(artifact.folder / "golden.npz")
    assert (artifact.size_bytes, [file.name for file in artifact.files]) == (7, ["model.onnx"])
    before = artifact.sha256
    assert self_test.attach(artifact, answering(LOGITS + 1), self_test.make(images(1, 8, 8), 0)[:2]).sha256 == before
    with np.load(artifact.folder / "golden.npz") as file:
        assert set(file.files) == {"inputs", "outputs"}
    altered = bytearray((artifact.folder / "golden.npz").read_bytes())
    altered[-40] ^= 1
    (artifact.folder / "golden.npz").write_bytes(altered)
    with pytest.raises(InputError, match=r"golden\.npz` was altered after it was sealed"):
        Artifact.read(artifact.folder)


def test_a_golden_file_must_lie_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = sealed(tmp_path / "model", LOGITS)
    manifest = json.loads((artifact.folder / "artifact.json").read_text())
    manifest["golden"]["name"] = "../golden.npz"
    (artifact.folder / "artifact.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="by plain names inside its folder"):
        Artifact.read(artifact.folder)


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16", "int8", "int8+bf16"])
@pytest.mark.parametrize("alike", [True, False])
def test_what_is_allowed_is_a_share_of_the_range(precision: str, alike: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = sealed(tmp_path / "model", LOGITS, precision)
    if not alike:
        there(monkeypatch, "avx2")
    allowed = max(self_test.TOLERANCES[part][not alike] for part in precision.split("+"))
    for share, passes in ((0.0, True), (0.9, True), (1.1, False)):
        moved = LOGITS.copy()
        moved[0, 2] += share * allowed * 10
        found = checked(artifact, moved)
        assert (bool(found), found.alike, found.changed) == (passes, alike, 0)
        assert found.difference == pytest.approx(share * allowed, rel=0.02, abs=1e-9)


def test_near_ties_may_turn_and_decisions_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = sealed(tmp_path / "model", LOGITS, "int8")
    there(monkeypatch, "avx2")  # 2 % of a range of 10 are allowed
    turned = LOGITS + np.array([[0, 0, 0], [-0.1, 0.1, 0]])
    assert checked(artifact, turned)
    wide = sealed(tmp_path / "wide", np.array([[0.0, 4.0, 10.0], [6.0, 5.7, 0.0]]), "int8")
    there(monkeypatch, "avx512")
    found = checked(wide, np.array([[0.0, 4.0, 10.0], [5.82, 5.88, 0.0]]))  # each moved by less than 0.2, the best by 0.3 less
    assert (bool(found), found.changed) == (False, 1)
    assert found.difference < found.allowed


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_what_is_no_number_is_refused(strange: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    found = checked(sealed(tmp_path / "model", LOGITS), np.where(LOGITS == 4, strange, LOGITS))
    assert not found
    assert found.difference == np.inf


def test_masks_are_compared_place_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    logits = np.linspace(-5, 5, 2 * 16).reshape(2, 1, 4, 4)
    artifact = sealed(tmp_path / "model", logits, "int8")
    assert checked(artifact, logits)
    found = checked(artifact, np.where(np.abs(logits) < 0.5, -logits, logits))
    near = int(((np.abs(logits) < 0.5) & (np.abs(logits) > 0.1)).sum())  # 1 % of 10
    assert found.changed == near > 0


def test_other_machines_are_told_by_level_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = sealed(tmp_path / "model", LOGITS)
    assert self_test.differences(artifact) == []
    there(monkeypatch, "avx2", version="2")
    assert self_test.differences(artifact) == ["made with onnxruntime 1, here is 2", "verified on AVX-512 VNNI, here is AVX2"]
    there(monkeypatch, None)
    assert self_test.differences(artifact) == ["verified on AVX-512 VNNI, here is one that cannot be told"]
    assert self_test.differences(replace(artifact, built={})) == []
    there(monkeypatch)
    monkeypatch.setattr(binding, "gpu", lambda: Gpu(({"name": "A10", "compute_capability": "8.6", "driver": "1"},), ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # torch does not see the first, which CUDA_VISIBLE_DEVICES hides
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="T4", major=7, minor=5))
    engine = replace(artifact, target="tensorrt", built={"verified_on": "A10"})
    assert self_test.differences(engine) == ["verified on A10, here is T4"]
    monkeypatch.setattr(binding, "gpu", lambda: Gpu((), "there is none"))
    assert self_test.differences(engine) == ["verified on A10, here is one that cannot be told"]


def rewritten(artifact: Artifact, **arrays: np.ndarray) -> Artifact:
    """The artifact with another self-test, and a manifest that is true of it."""
    with np.load(artifact.folder / self_test.FILE) as file:
        np.savez(artifact.folder / self_test.FILE, **{**dict(file), **arrays})
    return artifact.verified(self_test.FILE, {})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"inputs": self_test.make(images(1, 8, 8), 0)[:1], "outputs": LOGITS[:1].astype("f4")}, "has 1 inputs, and a whole one .* has 2"),
        ({"outputs": LOGITS}, "its outputs are not all finite numbers of 32 bits"),
        ({"outputs": np.full((2, 3), np.nan, dtype="f4")}, "its outputs are not all finite"),
        ({"inputs": np.full((2, 1, 8, 8), np.inf, dtype="f4")}, "its inputs are not all finite"),
        ({"more": LOGITS}, "is no self-test of this model"),
        ({"outputs": np.array([[None] * 3] * 2)}, "is no self-test"),
    ],
    ids=["one input", "64 bits", "no number", "infinite", "more", "objects"],
)
def test_a_self_test_must_be_a_whole_one(change: dict[str, np.ndarray], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = rewritten(sealed(tmp_path / "model", LOGITS), **change)
    with pytest.raises(InputError, match=told):
        self_test.check(artifact, answering(LOGITS))


def test_the_same_question_or_answer_throughout_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    assert checked(sealed(tmp_path / "model", LOGITS), LOGITS).tells
    same = np.repeat(LOGITS[:1], 2, axis=0)
    artifact = sealed(tmp_path / "same", same)
    assert (bool(checked(artifact, same)), checked(artifact, same).tells) == (True, False)
    artifact = rewritten(sealed(tmp_path / "asked", LOGITS), inputs=np.ones((2, 1, 8, 8), dtype="f4"))
    assert not checked(artifact, LOGITS).tells
    with monkeypatch.context() as patch:
        patch.setattr("optimize.run.verification.verify.backend", lambda _: SimpleNamespace(build=lambda _: Opened(LOGITS)))
        outcome, findings = run_self_test(artifact)
    assert (outcome, findings[-1].endswith("all its inputs or answers are the same, which shows nothing")) == ("inconclusive", True)


class Opened:
    """A session that always answers the same."""

    def __init__(self, outputs: np.ndarray) -> None:
        self.predict = answering(outputs)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_how_many_inputs_there_are_follows_from_their_size() -> None:
    """16 MiB hold 16 inputs of 2^18 numbers of four bytes."""
    assert [self_test.cases(shape) for shape in ((1, 8, 8), (1, 512, 512), (1, 512, 1024), (3, 64, 512, 512))] == [16, 16, 8, 2]


def test_what_is_no_self_test_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch)
    artifact = sealed(tmp_path / "model", LOGITS)
    file = artifact.folder / self_test.FILE
    assert self_test.check(replace(artifact, golden=None), answering(LOGITS)) is None
    with pytest.raises(InputError, match="is no self-test of this model"):
        self_test.check(artifact, answering(LOGITS[:, :2]))
    with pytest.raises(InputError, match="is no self-test of this model"):
        self_test.check(replace(artifact, input_shape=(3, 8, 8)), answering(LOGITS))
    for content in (b"", b"PK", pickle.dumps({"inputs": LOGITS})):
        file.write_bytes(content)
        with pytest.raises(InputError, match="is no self-test"):
            self_test.check(artifact, answering(LOGITS))
    np.savez_compressed(file, inputs=np.zeros((2**14, *artifact.input_shape), np.float32), outputs=LOGITS)
    with monkeypatch.context() as patch:
        patch.setattr("numpy.load", lambda *_, **__: pytest.fail("it was unpacked"))
        with pytest.raises(InputError, match="which is more than it may hold"):
            self_test.check(artifact, answering(LOGITS))
    np.savez(file, inputs=np.array([object()]), outputs=LOGITS)
    with pytest.raises(InputError, match="is no self-test"):
        self_test.check(artifact, answering(LOGITS))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Floats]:
    """A network whose large weights of one sign overflow 16 bits in pairs, and what it takes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten())
    net.append(nn.Linear(16 * 64, 4)).eval()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.copy_(layer.weight.abs() + layer.weight.abs().max())  # type: ignore[operator, union-attr]
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(Candidate(net, torch.zeros(1, 16, 8, 8)), path)
    return path, np.abs(np.random.default_rng(0).standard_normal((16, 16, 8, 8), dtype=np.float32))


def in_batches(predict: Callable[[Floats], Floats], batch: int) -> Callable[[Floats], Floats]:
    return lambda inputs: np.concatenate([predict(inputs[start : start + batch]) for start in range(0, len(inputs), batch)])


@pytest.mark.parametrize("target", CPU_TARGETS)
def test_threads_and_batches_do_not_matter_on_one_machine(target: str, exported: tuple[Path, Floats], tmp_path: Path) -> None:
    runtime, (onnx, inputs) = backend(require(target)), exported
    made = [runtime.convert(onnx, tmp_path / precision, precision) for precision in runtime.precisions()]
    for artifact in (*made, runtime.quantize(onnx, tmp_path / "int8", inputs[:4])):
        with runtime.build(artifact, threads=1) as session:
            whole = self_test.attach(artifact, session.predict, self_test.make(inputs, 0))
        for threads, batch in ((1, 16), (2, 16), (2, 1)):
            with runtime.build(whole, threads=threads) as session:
                found = self_test.check(whole, in_batches(session.predict, batch))
            assert found, (artifact.precision, threads, batch)


SCRIPT = """
import json, sys
from pathlib import Path
from optimize.run.verification.verify import verify
print(json.dumps([verify(Path(folder)).as_dict() for folder in sys.argv[1:]]))
"""


def test_weights_that_overflow_elsewhere_are_refused_there(exported: tuple[Path, Floats], tmp_path: Path) -> None:
    """OpenVINO in a process that is kept to AVX2: as made for this machine, and as made for that level."""
    if not cpu_limit._below("avx2", cpu_level.level()) or cpu_level.saturates():
        pytest.skip("this machine cannot compute as a lesser one")
    runtime, (onnx, inputs) = backend(require("openvino")), exported
    for name, made_for in (("here", None), ("there", "avx2")):
        artifact = runtime.quantize(onnx, tmp_path / name, inputs[:4], cpu_level=made_for)
        with runtime.build(artifact, threads=1) as session:
            self_test.attach(artifact, session.predict, self_test.make(inputs, 0), made_for)
    kept = {**os.environ, **dict.fromkeys(cpu_limit.VARIABLES, "AVX2")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "here"), str(tmp_path / "there")]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    here, there_ = json.loads(done.stdout)
    assert (here["outcome"], there_["outcome"]) == ("fail", "pass")
    differs = f"verified on {cpu_level.in_words(cpu_level.level())}, here is AVX2"
    for found in (here, there_):
        assert differs in found["findings"]
    moved = [float(re.search(r"outputs differ by ([\d.e-]+) %", found["findings"][-1])[1]) for found in (here, there_)]  # type: ignore[index]
    assert moved[0] > 10 > 1 > moved[1]
