"""How targets are found: by the files in their folder, and by nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optimize.backends import (
    CPU,
    backend,
    cpu_target_names,
    description,
    onnx_target_names,
    runs_on_cpu,
    runtimes,
    target_names,
    targets,
    title,
    versions,
)
from optimize.backends.artifact import Artifact
from optimize.backends.export import export_onnx
from optimize.candidate import Candidate
from optimize.errors import InputError, TargetUnavailable
from optimize.report import page
from optimize.report.render import headline
from optimize.run import doctor as doctor_module
from optimize.run.doctor import doctor, lines
from optimize.run.usage import _options

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending" / "backend.md"
SHIPPED = ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")
"""Targets in their order; a new file needs no entry."""
HEAVY = ("torch", "openvino", "onnxruntime", "nncf", "tensorrt", "tensorrt_rtx", "onnx")


def blocks() -> dict[str, str]:
    """File -> its code, of the page's blocks that name a file in their first line; "" -> the code of the others."""
    sources = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    named = {match[1]: source for source in sources if (match := re.match(r"# file: (\S+)\n", source))}
    return named | {"": "\n".join(source for source in sources if source not in named.values())}


def known(names: Iterable[str], *more: str) -> tuple[str, ...]:
    """Those of the names that are written here, or are one of `more`, in the order given."""
    return tuple(name for name in names if name in (*SHIPPED, *more))


def lean(code: str) -> str:
    """What a process prints in which none of the heavy packages may be loaded at the end."""
    script = f"import sys; {code}; assert not set({HEAVY!r}) & set(sys.modules), sys.modules.keys()"
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's backend, in a folder of its own; no file of the package knows of it."""
    folder = tmp_path / "targets"
    folder.mkdir()
    (folder / "onnx_reference.py").write_text(blocks()["optimize/backends/targets/onnx_reference.py"], encoding="utf-8")
    monkeypatch.setattr(targets, "__path__", [*targets.__path__, str(folder)])
    yield folder
    sys.modules.pop("optimize.backends.targets.onnx_reference", None)


def test_targets_are_found_without_any_runtime() -> None:
    found = lean("from optimize.backends import target_names; print(*target_names())").split()
    assert tuple(name for name in found if name in SHIPPED) == SHIPPED


def test_versions_import_nothing() -> None:
    assert lean("from optimize.backends import versions; print(versions()['torch'])") == torch.__version__
    assert {"optimize", "torch", "numpy"} <= set(versions())


@pytest.mark.parametrize("name", target_names())
def test_a_module_calls_itself_as_its_file_is_called(name: str) -> None:
    assert name == backend(name).NAME
    assert backend(name).DESCRIPTION is description(name)
    assert title(name) != name


def test_lists_of_targets() -> None:
    assert known(cpu_target_names()) == ("openvino", "onnxruntime")
    assert known(onnx_target_names()) == ("onnxruntime", "openvino")
    assert [name for name in (*SHIPPED, "torch", "unheard of") if runs_on_cpu(name)] == ["openvino", "onnxruntime", "torch"]


def test_a_report_names_runtimes_as_their_modules_do() -> None:
    """A report renders without the backends, so that it reads the names from their text."""
    assert {name: title(name) for name in target_names()} == page.RUNTIMES


@pytest.mark.parametrize(
    ("name", "hint"),
    [("ort", " (did you mean 'onnxruntime'?)"), (" GPU ", " (did you mean 'tensorrt'?)"), ("openvin", "openvino"), ("x", "")],
)
def test_other_names_are_suggested_and_not_taken(name: str, hint: str) -> None:
    with pytest.raises(InputError) as refused:
        backend(name)
    text = str(refused.value)
    assert text.startswith(f"`target` (={name!r}) must be one of openvino, onnxruntime, tensorrt, tensorrt-rtx, ")
    assert hint in text.partition(", cpu")[2]


def test_an_option_of_one_target_names_that_one() -> None:
    with pytest.raises(InputError, match=r"^`--compute-capability` \(='8.6'\) is for target tensorrt-rtx: leave it out with target open"):
        backend("openvino", ["8.6"])


def test_a_new_file_is_a_target(made_up: Path) -> None:
    assert known(target_names(), "onnx-reference") == (*SHIPPED, "onnx-reference")
    assert backend("onnx-reference").NAME == "onnx-reference"
    assert known(onnx_target_names(), "onnx-reference") == ("onnxruntime", "onnx-reference", "openvino")
    assert "onnx-reference" in [runtime.NAME for runtime in runtimes(CPU)]
    assert runs_on_cpu("onnx-reference")


def test_error_texts_know_a_new_file(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"tensorrt-rtx, .*onnx-reference.*, cpu \(did you mean 'onnx-reference'"):
        backend("onnx-referense")
    with pytest.raises(InputError, match="did you mean 'onnx-reference'"):
        backend("Reference")
    with pytest.raises(InputError, match="leave it out with target onnx-reference"):
        backend("onnx-reference", ["8.6"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TargetUnavailable, match="onnx and onnxruntime not installed; pip install 'onnx' 'onnxruntime'"):
        backend("onnx-reference").preflight()
    net = Candidate(nn.Linear(2, 2).eval(), torch.ones(1, 2))
    with pytest.raises(TargetUnavailable, match=r"'optimize\[onnxruntime\]' or pip install 'onnx' 'onnxruntime' or pip install 'optimize"):
        export_onnx(net, made_up / "model.onnx")


def test_doctor_shows_a_new_file(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor()
    shown = {each.name: each for each in found.targets}["onnx-reference"]
    assert (shown.compiles, shown.runs, shown.precisions, shown.remedy) == (True, True, ("f32", "int8"), None)
    assert "runtime of target onnx-reference" in {each.purpose for each in found.packages}
    assert any(re.match(r"onnx-reference +[\d.]+ +yes +f32, int8", line) for line in lines(found))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(doctor_module, "torch_build", lambda: {"version": None, "build": None})
    assert "onnx-reference: onnx and onnxruntime not installed" in "\n".join(lines(doctor()))


def test_report_and_manifest_take_a_new_file(made_up: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    artifact = Artifact.save(tmp_path, target="onnx-reference", precision="f32", input_shape=(1,), runtime="1", files=("model.bin",))
    assert _options(artifact) == {}
    report = {"target": "onnx-reference", "model": {"name": "net"}, "original": None, "compressed": None, "verdict": "fail", "reasons": []}
    assert "onnx-reference" in headline(json.loads(json.dumps(report)))


def test_the_page_runs(made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines of Python, then its own test, and then int8."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(compile(blocks()[""], str(PAGE), "exec"), namespace)
    test_source = blocks()["tests/backends/test_onnx_reference.py"]
    exec(compile(test_source, "test_onnx_reference.py", "exec", dont_inherit=True), namespace)
    run = namespace["test_it_computes_what_the_formula_says"]
    assert callable(run)
    (tmp_path / "own").mkdir()
    run(tmp_path / "own")
    quantized = backend("onnx-reference").quantize(Path("model.onnx"), Path("int8"), np.asarray(namespace["images"]))
    with backend("onnx-reference").build(quantized) as session:
        assert [precision for name, precision in backend("onnx-reference").inspect(session).items() if name in "03"] == ["int8", "int8"]
