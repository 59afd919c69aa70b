"""`optimize gate` from its call to its files; what would be measured is made up (`tests/deploy/gate/tiny.py`)."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from optimize.deploy.gate import fingerprint
from optimize.errors import InputError, TargetUnavailable
from optimize.run.gate import gate
from optimize.run.gate_settings import gate_plan
from tests.conftest import require
from tests.deploy.gate import tiny
from tests.deploy.gate.tiny import Measured
from tests.runs import command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a baseline `old` and a candidate `new`, the same network."""
    require("onnxruntime")
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    tiny.artifact(tmp_path / "old")
    tiny.artifact(tmp_path / "new")
    return tmp_path


def called(*words: object) -> tuple[int, dict[str, Any]]:
    code, stdout, stderr = command("gate", *words, "--json")
    return code, json.loads(stdout) if stdout else {"error": stderr}


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {figure["name"]: figure["outcome"] for figure in found["criteria"]}


PAIR = ("--baseline", "old", "--candidate", "new")


@pytest.mark.parametrize(
    ("ratio", "decided", "code", "outcome"), [(1.0, True, 0, "pass"), (2.0, True, 1, "fail"), (1.0, False, 3, "inconclusive")]
)
def test_latency_alone_decides_by_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, decided: bool, code: int, outcome: str
) -> None:
    Measured(monkeypatch, ratio=ratio, decided=decided)
    found_code, found = called(*PAIR)
    assert (found_code, found["outcome"], found["exit_code"]) == (code, outcome, code)
    assert outcomes(found) == {
        "latency, batch 1": outcome,
        **dict.fromkeys(("peak memory", "cold start", "size on disk", "multiply-accumulates"), "not judged"),
    }


def test_every_limit_that_is_asked_for_is_judged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(monkeypatch)
    tiny.artifact(folder / "big", ballast=5_000_000)
    limits = ("--max-memory-growth", "5%", "--max-cold-start-growth", "5%", "--max-size-growth", "1%", "--max-mac-growth", "0%")
    code, found = called("--baseline", "old", "--candidate", "big", "--batches", "1,8", *limits)
    assert code == 1
    assert outcomes(found) == {
        **{"latency, batch 1": "pass", "latency, batch 8": "pass", "peak memory": "fail", "cold start": "pass", "size on disk": "fail"},
        "multiply-accumulates": "pass",
    }
    assert measured.starts == 16  # eight processes of each model
    memory = next(figure for figure in found["criteria"] if figure["name"] == "peak memory")
    assert memory["change"] == pytest.approx(20_000_000 / 50_000_000, rel=0.01)
    assert memory["low"] <= memory["change"] <= memory["high"]


def test_all_outputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)
    monkeypatch.setenv("CI_COMMIT_SHA", "1a2b3c")
    (folder / "summary.md").write_text("# before\n")
    files = ("--junit", "j.xml", "--summary", "summary.md", "--history", "h.jsonl", "--out", "o.json")
    for _ in range(2):
        assert command("gate", *PAIR, *files)[0] == 0
    assert (folder / "summary.md").read_text().startswith("# before\n## ✅ pass")
    assert [json.loads(line)["commit"] for line in (folder / "h.jsonl").read_text().splitlines()] == ["1a2b3c"] * 2
    assert json.loads((folder / "o.json").read_text())["criteria"][0]["samples"][0]["baseline_ns"]
    assert "testsuite" in (folder / "j.xml").read_text()
    code, stdout, _ = command("gate", "--history", "h.jsonl", "--html", "page.html")
    assert code == 0
    assert "latency, batch 1 of new" in stdout
    assert "1a2b3c" in (folder / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "`--candidate` is missing"),
        (("--candidate", "new"), "`--baseline` is missing"),
        (("--baseline", "old", "--candidate", "none"), "does not exist"),
        ((*PAIR, "--max-slowdown", "5pp"), "write it in percent"),
        ((*PAIR, "--max-slowdown", "0%"), "above 0"),
        ((*PAIR, "--max-slowdown", "much"), "must be a share"),
        ((*PAIR, "--max-slowdown", "5"), "must be a share such as 5% or 0.05"),
        ((*PAIR, "--target", "nope"), "`--target` (='nope')"),
        ((*PAIR, "--target", "openvino"), "neither side is one"),
        (("--candidate", "new", "--write-baseline", "b.json", "--target", "openvino"), "neither side is one"),
        ((*PAIR, "--threads", "1000"), "cores of this machine"),
        ((*PAIR, "--max-drop", "1pp"), "needs labelled data"),
        ((*PAIR, "--batches", "1,1"), "none twice"),
        ((*PAIR, "--write-baseline", "b.json"), "leave out --baseline"),
        ((*PAIR, "--html", "p.html"), "page of a history"),
        ((*PAIR, "--junit", "nowhere/j.xml"), "cannot be written"),
        (("--history", "none.jsonl"), "does not exist"),
        (("--history", "h.jsonl", "--batches", "1"), "has no use when a history is shown"),
        (("--candidate", "new", "--write-baseline", "b.json", "--max-size-growth", "1%"), "has no use with --write-baseline"),
        (("--baseline", "old", "--candidate", "new.pt"), "none of what a gate opens"),
        (("--baseline", "wrong.json", "--candidate", "new"), "no stored baseline"),
        (("--baseline", "wide.onnx", "--candidate", "new"), "compare models of the same inputs"),
    ],
)
def test_wrong_calls(folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], text: str) -> None:
    Measured(monkeypatch)
    (folder / "new.pt").write_bytes(b"")
    (folder / "wrong.json").write_text("{}")
    wide(folder / "wide.onnx")
    code, stdout, stderr = command("gate", *words)
    assert (code, stdout) == (2, "")
    assert text in stderr
    assert stderr.count("\n") == 1


def wide(path: Path) -> None:
    import onnx

    model = onnx.load(tiny.network(path))
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_value = 8
    onnx.save(model, path)


def test_accuracy_is_compared_with_each_models_own_preprocessing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)
    tiny.data(folder / "d.npz")
    # right with what it says is to be subtracted, and wrong without
    tiny.artifact(folder / "inverted", sign=-1.0, mean=(1.0,), std=(1.0,))
    tiny.artifact(folder / "wrong", sign=-1.0)
    code, found = called("--baseline", "old", "--candidate", "inverted", "--data", "d.npz", "--max-class-drop", "5pp")
    assert code == 0, found
    assert outcomes(found)["overall accuracy"] == "pass"
    assert [name for name in outcomes(found) if "recall" in name] == ["recall of left", "recall of right"]
    code, found = called("--baseline", "old", "--candidate", "wrong", "--data", "d.npz")
    assert code == 1
    assert outcomes(found)["overall accuracy"] == "fail"
    assert outcomes(found)["recall of left"] == "not judged"


def test_an_onnx_file_is_read_as_the_other_side_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)
    tiny.data(folder / "d.npz")
    tiny.artifact(folder / "inverted", sign=-1.0, mean=(1.0,), std=(1.0,))
    tiny.network(folder / "inverted.onnx", sign=-1.0)
    assert called("--baseline", "inverted.onnx", "--candidate", "inverted", "--data", "d.npz")[0] == 0
    assert called("--baseline", "inverted", "--candidate", "inverted.onnx", "--data", "d.npz")[0] == 0
    # neither states anything: uint8 over 255
    tiny.network(folder / "plain.onnx")
    code, found = called("--baseline", "plain.onnx", "--candidate", "plain.onnx", "--data", "d.npz")
    accuracy = next(figure for figure in found["criteria"] if figure["criterion"] == "max_drop")
    assert (code, accuracy["candidate"]) == (0, 1.0)


LIMITS = ("--max-memory-growth", "5%", "--max-cold-start-growth", "50%", "--max-size-growth", "0%", "--max-mac-growth", "0%")


def stored(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """A stored baseline of `old`, which is then removed."""
    Measured(monkeypatch, **settings)
    assert command("gate", "--candidate", "old", "--write-baseline", "b.json", "--data", tiny.data(folder / "d.npz"))[0] == 0
    (folder / "old").rename(folder / "gone")


def test_a_stored_baseline_is_believed_on_the_same_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder, monkeypatch)
    code, found = called("--baseline", "b.json", "--candidate", "new", "--data", "d.npz", *LIMITS)
    assert code == 0, found["reasons"]
    Measured(monkeypatch, ratio=1.5)
    code, found = called("--baseline", "b.json", "--candidate", "new")
    assert code == 1
    assert outcomes(found)["latency, batch 1"] == "fail"


def test_a_machine_that_became_slower_is_no_regression(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder, monkeypatch)
    Measured(monkeypatch, ratio=1.5)
    monkeypatch.setattr("optimize.deploy.gate.evidence.fixed_work_ms", lambda: 1.5)
    assert called("--baseline", "b.json", "--candidate", "new")[0] == 3


def test_a_machine_of_another_speed_decides_nothing_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder, monkeypatch)
    Measured(monkeypatch)
    monkeypatch.setattr("optimize.deploy.gate.evidence.fixed_work_ms", lambda: 2.0)
    code, found = called("--baseline", "b.json", "--candidate", "new")
    assert code == 3
    assert any("computes 0.5 times as fast as when the baseline was stored" in reason for reason in found["reasons"])


def test_an_output_that_cannot_be_written_stops_no_other_and_the_verdict_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)
    monkeypatch.setattr("optimize.run.gate_outputs.append", _full)
    code, found = called(*PAIR, "--history", "h.jsonl", "--junit", "j.xml", "--out", "o.json")
    assert code == 2
    assert "`--history`" in found["error"]
    assert found["error"].endswith("The verdict was: pass.")
    assert (folder / "j.xml").is_file()
    assert (folder / "o.json").is_file()


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_on_another_machine_it_is_not_believed_and_says_how_to_measure_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder, monkeypatch)
    there = fingerprint.machine()
    monkeypatch.setattr("optimize.deploy.gate.fingerprint.machine", lambda: {**there, "cpu": "Another CPU"})
    code, found = called("--baseline", "b.json", "--candidate", "new", "--data", "d.npz", *LIMITS)
    assert code == 3
    believed = {"size on disk", "multiply-accumulates"}
    assert {name for name, outcome in outcomes(found).items() if outcome == "pass"} == believed
    reason = found["criteria"][0]["reason"]
    assert "here is 'Another CPU'" in reason
    # the command that is named measures it again, here
    (folder / "gone").rename(folder / "old")
    words = shlex.split(reason.rpartition("with: ")[2])
    assert words[:2] == ["optimize", "gate"]
    assert command(*words[1:])[0] == 0
    (folder / "old").rename(folder / "gone")
    assert called("--baseline", "b.json", "--candidate", "new", "--data", "d.npz")[0] == 0


def test_what_was_not_stored_is_inconclusive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder, monkeypatch)
    code, found = called("--baseline", "b.json", "--candidate", "new", "--batches", "1,8")
    assert (code, outcomes(found)["latency, batch 8"]) == (3, "inconclusive")
    assert called("--baseline", "b.json", "--candidate", "new", "--threads", "2")[0] == 3
    tiny.data(folder / "other.npz", 100)
    code, found = called("--baseline", "b.json", "--candidate", "new", "--data", "other.npz")
    assert "outputs of other cases" in "".join(found["reasons"])


def test_a_stored_baseline_whose_model_is_there_is_measured_side_by_side(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(folder, monkeypatch)
    (folder / "gone").rename(folder / "old")
    there = fingerprint.machine()
    monkeypatch.setattr("optimize.deploy.gate.fingerprint.machine", lambda: {**there, "cpu": "Another CPU"})
    code, found = called("--baseline", "b.json", "--candidate", "new")
    assert code == 0
    assert "side by side" in found["notes"][0]
    # another model at that place is not the baseline
    for file in (folder / "old").iterdir():
        file.unlink()
    (folder / "old").rmdir()
    tiny.artifact(folder / "old", layers=2)
    code, found = called("--baseline", "b.json", "--candidate", "new")
    assert code == 3
    assert "another model" in found["notes"][0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda content: content["fingerprint"].update(cpu="X"), "fingerprint was changed"),
        (lambda content: content.update(format=2), "has format 2"),
        (lambda content: content.pop("figures"), "is damaged"),
        (lambda content: content.update(fixed_work_ms=0), "fixed_work_ms is 0"),
        (lambda content: content["figures"].update(max_slowdown={"1": ["fast"] * 8}), "max_slowdown is no list of numbers above 0"),
        (lambda content: content["figures"].update(max_slowdown={"1": []}), "max_slowdown is no list of numbers above 0"),
        (lambda content: content["figures"].update(max_memory_growth=[-1.0]), "max_memory_growth is no list of numbers above 0"),
    ],
)
def test_a_damaged_baseline_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, change: Any, text: str) -> None:
    stored(folder, monkeypatch)
    content = json.loads((folder / "b.json").read_text())
    change(content)
    (folder / "b.json").write_text(json.dumps(content))
    code, found = called("--baseline", "b.json", "--candidate", "new")
    assert code == 2
    assert text in found["error"]


def test_a_runtime_that_is_not_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)

    def missing() -> None:
        raise TargetUnavailable("target 'onnxruntime' cannot run here: it is not installed.")

    monkeypatch.setattr("optimize.backends.targets.onnxruntime.preflight", missing)
    assert called(*PAIR)[0] == 4


def test_from_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Measured(monkeypatch)
    result = gate("old", "new", max_slowdown=0.1, max_size_growth="0%")
    assert result
    assert result.exit_code == 0
    with pytest.raises(InputError, match="did you mean 'max_slowdown'"):
        gate("old", "new", max_slow=0.1)


def test_limits_of_settings() -> None:
    plan = gate_plan({"max_slowdown": "none", "max_cold_start_growth": "200%"})
    assert (plan.limits["max_slowdown"], plan.limits["max_cold_start_growth"], plan.limits["max_size_growth"]) == (None, 2.0, None)
