"""The examples in docs/ci: their YAML is parsed, their shell lines are run, and the gate that they call is called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import require
from tests.deploy.gate import tiny
from tests.deploy.gate.tiny import Measured
from tests.docs.pages import ROOT
from tests.docs.test_code_blocks import check_pip
from tests.runs import command

FOLDER = ROOT / "docs/ci"


def github() -> list[str]:
    job = yaml.safe_load((FOLDER / "github.yml").read_text())["jobs"]["gate"]
    return [step["run"] for step in job["steps"] if "run" in step]


def gitlab() -> list[str]:
    lines: list[str] = yaml.safe_load((FOLDER / "gitlab.yml").read_text())["gate"]["script"]
    return lines


def jenkins() -> list[str]:
    text = (FOLDER / "Jenkinsfile").read_text()
    # Groovy takes a backslash and the line's end out of a string in ''', as the shell does
    return [script.replace("\\\n", "") for script in re.findall(r"'''(.*?)'''", text, re.DOTALL)]


SCRIPTS = {"github": github, "gitlab": gitlab, "jenkins": jenkins}
STUB = '#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done > "$RECORD"\nexit "$GATE_EXIT"\n'


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with models and data, in which every program but the shell is a stub."""
    monkeypatch.chdir(tmp_path)
    for folder in ("stubs", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
        for program, text in (("optimize", STUB), ("pip", "#!/bin/sh\n"), ("python3", "#!/bin/sh\n")):
            (tmp_path / folder / program).write_text(text)
            (tmp_path / folder / program).chmod(0o755)
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    for name in ("baseline", "candidate"):
        tiny.network(tmp_path / f"models/{name}.onnx")
    tiny.data(tmp_path / "data/cells.npz")
    return tmp_path


def run(job: Path, scripts: list[str], gate_exit: int) -> int:
    """The exit code of the job's shell lines, each block in a shell that stops at the first error."""
    environment = {
        **{"PATH": f"{job}/stubs:{os.environ['PATH']}", "RECORD": str(job / "record"), "GATE_EXIT": str(gate_exit)},
        "GITHUB_STEP_SUMMARY": str(job / "summary.md"),
    }
    for script in scripts:
        done = subprocess.run(["bash", "-e", "-c", script], cwd=job, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.returncode
    return 0


@pytest.mark.parametrize("system", SCRIPTS)
def test_the_gate_is_called_as_the_command_takes_it(system: str, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("onnxruntime")
    assert run(job, SCRIPTS[system](), 0) == 0
    words = (job / "record").read_text().splitlines()
    for ratio, code in ((1.0, 0), (2.0, 1)):
        Measured(monkeypatch, ratio=ratio)
        found, stdout, stderr = command(*words)
        assert found == code, stdout + stderr
    assert (job / "gate.xml").exists()
    assert len((job / "gate.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("system", "gate_exit", "job_exit"),
    [("github", 1, 1), ("github", 2, 2), ("github", 3, 0), ("gitlab", 1, 1), ("gitlab", 3, 3), ("jenkins", 3, 3)],
)
def test_a_job_ends_as_its_gate_does(system: str, gate_exit: int, job_exit: int, job: Path) -> None:
    """GitHub's script makes a warning of 3; GitLab and Jenkins see the code itself and do it by their own settings."""
    assert run(job, SCRIPTS[system](), gate_exit) == job_exit


def test_an_undecided_gate_is_a_warning_everywhere() -> None:
    settings: dict[str, Any] = yaml.safe_load((FOLDER / "gitlab.yml").read_text())["gate"]
    assert settings["allow_failure"]["exit_codes"] == 3
    assert settings["artifacts"]["reports"]["junit"] == "gate.xml"
    text = (FOLDER / "Jenkinsfile").read_text()
    assert re.search(r"status == 3\) \{\s*unstable\(", text)
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("system", SCRIPTS)
def test_what_is_installed_exists(system: str) -> None:
    lines = [line for script in SCRIPTS[system]() for line in script.splitlines() if "pip install" in line]
    assert len(lines) == 1
    assert shlex.split(lines[0])[-1] == "optimize[onnxruntime,gate]"
    check_pip(lines[0])
