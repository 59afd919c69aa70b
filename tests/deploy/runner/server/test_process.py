"""A real process on the loopback interface, real clients: no wrong answer under load, and no request lost when it is told to stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from optimize.deploy.runner.model import Model
from tests.deploy.runner.server import requests_by_hand as by_hand

THREADS, REQUESTS = 4, 40


@contextmanager
def server(bundle: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of the bundle, and its address; it is ended when a test leaves it running."""
    call = [sys.executable, "-m", "bundle", "serve", "--port", "0", *settings]
    process = subprocess.Popen(call, cwd=bundle, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


class Caller(threading.Thread):
    """A client in a thread of its own: one request after the other, each with other images, each answer compared bit for bit."""

    def __init__(self, address: str, model: Model, seed: int, requests: int | None) -> None:
        super().__init__()
        self.address, self.model, self.seed, self.requests = address, model, seed, requests
        self.right, self.wrong, self.lost = 0, 0, list[str]()

    def run(self) -> None:
        draw = np.random.default_rng(self.seed)
        with httpx.Client(base_url=self.address, timeout=30, trust_env=False) as client:
            while self.requests is None or self.right + self.wrong < self.requests:
                try:
                    response = self.ask(client, draw)
                except httpx.TransportError as problem:
                    self.lost.append(type(problem).__name__)
                    return
                # what a client does that is asked to leave: it takes the answer and calls another server
                if response.headers.get("connection") == "close":
                    return

    def ask(self, client: httpx.Client, draw: np.random.Generator) -> httpx.Response:
        images = draw.integers(0, 256, (int(draw.integers(1, 6)), 4, 4, 1), dtype=np.uint8)
        body, headers = by_hand.as_binary("images", "UINT8", images, parameters={"binary_data_output": bool(draw.integers(2))})
        response = client.post("/v2/models/cells-images/infer", content=body, headers=headers)
        found = by_hand.read(response.content, response.headers.get(by_hand.HEADER)) if response.status_code == 200 else {}
        same = "output" in found and found["output"].tobytes() == self.model.predict(images).tobytes()
        self.right, self.wrong = self.right + same, self.wrong + (not same)
        return response


def test_no_wrong_answer_under_load_and_no_lost_request_at_the_end(served_bundle: Path, model: Model) -> None:
    with server(served_bundle, "--workers", "2") as (process, address):
        callers = [Caller(address, model, seed, REQUESTS) for seed in range(THREADS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert [(caller.right, caller.wrong, caller.lost) for caller in callers] == [(REQUESTS, 0, [])] * THREADS
        # now without an end: SIGTERM comes in the middle
        callers = [Caller(address, model, 10 + seed, None) for seed in range(THREADS)]
        for caller in callers:
            caller.start()
        while sum(caller.right for caller in callers) < THREADS * 10:
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join()
        assert [(caller.wrong, caller.lost) for caller in callers] == [(0, [])] * THREADS
        _, said = process.communicate(timeout=30)
        answered = THREADS * REQUESTS + sum(caller.right for caller in callers)
        assert (process.returncode, said) == (0, f"bundle: stopped; {answered} inference requests were answered\n")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/v2", trust_env=False)


def test_a_stopping_server_accepts_new_clients_for_its_drain_time(served_bundle: Path, model: Model) -> None:
    with server(served_bundle, "--drain-time", "30") as (process, address):
        # a request that has begun and whose body has not come yet keeps the server from being quiet
        go = threading.Event()

        def body() -> Iterator[bytes]:
            request = by_hand.as_json("input", "FP32", np.zeros((1, 1, 4, 4), np.float32))
            yield request[:10]
            go.wait(20)
            yield request[10:]

        answers: list[httpx.Response] = []
        path = f"{address}/v2/models/cells/infer"
        slow = threading.Thread(target=lambda: answers.append(httpx.post(path, content=body(), trust_env=False)))
        slow.start()
        with httpx.Client(base_url=address, trust_env=False) as client:
            while "bundle_places_taken 1.0" not in client.get("/metrics").text:
                pass
        process.send_signal(signal.SIGTERM)
        while (ready := httpx.get(f"{address}/v2/health/ready", trust_env=False)).status_code == 200:
            pass
        assert (ready.status_code, ready.json()) == (503, {"ready": False})
        late = Caller(address, model, 0, 1)
        late.run()
        assert (late.right, late.lost) == (1, [])
        go.set()
        slow.join()
        assert [response.status_code for response in answers] == [200]
        assert process.wait(30) == 0


def refused(bundle: Path, *settings: str, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of a server that does not start."""
    call = [sys.executable, "-m", "bundle", "serve", *settings]
    done = subprocess.run(call, cwd=bundle, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False)
    return done.returncode, done.stderr


def test_what_cannot_be_served_is_one_line(served_bundle: Path, tmp_path: Path) -> None:
    with server(served_bundle) as (_, address):
        port = address.rpartition(":")[2]
        assert refused(served_bundle, "--port", port) == (
            4,
            f"bundle: refused: 127.0.0.1:{port} cannot be served (Address already in use): name another `--port`.\n",
        )
    code, said = refused(served_bundle, "--workers", "0")
    assert (code, said) == (2, "bundle: `--workers` (=0) must be at least 1.\n")
    assert refused(served_bundle, "--max-body", "much")[0] == 2
    # a package that cannot be found, as where the extra is not installed
    (tmp_path / "sitecustomize.py").write_text("import sys, importlib.util\nsys.modules['uvicorn'] = None\n")
    code, said = refused(served_bundle, PYTHONPATH=str(tmp_path))
    assert code == 4
    assert said.count("\n") == 1
    assert "pip install -r requirements-serve.txt in the bundle's folder" in said
