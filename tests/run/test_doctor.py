"""What a machine can run, told of machines that are made up: runtimes that are there, missing, half there or broken."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from optimize.errors import TargetUnavailable
from optimize.hardware.gpu import Gpu
from optimize.hardware.installed_packages import Package
from optimize.measure.energy import Meter, Meters
from optimize.measure.peaks import Peaks
from optimize.run import doctor as module
from optimize.run.doctor import Diagnosis, doctor, int8_instructions, lines, target
from tests.conftest import runnable
from tests.hardware.test_installed_packages import has
from tests.runs import command

PEAKS = Peaks({"torch": {"f32": 2e10}, "openvino": {"f32": 5e10, "int8": 2e11}}, 1e10, 3, 4.5)
H100 = {"name": "NVIDIA H100", "driver": "580.65", "memory_mib": 81559, "compute_capability": "9.0"}


def refuses(text: str) -> Any:
    def preflight() -> None:
        raise TargetUnavailable(text)

    return SimpleNamespace(preflight=preflight)


def breaks(problem: Exception) -> Any:
    def version() -> str:
        raise problem

    return SimpleNamespace(preflight=lambda: None, version=version)


def works(*precisions: str, obstacle: str | None = None) -> Any:
    return SimpleNamespace(preflight=lambda: None, version=lambda: "1", precisions=lambda: precisions, unavailable_reason=lambda: obstacle)


def made_up(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], **backends: Any) -> None:
    """A machine with these packages and backends; those not named refuse."""
    has(monkeypatch, installed)
    nothing = refuses("target 'x' cannot run here: it is not installed; pip install it.")
    monkeypatch.setattr(module, "backend", lambda name: backends.get(name, nothing))
    monkeypatch.setattr(module, "gpu", lambda: Gpu((), "no NVIDIA GPU or driver found"))
    monkeypatch.setattr(module, "meters", lambda: Meters((Meter("package-0", lambda: 0, 1),), ("no GPU is counted",)))
    here = {"cpu": "Some CPU", "physical_cores": 8, "logical_cores": 4, "isa": ("avx2", "avx512f", "avx512_vnni"), "memory_bytes": 16 << 30}
    monkeypatch.setattr("optimize.hardware.machine.instruction_sets", lambda: here["isa"])
    monkeypatch.setattr(module, "machine", lambda: here | {"os": "Linux 6", "python": "3.12.1"})
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=3 << 29))


def test_a_target_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"openvino": "2026.4", "nncf": "3"}, openvino=works("f32", "bf16"))
    found = target("openvino")
    assert (found.version, found.runs, found.reason, found.remedy) == ("2026.4", True, "", None)
    assert (found.precisions, found.int8_on) == (("f32", "bf16", "int8"), "AVX-512 VNNI")


@pytest.mark.parametrize(
    ("name", "runtime", "reason", "remedy"),
    [
        (
            "openvino",
            refuses("target 'openvino' cannot run here: nncf not installed; pip install 'optimize[openvino]'."),
            "nncf not installed",
            "pip install 'optimize[openvino]'",
        ),
        (
            "tensorrt",
            refuses("target 'tensorrt' cannot run here: no GPU; use target openvino or onnxruntime."),
            "no GPU",
            "pip install 'optimize[tensorrt]'",
        ),
        ("onnxruntime", refuses("another refusal."), "another refusal", "pip install 'optimize[onnxruntime]'"),
        (
            "openvino",
            breaks(ImportError("libtbb.so.12: cannot open\nmore")),
            "it is installed, but cannot be loaded: ImportError: libtbb.so.12: cannot open",
            "pip install 'optimize[openvino]'",
        ),
        ("openvino", breaks(RuntimeError()), "it is installed, but cannot be loaded: RuntimeError: ", "pip install 'optimize[openvino]'"),
    ],
)
def test_a_target_that_does_not(name: str, runtime: Any, reason: str, remedy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"openvino": "2026.4", "tensorrt-rtx-cu13": "1.7"}, **{name: runtime})
    found = target(name)
    assert (found.compiles, found.runs, found.reason, found.remedy) == (False, False, reason, remedy)
    assert (found.precisions, found.int8_on) == ((), None)


def test_a_target_that_only_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorrt-rtx-cu13": "1.7", "onnxruntime": "1"}
    made_up(monkeypatch, installed, **{"tensorrt-rtx": works("f32", "f16", obstacle="no GPU")})
    found = target("tensorrt-rtx")
    assert (found.compiles, found.runs, found.reason, found.precisions) == (True, False, "no GPU", ("f32", "f16", "int8"))
    text = lines(doctor())
    assert "tensorrt-rtx: it compiles here, but does not run: no GPU." in text
    assert "tensorrt-rtx  1.7        compiles only  f32, f16, int8  -" in text
    assert doctor().exit_code == 4


def test_any_of_a_runtimes_packages_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"tensorrt-rtx-cu13": "1.7", "tensorrt": "11", "tensorrt-cu12": "10"})
    assert (target("tensorrt-rtx").version, target("tensorrt").version) == ("1.7", "11")


def test_int8_of_a_gpu_runs_on_no_instructions_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {}, tensorrt=works("f32", "f16"))
    assert (target("tensorrt").runs, target("tensorrt").int8_on) == (True, None)


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        (("avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8"), "AMX"),
        (("avx2", "avx_vnni", "avx512f", "avx512_vnni"), "AVX-512 VNNI"),
        (("avx2", "avx_vnni"), "AVX-VNNI"),
        (("avx2", "avx512f"), "AVX-512 without VNNI"),
        (("avx", "fma", "avx2"), "AVX2"),
        (("asimd", "asimddp", "i8mm"), "i8mm"),
        (("asimd", "asimddp"), "Arm dot product"),
        (("asimd",), None),
        ((), None),
    ],
)
def test_what_int8_runs_on(isa: tuple[str, ...], expected: str | None) -> None:
    assert int8_instructions(isa) == expected


def test_without_any_runtime_the_code_is_4(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"torch": "2.13"})
    assert doctor().exit_code == 4
    code, text, problem = command("doctor")
    assert (code, problem) == (4, "")
    assert "pip install 'optimize[openvino]'" in text
    assert "pip install 'optimize[onnxruntime]'" in text
    assert json.loads(command("doctor", "--json")[1])["exit_code"] == 4


def test_the_command_prints_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"onnxruntime": "1.32"}, onnxruntime=works("f32"))
    code, text, problem = command("doctor", "--json")
    assert (code, problem) == (0, "")
    found = json.loads(text)
    assert set(found) == {"format", "exit_code", "targets", "machine", "gpu", "energy", "telemetry_on", "torch", "packages", "peaks"}
    assert [each["name"] for each in found["targets"]] == ["openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"]
    expected = {"name": "onnxruntime", "version": "1.32", "compiles": True, "runs": True, "reason": "", "precisions": ["f32", "int8"]}
    assert found["targets"][1] == expected | {"int8_on": "AVX-512 VNNI", "remedy": None}
    assert (found["machine"]["memory_available_bytes"], found["peaks"]) == (3 << 29, None)
    assert found == doctor().as_dict()


def test_peaks_are_measured_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"openvino": "1", "nncf": "1"}, openvino=works("f32"))
    asked: list[object] = []

    def peaks(targets: list[str], threads: int | None) -> Peaks:
        asked.append((targets, threads))
        return PEAKS

    monkeypatch.setattr("optimize.measure.peaks.peaks", peaks)
    assert doctor().peaks is None
    assert asked == []
    code, text, _ = command("doctor", "--roofline", "--threads", 3)
    assert (code, asked) == (0, [(["openvino"], 3)])
    assert "Peaks of this machine, 3 threads, with other processes using 4.5 % of it; copy bandwidth 10.0 GB/s" in text
    assert [line.split() for line in text.splitlines()[-2:]] == [["openvino", "f32", "50.0", "5.0"], ["openvino", "int8", "200.0", "20.0"]]
    assert json.loads(command("doctor", "--roofline", "--json")[1])["peaks"] == PEAKS.as_dict()
    assert command("doctor", "--roofline", "--threads", "0")[2].startswith("error: `--threads` (='0') must be a whole number, at least 1")
    assert command("doctor", "--threads", 2) == (2, "", "error: `--threads` (=2) is of --roofline: add that, or leave it out.\n")


def test_telemetry_that_is_on_already_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {}, onnxruntime=works("f32"))
    monkeypatch.setattr(module, "REPORTING", ("openvino", "nncf"))
    text = "\n".join(lines(found := doctor()))
    assert "on for openvino, nncf, imported before optimize: import optimize first" in text
    assert found.as_dict()["telemetry_on"] == ["openvino", "nncf"]


def test_every_fact_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"torch": "2.13.0"}, onnxruntime=works("f32"))
    monkeypatch.setattr(module, "gpu", lambda: Gpu((H100, H100 | {"compute_capability": "[N/A]"}), "", ("3g.20gb, device 0 of GPU 1",)))
    monkeypatch.setattr(module, "torch_build", lambda: {"version": "2.13.0", "build": "CUDA 13.0"})
    some = Package("nncf", None, "int8", "pip install it"), Package("scipy", "1", "required", None)
    monkeypatch.setattr(module, "packages", lambda: some)
    text = lines(doctor())
    facts = dict(line.split("  ", 1) for line in text if "  " in line)
    assert {name: said.strip() for name, said in facts.items() if name not in ("target", "missing")} == {
        "openvino": "no         no         -           -",
        "onnxruntime": "no         yes        f32, int8   AVX-512 VNNI",
        "tensorrt": "no         no         -           -",
        "tensorrt-rtx": "no         no         -           -",
        "processor": "Some CPU",
        "instruction sets": "avx2 avx512f avx512_vnni",
        "cores usable": "4 (8 physical)",
        "memory": "16.0 GiB, 1.5 GiB available",
        "GPU": "NVIDIA H100, 81559 MiB, driver 580.65, compute capability 9.0; NVIDIA H100, 81559 MiB, driver 580.65; MIG 3g.20gb, "
        "device 0 of GPU 1",
        "energy": "package-0; no GPU is counted",
        "telemetry": "off, also that of onnxruntime, openvino and nncf",
        "system": "Linux 6",
        "Python": "3.12.1",
        "torch": "2.13.0, built for CUDA 13.0",
        "nncf": "int8  pip install it",
    }
    assert "openvino: it is not installed; pip install 'optimize[openvino]'." in text


@pytest.mark.parametrize(
    ("cards", "remedy"),
    [
        (Gpu((), "no NVIDIA GPU or driver found"), None),
        (Gpu((), "nvidia-smi names no GPU"), None),
        (Gpu((), "nvidia-smi did not answer within 1.5 s"), "pip install 'optimize[tensorrt]'"),
        (Gpu((H100,), ""), "pip install 'optimize[tensorrt]'"),
    ],
)
def test_no_package_is_offered_in_place_of_a_gpu(cards: Gpu, remedy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, {"onnxruntime": "1"})
    monkeypatch.setattr(module, "gpu", lambda: cards)
    found = doctor()
    assert {each.name: each.remedy for each in found.targets}["tensorrt"] == remedy
    text = lines(found)
    missing = {line.split()[0]: line for line in text[text.index(next(line for line in text if line.startswith("missing"))) :]}
    assert f"tensorrt: it is not installed; {remedy or 'it needs an NVIDIA GPU'}." in text
    assert missing["tensorrt"].endswith(remedy or "it needs an NVIDIA GPU")
    assert missing["nvidia-ml-py"].endswith("pip install 'optimize[gpu]'" if remedy else "it needs an NVIDIA GPU")
    assert missing["tensorrt-rtx-cu13"].endswith("pip install 'optimize[tensorrt-rtx]'")


def test_a_machine_that_tells_little_is_told_of_all_the_same() -> None:
    here = {"cpu": "", "isa": (), "logical_cores": 1, "physical_cores": None, "memory_bytes": 1, "memory_available_bytes": 1}
    found = Diagnosis((), here | {"os": "", "python": ""}, Gpu((), "none"), {"version": None, "build": None}, ())
    text = "\n".join(lines(found))
    assert all(each in text for each in ("not known", "1 (unknown physical)", "not installed"))
    assert found.exit_code == 4


def test_this_machine_without_loading_torch() -> None:
    """The runtimes that the tests use run here, and torch is not loaded to find out."""
    expected = runnable()
    said = "print(json.dumps(found.as_dict())); assert 'torch' not in sys.modules"
    script = f"import sys, json; from optimize.run.doctor import doctor; found = doctor(); {said}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["exit_code"] == 0
    runs = {each["name"]: each for each in found["targets"] if each["runs"]}
    assert runs[expected]["version"]
    assert {"f32", "int8"} <= set(runs[expected]["precisions"])
