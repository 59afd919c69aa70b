"""The command: exit codes, one line for what the user can mend, one JSON document, and a run that survives being killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from optimize import cli
from optimize.cli import main
from optimize.cli.compress import MOST_USED
from optimize.errors import InputError
from optimize.progress import COLUMNS, note
from tests import conftest, runs
from tests.report.sample import failing, inconclusive, passing
from tests.runs import Run, command

ROOT = Path(__file__).parent.parent.parent
SHIPPED = {"bundle", "compress", "demo", "doctor", "gate", "init", "plan", "profile", "protocol", "report", "verify"}
"""Commands that this version has; a new file needs no entry."""


def compress(model: Path, out: Path, *flags: object, target: str = "onnxruntime") -> tuple[int, str, str]:
    return command("compress", model, "--target", target, "--out", out, *flags)


def refusal(model: Path, out: Path, *flags: object, target: str) -> str:
    """The one line of a call that is wrong."""
    code, stdout, stderr = compress(model, out, *flags, target=target)
    assert (code, stdout) == (2, "")
    lines = stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "Traceback" not in stderr
    return lines[0]


@pytest.mark.parametrize("name", main.commands)
def test_every_command_has_help_and_stands_in_the_readme(name: str) -> None:
    code, text, _ = command(name, "--help")
    assert code == 0
    said = main.commands[name]
    assert said.help
    assert " ".join(said.help.split(".")[0].split()) in " ".join(text.split())
    assert name not in SHIPPED or f"optimize {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "optimize", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == command("--help")[1]


@pytest.mark.parametrize("name", main.commands)
def test_every_option_says_what_it_is(name: str) -> None:
    options = [each for each in main.commands[name].params if isinstance(each, click.Option) and each.name != "help"]
    assert options or name == "report" or name not in SHIPPED
    assert all(option.help for option in options)


def test_help_and_version_of_the_whole() -> None:
    for flags in (["--help"], ["-h"]):
        code, text, _ = command(*flags)
        assert code == 0
        assert all(name in text for name in main.commands)
    assert command("--version")[1].startswith("optimize, version ")
    assert set(main.commands) >= SHIPPED


def test_a_command_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without a command of its own name adds none, whatever else is in it."""
    (tmp_path / "weigh_up.py").write_text("import click\n@click.command()\ndef weigh_up():\n    'Weigh a model.'\n    print('heavy')\n")
    (tmp_path / "scales.py").write_text("from optimize.cli.weigh_up import weigh_up\nscales = 3\n")
    for name in ("weigh_up", "scales"):
        monkeypatch.delitem(sys.modules, f"optimize.cli.{name}", raising=False)
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    found = {command.name: command for command in cli._commands()}
    assert set(found) == {*main.commands, "weigh-up"}
    assert CliRunner().invoke(found["weigh-up"]).stdout == "heavy\n"
    for name in ("weigh_up", "scales"):
        monkeypatch.delitem(sys.modules, f"optimize.cli.{name}")


def test_the_help_groups_the_options_with_the_ten_that_matter_first() -> None:
    text = command("compress", "--help")[1]
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert [heading.partition(":")[0] for heading in headings] == [
        *("Most used", "What to compress, and for what", "Data", "Limits", "Search", "Run and output", "Other options")
    ]
    first = text.partition("Most used:")[2].partition("\n\n")[0]
    flags = re.findall(r"^  (--[a-z-]+)", first, re.MULTILINE)
    assert flags[:4] == ["--target", "--data", "--arch", "--out"]
    assert len(flags) == len(MOST_USED) == 10
    assert all(text.count(f"\n  {flag} ") == 1 for flag in flags)


@pytest.mark.parametrize("name", main.commands)
def test_the_help_is_plain_text_of_80_columns(name: str) -> None:
    text = command(name, "--help")[1]
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_help_needs_no_torch() -> None:
    script = "import sys; from optimize.cli import main; main(['compress', '-h'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--max-class-drop" in done.stdout


@pytest.mark.parametrize(
    ("end", "code"), [("accepted_onnxruntime", 0), ("accepted_openvino", 0), ("rejected", 1), ("inconclusive", 3), ("hopeless", 1)]
)
def test_the_exit_code_is_the_verdict_and_stdout_is_the_report(end: str, code: int, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(end)
    assert run.exit_code == code
    assert json.loads(run.stdout) == run.report
    assert run.stdout.count("\n") == 1
    assert "Traceback" not in run.stderr


def test_verbose_gives_the_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run itself is a stand-in."""

    def run(*_: object, **__: object) -> dict[str, Any]:
        note("kept", ["why"])
        return passing()

    monkeypatch.setattr("optimize.run.compress.compress", run)
    assert compress(tmp_path / "model.pt", tmp_path / "out")[2] == "kept\n"
    for flag in ("-v", "--verbose"):
        assert compress(tmp_path / "model.pt", tmp_path / "out", flag)[2] == "kept\n    why\n"


def test_progress_is_short_lines_that_end(accepted: Run) -> None:
    lines = accepted.stderr.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    trials = [line for line in lines if re.match(" *(kept|rolled back)  ", line)]
    assert len(trials) == len(accepted.ledger) - 1
    assert all(" % of parameters off: " in line and "chance" not in line for line in trials)


@pytest.mark.parametrize(("made", "code"), [(passing, 0), (failing, 1), (inconclusive, 3)])
def test_without_json_a_few_lines_are_printed(made: Any, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run itself is a stand-in."""
    monkeypatch.setattr("optimize.run.compress.compress", lambda recipe, **_: made())
    found, stdout, _ = compress(tmp_path / "model.pt", tmp_path / "out")
    assert found == code
    assert stdout.startswith({0: "ACCEPTED: ", 1: "REJECTED: ", 3: "INCONCLUSIVE: "}[code])
    assert stdout.splitlines()[-1] == f"report: {tmp_path / 'out' / 'report.html'}"


def test_a_target_that_cannot_run_is_found_out_before_the_model_is_read(tmp_path: Path) -> None:
    code, stdout, stderr = compress(tmp_path / "no.pt", tmp_path / "out", target="tensorrt")
    assert (code, stdout) == (4, "")
    assert re.fullmatch(r"error: target 'tensorrt' cannot run here: .*\n", stderr)
    assert not (tmp_path / "out").exists()


def test_errors_are_json_too(tmp_path: Path) -> None:
    code, stdout, stderr = compress(tmp_path / "no.pt", tmp_path / "out", "--json", target="tensorrt")
    found = json.loads(stdout)
    assert code == found["exit_code"] == 4
    assert stderr == f"error: {found['error']}\n"


def test_what_is_wrong_takes_one_line(brought: Path, any_target: str, tmp_path: Path) -> None:
    def line(*flags: object, model: Path = brought) -> str:
        return refusal(model, tmp_path / "out", *flags, target=any_target)

    assert "`model` (=" in line("--data", brought.parent / "data.npz", "--input", "1,8,8", model=tmp_path / "no.pt")
    assert "does not exist" in line("--data", tmp_path / "no.npz")
    assert "'nothing'" in line("--arch", f"{brought.parent}/net.py:nothing")
    assert "`--max-drop` (='a lot')" in line("--max-drop", "a lot")
    assert "`--seed` (='-1')" in line("--seed", "-1")
    for flag in ("--threads", "--batch", "--seed"):
        assert f"`{flag}` (='{'9' * 22}') must be a whole number, at least " in line(flag, "9" * 22, model=tmp_path / "no.pt")
    assert "`mean` has 2 values and `std` 1" in line("--mean", "0.5,0.5")
    assert "`--recipe`" in line("--recipe", tmp_path / "no.toml")
    assert "exclude each other" in line("--resume", "--overwrite")
    assert "`--compute-capability` (='9.0') must be some of 7.5, 8.0, " in line("--compute-capability", "9.0")
    assert f"is for target tensorrt-rtx: leave it out with target {any_target}." in line("--compute-capability", "8.6,8.9")


def test_the_wrong_network_is_named(brought: Path, any_target: str, tmp_path: Path) -> None:
    wide = tmp_path / "wide.py"
    wide.write_text(runs.NET.replace("width: int = 8", "width: int = 9"))
    text = refusal(brought, tmp_path / "out", "--arch", f"{wide}:net", target=any_target)
    assert "0.weight" in text
    wide.write_text("def net(): raise ValueError('no\\nsuch luck')")
    assert "ValueError" in refusal(brought, tmp_path / "out", "--arch", f"{wide}:net", target=any_target)


class Pickled(nn.Linear):
    """A module that is saved whole."""


def test_a_pickle_is_refused_with_what_to_do(brought: Path, any_target: str, tmp_path: Path) -> None:
    torch.save(Pickled(2, 2), tmp_path / "whole.pt")
    text = refusal(tmp_path / "whole.pt", tmp_path / "out", "--input", "1,8,8", "--data", brought.parent / "data.npz", target=any_target)
    assert "is a pickle that wants to run" in text
    assert "--trust-pickle if you trust its author" in text


def test_a_folder_that_cannot_be_written(brought: Path, any_target: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(brought, tmp_path / "file", target=any_target)


def test_a_run_that_is_there_is_not_replaced_unasked(accepted: Run, brought: Path) -> None:
    text = refusal(brought, accepted.out, target=accepted.report["target"])
    assert "already holds a run (ledger.jsonl): add --resume, --overwrite, or name another folder" in text


def test_wrong_flags_and_missing_ones(tmp_path: Path) -> None:
    assert command("compress", "model.pt", "--nonsense")[0] == 2
    assert command("nonsense")[0] == 2
    code, _, stderr = command("compress")
    assert (code, len(stderr.splitlines())) == (2, 1)
    code, _, stderr = command("compress", tmp_path / "model.pt")
    assert code == 2
    assert "`target` is missing" in stderr


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("profile", "missing argument 'MODEL...': see `optimize profile --help`."),
        ("doctor extra", "got unexpected extra argument (extra): see `optimize doctor --help`."),
        ("--nope", "no such option '--nope': see `optimize --help`."),
        ("nonsense", "no such command 'nonsense': see `optimize --help`."),
        ("compress --target", "option '--target' requires an argument: see `optimize compress --help`."),
        ("doctor --nope", "no such option '--nope': see `optimize doctor --help`."),
        (
            "-v compress m.pt",
            "option '-v' stands before the command: write it behind, as in `optimize compress -v`: see `optimize compress --help`.",
        ),
        (
            "compress m.pt --max-dorp 2pp",
            "no such option '--max-dorp'. Did you mean one of: '--max-class-drop', '--max-drop', '--max-group-drop'? "
            "See `optimize compress --help`.",
        ),
    ],
)
def test_a_wrong_call_takes_one_line(call: str, text: str) -> None:
    assert command(*call.split()) == (2, "", f"error: {text}\n")


@pytest.mark.parametrize("call", ["profile --json", "doctor --json --nope", "doctor extra --json"])
def test_a_wrong_call_is_json_too(call: str) -> None:
    code, stdout, stderr = command(*call.split())
    found = json.loads(stdout)
    assert code == found["exit_code"] == 2
    assert stderr == f"error: {found['error']}\n"


def test_without_a_command_the_help_is_shown() -> None:
    code, stdout, stderr = command()
    assert (code, stdout) == (2, "")
    assert all(name in stderr for name in main.commands)


def test_control_c_before_a_command_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "parse_args", interrupted)
    assert command("doctor") == (130, "", "\ninterrupted: run it again.\n")


def test_a_killed_run_goes_on_where_it_was(brought: Path, any_target: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    straight: Run = request.getfixturevalue(f"accepted_{any_target}")  # before the other process starts: both use one latency table
    out = tmp_path / "out"
    arguments = ["compress", str(brought), "--target", any_target, "--out", str(out)]
    ledger = out / "ledger.jsonl"
    process = subprocess.Popen([sys.executable, "-c", "from optimize.cli import main; main()", *arguments], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (ledger.exists() and ledger.read_bytes().count(b"\n") >= 2):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (out / "report.json").exists()
    before = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert "already holds a run" in refusal(brought, out, target=any_target)
    resumed = conftest.shortened(brought, out, "--resume", target=any_target)
    assert resumed.exit_code == straight.exit_code == 0
    assert resumed.ledger[: len(before)] == before  # the seconds too: what was done is not done again
    assert runs.trials(resumed) == runs.trials(straight)
    assert resumed.report["layers"] == straight.report["layers"]
    assert {path.name for path in out.iterdir()} == {path.name for path in straight.out.iterdir()}


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "interrupted: the same command with --resume continues this run.\n"),
        (("--resume",), "interrupted: the same command with --resume continues this run.\n"),
        (("--overwrite",), "interrupted: the same command with --resume instead of --overwrite continues this run.\n"),
    ],
)
def test_control_c_says_how_to_go_on(flags: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optimize.run.compress.compress", interrupted)
    assert compress(tmp_path / "model.pt", tmp_path / "out", *flags) == (130, "", text)
    monkeypatch.setattr("optimize.run.demo.demo", interrupted)
    assert command("demo") == (130, "", "interrupted: run it again.\n")


def test_a_name_from_a_file_cannot_forge_lines_or_obey_a_terminal(tmp_path: Path) -> None:
    hostile = tmp_path / "net\x1b[2J.pt\nACCEPTED: all is well\u202e"
    code, stdout, stderr = compress(hostile, tmp_path / "out")
    assert (code, stdout) == (2, "")
    assert r"net\x1b[2J.pt\nACCEPTED: all is well\u202e) does not exist" in stderr
    assert "\x1b" not in stderr
    assert stderr.count("\n") == 1


def test_an_endless_name_is_cut_and_the_remedy_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise InputError(f"`classes` (={'x' * 1_000_000}) are too many: pass fewer.")

    monkeypatch.setattr("optimize.run.compress.compress", refused)
    code, _, stderr = compress(tmp_path / "model.pt", tmp_path / "out")
    assert code == 2
    assert stderr.startswith("error: `classes` (=xxx")
    assert stderr.endswith("xxx) are too many: pass fewer.\n")
    assert len(stderr) < 1300


def test_sigterm_ends_like_control_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("optimize.run.compress.compress", ended)
    told = compress(tmp_path / "model.pt", tmp_path / "out")
    assert told == (130, "", "interrupted: the same command with --resume continues this run.\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_that_torch_meets_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("optimize.run.compress.compress", lambda *_, **__: torch.save(torch.zeros(1 << 16), full))
    code, _, stderr = compress(tmp_path / "model.pt", tmp_path / "out")
    assert code == 2
    assert "see to the room on its disk" in stderr or "see to its permissions" in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("problem", "file"),
    [(PermissionError(13, "Permission denied", "net.onnx"), "net.onnx"), (OSError(28, "No space left on device"), "a file of this run")],
)
def test_what_the_disk_refuses_is_the_users_to_mend(problem: OSError, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr("optimize.run.compress.compress", refused)
    code, stdout, stderr = compress(tmp_path / "model.pt", tmp_path / "out", "--json")
    text = f"`{file}` cannot be read or written ({str(problem.strerror).lower()}): see to its permissions, and to the room on its disk."
    assert (code, json.loads(stdout), stderr) == (2, {"error": text, "exit_code": 2}, f"error: {text}\n")


@pytest.mark.parametrize("allocate", [lambda: np.empty(1 << 50), lambda: torch.empty(1 << 50)], ids=["NumPy", "torch"])
def test_too_little_memory_takes_one_line(allocate: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than any machine has: both libraries refuse at once, each in its own way."""
    monkeypatch.setattr("optimize.run.compress.compress", lambda *_, **__: allocate())
    code, stdout, stderr = compress(tmp_path / "model.pt", tmp_path / "out", "--json")
    assert (code, json.loads(stdout)["exit_code"], stderr.count("\n")) == (2, 2, 1)
    assert re.match(r"error: there is not enough memory here \(.*allocate .*\): take a smaller --batch, or fewer images\.$", stderr)


def test_a_mistake_of_ours_shows_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another error of the system is none that the user could mend."""

    def failed(*_: object, **__: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("optimize.run.compress.compress", failed)
    code, _, stderr = compress(tmp_path / "model.pt", tmp_path / "out")
    assert code == 70
    assert stderr.startswith("Traceback")
    assert stderr.endswith("error: this is a mistake in optimize, not in your input; the lines above say where.\n")


def test_control_c_while_torch_is_imported_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "optimize.run.compress":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "optimize.run.compress", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Slow(), *sys.meta_path])
    code, _, stderr = compress(tmp_path / "model.pt", tmp_path / "out")
    assert (code, stderr.startswith("interrupted: ")) == (130, True)


def test_a_report_is_rendered_again(accepted: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes((accepted.out / "report.json").read_bytes())
    assert command("report", tmp_path) == (0, f"{tmp_path / 'report.html'}\n", "")
    assert (tmp_path / "report.html").read_bytes() == (accepted.out / "report.html").read_bytes()
    code, _, stderr = command("report", tmp_path / "nowhere")
    assert (code, len(stderr.splitlines())) == (2, 1)
    _, _, stderr = command("report", tmp_path, "--out", "x")
    assert stderr == "error: `--out` (=x) is for a comparison of several runs: name another run, or leave it out.\n"


def test_a_reader_that_left_is_no_crash(tmp_path: Path) -> None:
    """`optimize ... | true`"""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from optimize.cli import main; main()", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert b"Traceback" not in done.stderr


def test_output_does_not_depend_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.run.compress.compress", lambda recipe, **_: passing())
    done = CliRunner().invoke(main, ["compress", str(tmp_path / "model.pt"), "--target", "openvino", "--json"], color=False)
    assert json.loads(done.stdout)["verdict"] == "pass"
