"""A bundle where nothing else is: another folder, numpy and one runtime and nothing else to import, no network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.deploy.bundle.assemble import RUNNER
from optimize.deploy.bundle.extraction import extract
from optimize.run.bundle import bundle
from tests.conftest import require
from tests.deploy.finished_run import MEAN, SHAPE, STD, finished
from tests.runs import Run, arrays

NEEDED = {"onnxruntime": ("onnxruntime", "flatbuffers", "google", "packaging"), "openvino": ("openvino", "openvino_telemetry")}
"""Target -> what its wheel needs to be imported, besides numpy."""
SCRIPT = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"a call of the network: {event}")

sys.addaudithook(refuse)
sys.path.insert(0, sys.argv[1])
import numpy
from bundle import Model

with Model(sys.argv[1]) as model:
    numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2])))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"optimize", "torch", "onnx", "scipy", "nncf"}), "end")
"""


def environment(folder: Path, target: str) -> dict[str, str]:
    """Variables of a process that finds numpy and one runtime, by links to where they are installed, and nothing else of this machine."""
    folder.mkdir()
    (folder / "home").mkdir()
    for name in ("numpy", *NEEDED[target]):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            (folder / name).symlink_to(next(iter(spec.submodule_search_locations)))
    # the shared libraries of wheels lie beside the packages, and their metadata has the versions
    packages = Path(np.__file__).parent.parent
    for pattern in ("numpy.libs", "numpy-*.dist-info", f"{target}*.libs", f"{target}-*.dist-info"):
        for path in packages.glob(pattern):
            (folder / path.name).symlink_to(path)
    return {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(folder / "home")}


def python(*arguments: object, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -S -s` with these arguments: neither the packages of this environment nor those of the user."""
    call = [sys.executable, "-S", "-s", *map(str, arguments)]
    return subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def predicted(at_site: Path, images: np.ndarray, folder: Path, target: str) -> np.ndarray:
    """What the bundle says of images, in a process of its own."""
    np.save(folder / "images.npy", images)
    (folder / "work").mkdir()
    done = python(
        "-c", SCRIPT, at_site, folder / "images.npy", folder / "answers.npy", cwd=folder / "work", env=environment(folder / "libs", target)
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    # the telemetry of both runtimes begins with an id in the user's folder
    assert list((folder / "libs" / "home").rglob("*")) == []
    answers: np.ndarray = np.load(folder / "answers.npy")
    return answers


def test_it_gives_the_predictions_of_the_report_bit_for_bit(accepted: Run, tmp_path: Path) -> None:
    """The test split of a whole run, which was 120 images; batches are of any size."""
    bundle(accepted.out, tmp_path / "b.tar.gz")
    at_site = extract(tmp_path / "b.tar.gz", tmp_path / "site")
    images = arrays()["test_images"]
    artifact = Artifact.read(accepted.out / "model")
    inputs = ((images[:, None].astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.25)).astype(np.float32)
    with backend(artifact.target).build(artifact, threads=artifact.use["threads"]) as session:
        wanted = session.predict(inputs)
    found = predicted(at_site, images, tmp_path, artifact.target)
    assert found.dtype == wanted.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize(
    ("verdict", "said"), [("inconclusive", "could not show that it holds its limits"), ("unverified", "was never run")]
)
def test_it_checks_itself_and_answers_by_command(verdict: str, said: str, tmp_path: Path) -> None:
    require("onnxruntime")
    bundle(finished(tmp_path / "out", verdict=verdict), tmp_path / "b", not_accepted=True)
    env = environment(tmp_path / "libs", "onnxruntime")
    done = python("-m", "bundle", "check", cwd=tmp_path / "b", env=env)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr  # the warning, at every start
    image = np.random.default_rng(3).integers(0, 256, (4, 4, 1), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    done = python("-m", "bundle", "infer", tmp_path / "image.npy", cwd=tmp_path / "b", env=env)
    # by hand: one matrix on the scaled pixels
    weights = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    scores = ((image.astype(np.float64) / 255 - MEAN) / STD).reshape(1, np.prod(SHAPE)) @ weights
    assert ("platelet", "basophil", "erythroblast")[int(scores.argmax())] in done.stdout
    # nothing appeared in the folder, and one more byte is one too many
    assert not [path for path in (tmp_path / "b").rglob("*.pyc")]
    with (tmp_path / "b" / "schema.json").open("a") as file:
        file.write(" ")
    done = python("-m", "bundle", "check", cwd=tmp_path / "b", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "schema.json" in done.stderr


def test_the_runner_is_in_an_installed_package() -> None:
    """setuptools packs Python files of folders with an `__init__.py`, and nothing else of this folder."""
    for path in RUNNER.rglob("*"):
        if "__pycache__" not in path.parts:
            assert (path / "__init__.py").is_file() if path.is_dir() else path.suffix == ".py", path
