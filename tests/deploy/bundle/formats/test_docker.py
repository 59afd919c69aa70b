"""The Dockerfile is read by its own grammar, line by line; its health check is run against a server."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from optimize.deploy.bundle.formats import bundle_format, docker
from tests.deploy.bundle.formats.bundles import bundle, content
from tests.deploy.bundle.formats.test_oci import with_wheels


def steps(folder: Path) -> list[tuple[str, str]]:
    """Instruction and arguments of each line of a Dockerfile that is no comment."""
    lines = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and not line.startswith("#"))]


def written(tmp_path: Path, made: Path, requirements: str | None = None) -> tuple[Path, dict[str, str]]:
    if requirements is not None:
        (made / "requirements.txt").write_text(requirements)
    bundle_format("docker").write(made, tmp_path / "out")
    return tmp_path / "out", dict(steps(tmp_path / "out"))


def test_it_installs_from_wheels_serves_and_runs_as_nobody(tmp_path: Path) -> None:
    made = with_wheels(tmp_path / "bundle")
    folder, said = written(tmp_path, made, "numpy==2.0 \\\n    --hash=sha256:00\n")
    words = [word for word, _ in steps(folder)]
    assert words[:4] == ["ARG", "FROM", "COPY", "RUN"]
    assert words.index("USER") > words.index("RUN")
    assert (said["ARG"], said["FROM"], said["COPY"]) == ("BASE=python:3.11-slim", "${BASE}", "bundle/ /opt/bundle/")
    assert said["USER"] == "65532:65532"
    files = " -r ".join(f"/opt/bundle/{name}.txt" for name in ("requirements-serve", "requirements"))
    install = f"--no-index --find-links=/opt/bundle/wheels --require-hashes -r {files}"
    assert said["RUN"].endswith(install)
    # its package is not among the wheels
    assert "requirements-sign" not in said["RUN"]
    assert json.loads(said["ENTRYPOINT"]) == ["python3", "-m", "bundle"]
    assert json.loads(said["CMD"]) == ["serve", "--host", "0.0.0.0", "--port", "8080"]
    assert (said["EXPOSE"], said["STOPSIGNAL"], said["WORKDIR"]) == ("8080", "SIGTERM", "/opt/bundle")
    assert content(folder / "bundle") == content(made)
    assert (folder / ".dockerignore").read_text() == "*\n!bundle\n"


def test_without_a_server_it_checks_and_has_no_health(tmp_path: Path) -> None:
    folder, said = written(tmp_path, bundle(tmp_path / "bundle"), "# uvicorn is not needed\nnumpy==2.0\n")
    assert json.loads(said["CMD"]) == ["check"]
    assert not {"EXPOSE", "HEALTHCHECK"} & set(said)
    assert said["RUN"].endswith("--root-user-action=ignore -r /opt/bundle/requirements.txt")
    assert "# Packages are downloaded now" in (folder / "Dockerfile").read_text()


def test_same_bundle_same_bytes(tmp_path: Path) -> None:
    made = bundle(tmp_path / "bundle")
    for out in ("a", "b"):
        docker.write(made, tmp_path / out)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_warning_is_in_the_file(tmp_path: Path) -> None:
    made = bundle(tmp_path / "bundle")
    said = json.loads((made / "manifest.json").read_text()) | {"warning": "This model was rejected.", "verdict": "fail"}
    assert "# This model was rejected.\n" in docker.dockerfile(made, said)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_tells_ready_from_not_ready(tmp_path: Path, status: int, code: int) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    _, said = written(tmp_path, with_wheels(tmp_path / "bundle"))
    command = json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])
    assert command[:2] == ["python3", "-c"]
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        script = command[2].replace("8080", str(server.server_port))
        assert subprocess.run([sys.executable, "-I", "-S", "-c", script], check=False).returncode == code
        thread.join()
