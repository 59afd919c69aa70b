"""`optimize verify`, and runs whose target compiles where it does not run: ONNX Runtime stands in for one, by a made-up obstacle."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

from optimize.backends import backend
from optimize.backends.artifact import Artifact
from optimize.errors import InputError, TargetUnavailable
from optimize.hardware.cpu_level import LEVELS
from optimize.hardware.gpu import Gpu
from optimize.report.render import render
from optimize.run.bundle import bundle
from optimize.run.cross_compiled import shell_name
from optimize.run.verification.verify import verify
from tests import runs, sealed
from tests.conftest import hurried
from tests.report.sample import passing
from tests.runs import Run

TARGET = "onnxruntime"
WHY = "no such processor"
SCHEMA = json.loads((Path(runs.__file__).parent.parent / "optimize" / "report" / "schema.json").read_text())

try:
    backend(TARGET).preflight()
except TargetUnavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)


@pytest.fixture(scope="module")
def left(brought: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose artifacts could not be run; it must not touch the test split nor time anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend(TARGET), "unavailable_reason", lambda: WHY)
        for module in ("quantization.precision_choice", "run.baselines", "searching.goal"):
            patch.setattr(f"optimize.{module}.interleave", lambda *_, **__: pytest.fail("it was timed"))
        patch.setattr("optimize.run.final_verdict.scores_on_test", lambda *_: pytest.fail("the test split was read"))
        hurried(patch, memory=False)
        return runs.compressed(brought, tmp_path_factory.mktemp("left") / "out", target=TARGET)


def copied(run: Run, folder: Path) -> Path:
    return Path(shutil.copytree(run.out, folder / "out"))


def test_what_could_not_be_run_is_inconclusive_and_says_what_to_do(left: Run) -> None:
    report = left.report
    assert (left.exit_code, report["verdict"], report["accepted"]) == (3, "inconclusive", False)
    assert report["reasons"] == [
        f"the onnxruntime artifact was compiled, but could not be run here ({WHY}): "
        "finish the verdict on a machine that can, with: optimize verify out "
        "(where the model, its network or the data lie elsewhere there, --model, --arch and --data say so)"
    ]
    assert all(report[name] is None for name in ("compressed", "artifact", "speedup", "baselines", "precision"))
    assert report["baseline"]["metrics"] is None
    jsonschema.validate(report, SCHEMA)
    assert not (left.out / "model").exists()
    compiled = {each["precision"]: each for each in report["unverified"]["compiled"]}
    assert set(compiled) == {"f32", "int8"}
    for precision, each in compiled.items():
        sizes = {file["name"]: file["bytes"] for file in each["files"]}
        home = left.out / "unverified" / TARGET / precision
        assert sizes == {name: (home / name).stat().st_size for name in sizes}
    assert report["unverified"]["parameters"] < report["baseline"]["parameters"]
    assert all(step["latency_ms"] is None for step in report["steps"])
    page = render(report)
    assert "Compiled, but not run" in page
    assert "optimize verify out" in page
    assert str(left.out.parent) not in page + json.dumps(report)


def test_it_can_be_bundled_and_says_that_it_never_ran(left: Run, tmp_path: Path) -> None:
    manifest = bundle(left.out, tmp_path / "b", not_accepted=True).manifest
    assert (manifest.verdict, manifest.accepted, manifest.precision, manifest.self_test) == ("unverified", False, "f32", None)
    assert "was never run" in str(manifest.warning)
    made = left.out / "unverified"
    for path, source in (
        ("onnx/model.onnx", made / "model.onnx"),
        ("onnx/original.onnx", made / "original.onnx"),
        ("model/model.onnx", made / TARGET / "f32" / "model.onnx"),
    ):
        assert (tmp_path / "b" / path).read_bytes() == source.read_bytes()
    use = Artifact.read(tmp_path / "b" / "model").use
    assert (use["output"]["shape"], use["output"]["classes"]) == (["N", 4], list(runs.CLASSES))
    assert use["defaults_suffice"] is None


@pytest.mark.parametrize(
    ("out", "named"), [("out", "out"), ("sub/my run", "sub/my run"), ("../it's", "../it's"), ("/far/off/my run", "my run")]
)
def test_the_folder_is_named_as_a_shell_takes_it(out: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a shell's own reading of it."""
    monkeypatch.chdir(tmp_path)
    assert shlex.split(shell_name(Path.cwd() / out)) == [named]


def test_a_latency_cannot_be_asked_for_where_none_is_measured(brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend(TARGET), "unavailable_reason", lambda: WHY)
    run = runs.compressed(brought, tmp_path / "out", "--speedup", "2x", target=TARGET)
    assert run.exit_code == 2
    assert WHY in run.stderr
    assert not run.out.exists()


def engine(folder: Path) -> Path:
    """An artifact of TensorRT for RTX, as far as can be told without opening it."""
    folder.mkdir(parents=True)
    (folder / "model.engine").write_bytes(b"engine")
    built = {"compute_capabilities": "8.6, 8.9"}
    Artifact.save(
        folder, target="tensorrt-rtx", precision="f16", input_shape=(1, 8, 8), runtime="1.7", files=("model.engine",), built=built
    )
    return folder


@pytest.mark.parametrize("left_open", [False, True])
def test_an_engine_without_a_gpu_says_which_one_it_is_for(left_open: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("optimize.backends.tensorrt_common", "optimize.backends.tensorrt_common.binding"):
        monkeypatch.setattr(f"{place}.gpu", lambda: Gpu((), "no GPU found"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    made = engine(tmp_path / "unverified" / "tensorrt-rtx" / "f16" if left_open else tmp_path / "model")
    if left_open:
        files = [file.as_dict() for file in Artifact.read(made).files]
        compiled = [{"target": "tensorrt-rtx", "precision": "f16", "why": "", "files": files}]
        open_still = {"verdict": "inconclusive", "accepted": False, "artifact": None, "precision": None, "compressed": None}
        sealed.told(tmp_path, passing() | open_still | {"files": [], "unverified": {"parameters": 1, "macs": 1, "compiled": compiled}})
    code, _, told = runs.command("verify", tmp_path)
    assert (code, told) == (
        4,
        f"error: target 'tensorrt-rtx' cannot run here: no GPU found; the engine in `{made}` is for compute capability 8.6, 8.9: "
        "call optimize verify on a machine with a GPU of such a capability.\n",
    )


def test_an_engine_that_lacks_more_than_a_gpu_says_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Gpu(({"name": "A10", "compute_capability": "8.6", "driver": "1"},), "")
    for place in ("optimize.backends.tensorrt_common", "optimize.backends.tensorrt_common.binding"):
        monkeypatch.setattr(f"{place}.gpu", lambda: found)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, _, told = runs.command("verify", engine(tmp_path / "model"))
    assert (code, told.count("\n")) == (4, 1)
    assert "the package tensorrt_rtx is not installed; pip install 'optimize[tensorrt-rtx]'" in told


def test_where_it_still_cannot_run_nothing_is_changed(left: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = copied(left, tmp_path)
    monkeypatch.setattr(backend(TARGET), "unavailable_reason", lambda: WHY)
    code, _, told = runs.command("verify", out)
    assert (code, told.count("\n")) == (4, 1)
    assert WHY in told
    assert (out / "report.json").read_bytes() == (left.out / "report.json").read_bytes()


def test_the_verdict_is_finished_here(left: Run, brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same candidate in the same precision gives the same answers, whoever called for them."""
    out = copied(left, tmp_path)
    hurried(monkeypatch, memory=False)
    code, printed, _ = runs.command("verify", out, "--json")
    report = json.loads((out / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    found = json.loads(printed)
    assert (code, found["outcome"], report["verdict"]) == (0, "pass", "pass")
    assert found["report"] == report
    assert report["unverified"] is None
    assert (out / "model" / "artifact.json").is_file()
    assert not (out / "unverified").exists()
    assert json.loads((out / "report.before.json").read_text())["verdict"] == "inconclusive"
    assert report["compressed"]["parameters"] == left.report["unverified"]["parameters"]
    assert [step["step"] for step in report["steps"]] == [step["step"] for step in left.report["steps"]]
    session = backend(TARGET).build(verify_artifact(out), threads=1)
    test = runs.split("test")
    right = float(np.mean(session.predict(test.inputs()).argmax(1) == test.labels))
    assert report["compressed"]["metrics"]["overall"]["accuracy"] == pytest.approx(right)
    # And again, of what is now a finished run: whole; and with its data, judged anew.
    assert runs.command("verify", out)[0] == 0
    again = verify(out, data=str(brought.parent / "data.npz"))
    assert again.outcome == "pass"
    assert any("overall accuracy" in line for line in again.findings)


def verify_artifact(out: Path) -> Artifact:
    return Artifact.read(out / "model")


def test_other_models_and_data_are_refused_and_the_run_stays(left: Run, brought: Path, tmp_path: Path) -> None:
    out = copied(left, tmp_path)
    other = tmp_path / "other"
    shutil.copytree(brought.parent, other)
    data = runs.arrays()
    data["test_images"] = data["test_images"] ^ 1
    np.savez(other / "data.npz", **data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`--data`: the test split is not that of the run"):
        verify(out, data=str(other / "data.npz"))
    (other / "model.pt").write_bytes((other / "model.pt").read_bytes() + b"x")
    with pytest.raises(InputError, match=r"`--model`: the model is not that of the run"):
        verify(out, model=other / "model.pt")
    assert (out / "report.json").read_bytes() == (left.out / "report.json").read_bytes()
    assert (out / "unverified").is_dir()


def test_an_interruption_leaves_the_run_as_it_was(left: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = copied(left, tmp_path)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optimize.run.final_verdict.final_verdict", stop)
    assert runs.command("verify", out)[0] == 130
    assert (out / "report.json").read_bytes() == (left.out / "report.json").read_bytes()
    assert (out / "unverified").is_dir()


@pytest.mark.parametrize("name", ["empty", "model only"])
def test_a_folder_that_holds_nothing_to_verify(name: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert "does not exist: check the path" in runs.command("verify", tmp_path / "nowhere")[2]
    code, _, told = runs.command("verify", tmp_path / "model" if name == "model only" else tmp_path)
    assert (code, told.count("\n")) == (2, 1)
    assert "holds no compiled model" in told


def test_an_altered_engine_is_refused(left: Run, tmp_path: Path) -> None:
    out = copied(left, tmp_path)
    file = next((out / "unverified" / TARGET / "f32").glob("*.onnx"))
    file.write_bytes(file.read_bytes() + b"x")
    code, _, told = runs.command("verify", out)
    assert (code, told.count("\n")) == (2, 1)
    assert "its file unverified/onnxruntime/f32/model.onnx is not the one that the report lists" in told
    assert (out / "report.json").is_file()


@pytest.fixture(scope="module")
def finished(left: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = copied(left, tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        hurried(patch, memory=False)
        assert runs.command("verify", out)[0] == 0
    return out


def test_a_model_that_answers_as_it_did_is_verified(finished: Path) -> None:
    code, told, _ = runs.command("verify", finished / "model")
    lines = told.splitlines()
    assert (code, lines[0]) == (0, "VERIFIED on this machine")
    assert lines[1] == "unsigned: anyone could have changed it"
    assert lines[3] == "no difference to the machine that verified it"
    assert lines[4].startswith("self-test: 16 inputs, 0 decisions changed")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--model", "no.pt"], "`--model` (=no.pt) is not used to check a finished model: add --data to judge the model again"),
        (["--arch", "no.py:x"], "`--arch` (=no.py:x) is not used to check a finished model: add --data"),
        (["--trust-pickle"], "`--trust-pickle` (=True) is not used to check a finished model: add --data"),
        (["--sign-key", "no.pem"], "`--sign-key` (=no.pem) is not used to check a finished model: leave it out."),
        (["--sign-key", "no.pem", "--data", "no.npz"], "`--sign-key` (=no.pem) is not used to check a finished model: leave it out."),
    ],
)
def test_what_a_check_does_not_look_at_is_refused(flags: list[str], text: str, finished: Path) -> None:
    code, printed, told = runs.command("verify", finished / "model", *flags)
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert told.startswith(f"error: {text}")


def test_a_model_that_answers_otherwise_is_refused(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is as it was sealed, but the runtime computes something else."""
    build = backend(TARGET).build

    def built(*arguments: Any, **named: Any) -> Any:
        session = build(*arguments, **named)
        right = session._run
        monkeypatch.setattr(session, "_run", lambda inputs: right(inputs) + np.linspace(0, 0.4, 4, dtype=np.float32) * right(inputs).std())
        return session

    monkeypatch.setattr(backend(TARGET), "build", built)
    code, told, _ = runs.command("verify", finished)
    assert (code, told.splitlines()[0]) == (1, "REFUSED on this machine")
    assert json.loads(runs.command("verify", finished, "--json")[1])["outcome"] == "fail"


def test_another_instruction_set_is_named(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.hardware.machine.instruction_sets", lambda: ("avx2", "avx_vnni"))
    told = runs.command("verify", finished)[1]
    there = json.loads((finished / "model" / "artifact.json").read_text())["built"]["isa"]
    assert f"verified on {LEVELS[there][0]}, here is AVX-VNNI" in told
    assert "unlike the one that verified it" in told


def test_a_model_without_a_self_test_is_judged_by_data_alone(finished: Path, brought: Path, tmp_path: Path) -> None:
    """As one from before there were any, whose report lists the model's files alone."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    path = out / "model" / "artifact.json"
    manifest, report = json.loads(path.read_text()), sealed.read(out)
    del manifest["golden"], manifest["built"], report["files"]
    path.write_text(json.dumps(manifest))
    (out / "model" / "golden.npz").unlink()
    sealed.told(out, report)
    code, told, _ = runs.command("verify", out)
    assert (code, told.splitlines()[0]) == (3, "INCONCLUSIVE on this machine")
    assert told.splitlines()[-1] == "it carries no self-test: without --data nothing is known of its answers on this machine"
    code, told, _ = runs.command("verify", out, "--data", brought.parent / "data.npz")
    assert (code, told.splitlines()[0]) == (0, "VERIFIED on this machine")
    assert "overall accuracy" in told


def resealed(model: Path, **manifest: object) -> Path:
    """The model's manifest, true again of the files as they are now, and with other entries."""
    path = model / "artifact.json"
    said = json.loads(path.read_text())
    for each in said["files"]:
        content = (model / each["name"]).read_bytes()
        each |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(said | manifest))
    return model


def newer(file: Path) -> None:
    """As a later ONNX would write it."""
    model = onnx.load(file)
    model.ir_version = 999
    onnx.save(model, file)


@pytest.mark.parametrize("spoil", [newer, lambda file: file.write_bytes(b"no model")], ids=["newer", "garbage"])
def test_a_model_that_the_runtime_here_cannot_open(finished: Path, spoil: Callable[[Path], object], tmp_path: Path) -> None:
    """With another version than the one that made it that is to blame; with the same it is the model."""
    model = Path(shutil.copytree(finished / "model", tmp_path / "model"))
    spoil(next(model.glob("*.onnx")))
    here = backend(TARGET).version()
    code, told, _ = runs.command("verify", resealed(model))
    assert (code, told.splitlines()[0]) == (1, "REFUSED on this machine")
    assert told.splitlines()[-1].startswith(f"{TARGET} {here} made it and cannot open it here (")
    code, _, told = runs.command("verify", resealed(model, runtime="99.1"))
    assert (code, told.count("\n")) == (4, 1)
    assert f"was made with {TARGET} 99.1, here is {here}, which cannot open it (" in told
    assert told.endswith(f"install {TARGET} 99.1, or make the artifact again with {here}.\n")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"precision": "int4"}, "has precision 'int4'"),
        ({"target": "tflite"}, "`target` (='tflite') must be one of"),
        ({"input_shape": [1, 8]}, "says that inputs are (1, 8), its model takes (1, 8, 8)"),
    ],
    ids=str,
)
def test_a_manifest_that_is_not_its_models_is_refused(finished: Path, entry: dict[str, object], told: str, tmp_path: Path) -> None:
    model = resealed(Path(shutil.copytree(finished / "model", tmp_path / "model")), **entry)
    for call in ("verify", "profile"):
        code, _, said = runs.command(call, model)
        assert (code, said.count("\n")) == (2, 1), call
        assert told in said


def test_a_self_test_needs_no_torch(finished: Path) -> None:
    verified = f"from pathlib import Path; from optimize.run.verification.verify import verify; verify(Path({str(finished)!r}))"
    code = f"import sys; {verified}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_any_altered_precision_ends_it(left: Run, tmp_path: Path) -> None:
    """One that is not the exact one is not passed over."""
    out = copied(left, tmp_path)
    file = next((out / "unverified" / TARGET / "int8").glob("*.onnx"))
    file.write_bytes(file.read_bytes() + b"x")
    code, _, told = runs.command("verify", out)
    assert (code, told.count("its file unverified/onnxruntime/int8/model.onnx is not the one that the report lists")) == (2, 1)
    assert (out / "report.json").read_bytes() == (left.out / "report.json").read_bytes()
    assert not (out / "report.before.json").exists()


def test_a_run_for_another_level_is_judged_on_this_one(
    finished: Path, brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    lock = out / "recipe.lock.toml"
    lock.write_text(lock.read_text().replace('cpu_level = "none"', 'cpu_level = "avx2"'))
    sealed.told(out, sealed.read(out))
    assert 'cpu_level = "avx2"' in lock.read_text()
    monkeypatch.setattr("optimize.run.setting_checks.restrict_level", lambda *_: pytest.fail("it was kept to another"))
    assert verify(out, data=str(brought.parent / "data.npz")).outcome == "pass"


def test_limits_in_the_lock_file_decide_nothing(finished: Path, brought: Path, tmp_path: Path) -> None:
    """A lock file that allows a loss of everything, beside a report that lists it as it now is: the report's limits are others."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    lock = out / "recipe.lock.toml"
    asked = lock.read_text()
    lock.write_text(asked.replace("max_drop = 0.04", "max_drop = 1.0"))
    data = brought.parent / "data.npz"
    code, _, told = runs.command("verify", out, "--data", data)
    assert (code, "its file recipe.lock.toml is not the one that the report lists" in told) == (2, True)
    for setting, other, name in (
        ("max_drop = 0.04", "max_drop = 1.0", "limits.max_drop = 1.0, the report 0.04"),
        ('verdict = "statistical"', 'verdict = "point"', "limits.verdict = 'point', the report 'statistical'"),
        ("seed = 0", "seed = 1", "seed = 1, the report 0"),
        ("net.py:net", "net.py:other", "arch = 'net.py:other', the report 'net.py:net'"),
        ('target = "onnxruntime"', 'target = "openvino"', "target = 'openvino', the report 'onnxruntime'"),
        ('"bar",', '"bart",', "classes = ['bart', 'disc', 'cross', 'ring'], the report ['bar', 'disc', 'cross', 'ring']"),
    ):
        assert setting in asked
        lock.write_text(asked.replace(setting, other))
        sealed.told(out, sealed.read(out))
        code, _, told = runs.command("verify", out, "--data", data)
        assert (code, told.count("\n")) == (2, 1)
        assert f"`recipe.lock.toml` says {name}" in told


def test_code_that_is_not_that_of_the_run_is_not_executed(finished: Path, brought: Path, tmp_path: Path) -> None:
    """The lock file names a Python file by its path alone; the ledger, which the report lists, has its hash."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    source = next(brought.parent.glob("*.py"))
    before = source.read_text()
    try:
        source.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'executed')!r}).touch()\n{before}")
        code, _, told = runs.command("verify", out, "--data", brought.parent / "data.npz")
        assert (code, told.count("\n")) == (2, 1)
        assert "which is not the file that the run had" in told
        assert not (tmp_path / "executed").exists()
    finally:
        source.write_text(before)
    assert runs.command("verify", out, "--data", brought.parent / "data.npz")[0] == 0


def named(**columns: np.ndarray) -> dict[str, np.ndarray]:
    """The run's data with further columns."""
    return runs.arrays() | columns


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (named(val_patient=np.arange(200), test_patient=np.arange(500, 620)), r"patients of the calibration split are not those"),
        (
            named(val_site_group=np.repeat(["a", "b"], 100), test_site_group=np.repeat(["a", "b"], 60)),
            r"patients, subgroups or names of the calibration split are not those",
        ),
        (named(test_id=np.arange(120)), r"patients, subgroups or names of the test split are not those"),
        ({name: each for name, each in runs.arrays().items() if "train" not in name}, r"there is a train split in the report alone"),
    ],
    ids=["patients", "groups", "names", "no train"],
)
def test_data_with_other_patients_or_groups_are_not_those_of_the_run(
    data: dict[str, np.ndarray], told: str, finished: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=told):
        verify(finished, data=str(tmp_path / "data.npz"))


def test_a_folder_from_elsewhere_uses_no_key_and_trusts_no_pickle_unasked(left: Run, finished: Path, brought: Path, tmp_path: Path) -> None:
    out = copied(left, tmp_path)
    lock = out / "recipe.lock.toml"
    asked = lock.read_text()
    lock.write_text(asked.replace('sign_key = "none"', 'sign_key = "/home/me/key.pem"'))
    sealed.told(out, sealed.read(out))
    code, _, told = runs.command("verify", out)
    assert (code, "names a key to sign with (/home/me/key.pem): pass it as --sign-key yourself, or --sign-key none" in told) == (2, True)
    lock.write_text(asked.replace("trust_pickle = false", "trust_pickle = true"))
    sealed.told(out, sealed.read(out))
    code, _, told = runs.command("verify", out)
    assert (code, "asks to trust a pickle, and no key vouches for it: pass --trust-pickle" in told) == (2, True)
    # Of a finished run no report is written, and none signed: whatever key the lock names is not looked for.
    done = Path(shutil.copytree(finished, tmp_path / "done"))
    (done / "recipe.lock.toml").write_text(
        (done / "recipe.lock.toml").read_text().replace('sign_key = "none"', 'sign_key = "/home/me/key.pem"')
    )
    sealed.told(done, sealed.read(done))
    assert verify(done, data=str(brought.parent / "data.npz")).outcome == "pass"


def test_an_open_run_that_was_signed_is_finished_and_signed_again(left: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another key signed, or what anyone altered, is not gone on with; what an interruption left is cleared away."""
    pytest.importorskip("cryptography")
    from tests import keys

    (key, public), (_, others) = keys.pair(tmp_path, "own"), keys.pair(tmp_path, "other")
    out = copied(left, tmp_path)
    sealed.told(out, sealed.read(out), key)
    before = (out / "report.json").read_bytes()
    assert runs.command("verify", out, "--public-key", others)[0] == 2
    candidate = out / "unverified" / "candidate.safetensors"
    content = candidate.read_bytes()
    candidate.write_bytes(content[::-1])
    monkeypatch.setattr("optimize.run.prepare.load_model", lambda **_: pytest.fail("a model was loaded"))
    code, _, told = runs.command("verify", out, "--public-key", public)
    assert (code, "its file unverified/candidate.safetensors is not the one" in told) == (2, True)
    candidate.write_bytes(content)
    monkeypatch.undo()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("optimize.run.compile_artifact.profile", stop)  # after the self-test was written
        assert runs.command("verify", out, "--public-key", public)[0] == 130
    assert (out / "report.json").read_bytes() == before
    assert {path.name for path in out.iterdir()} == {path.name for path in left.out.iterdir()}
    hurried(monkeypatch, memory=False)
    assert runs.command("verify", out, "--public-key", public, "--sign-key", key)[0] == 0
    found = verify(out, public_key=str(public))
    assert (found.outcome, found.findings[0].endswith("the key that you gave")) == ("pass", True)
    assert "report.before.json" in {file["name"] for file in sealed.read(out)["files"]}
    (out / "report.before.json").write_bytes(before + b" ")
    with pytest.raises(InputError, match=r"its file report\.before\.json"):
        verify(out, public_key=str(public))
