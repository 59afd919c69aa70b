"""`optimize bundle`: one line, one JSON document, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import keys
from tests.deploy.finished_run import finished
from tests.runs import command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    # signed, since the page of an unsigned run is rendered again each time that it is examined
    return finished(folder / "out", keys.private(folder / "key.pem"))


def test_it_says_what_was_bundled(run: Path, tmp_path: Path) -> None:
    code, stdout, _ = command("bundle", run, "--out", tmp_path / "b", "--sign-key", keys.private(tmp_path / "k.pem"))
    assert code == 0
    first, second = stdout.splitlines()
    assert first.startswith(f"{tmp_path / 'b'}: ")
    assert first.endswith("MiB, signed")
    code, stdout, _ = command("bundle", run, "--out", tmp_path / "b.tar.gz", "--json")
    said = json.loads(stdout)
    assert (code, said["format"], said["accepted"], said["signed_by"]) == (0, "plain", True, None)
    # the archive holds the same bundle, whose manifest the signature does not change
    assert second == f"manifest {said['manifest_sha256']}"
    assert said["bytes"] == (tmp_path / "b.tar.gz").stat().st_size


def test_what_was_not_accepted_is_a_wrong_call(tmp_path: Path) -> None:
    made = finished(tmp_path / "out", verdict="fail")
    code, stdout, stderr = command("bundle", made, "--out", tmp_path / "b", "--json")
    assert (code, json.loads(stdout)["exit_code"]) == (2, 2)
    assert stderr.count("\n") == 1
    assert "--not-accepted" in stderr
    code, stdout, _ = command("bundle", made, "--out", tmp_path / "b", "--not-accepted")
    assert code == 0
    assert stdout.startswith("WARNING: This model was rejected")


def test_wrong_calls(run: Path, tmp_path: Path) -> None:
    for call, text in (
        (("bundle", run), "missing option '--out'"),
        (("bundle", run, "--out", tmp_path / "b", "--format", "zip"), "write one of"),
        (("bundle", run, "--out", tmp_path / "b", "--sign-key", tmp_path / "none.pem"), "cannot be read"),
    ):
        code, stdout, stderr = command(*call)
        assert (code, stdout) == (2, "")
        assert text in stderr
        assert stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
