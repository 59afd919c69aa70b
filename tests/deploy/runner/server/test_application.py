"""The addresses answer as the protocol says, and every limit is seen to hold; in this process, without a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from optimize.deploy.runner.model import Model
from optimize.deploy.runner.server.application import Limits, Service
from tests.deploy.runner.server import requests_by_hand as by_hand

IMAGES = np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1) * 5
INPUTS = np.linspace(-2, 2, 32, dtype=np.float32).reshape(2, 1, 4, 4)
INFER = "/v2/models/cells/infer"


def asked(service: Service, talk: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    """What a client hears that talks to the application."""

    async def both() -> Any:
        transport = httpx.ASGITransport(service.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await talk(client)

    try:
        return asyncio.run(both())
    finally:
        service.workers.close()


def post(service: Service, content: bytes, headers: dict[str, str] | None = None, path: str = INFER) -> httpx.Response:
    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(path, content=content, headers=headers)

    return asked(service, talk)


def get(service: Service, path: str) -> httpx.Response:
    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(path)

    return asked(service, talk)


def test_the_networks_input_and_stored_images_are_answered_bit_for_bit(model: Model) -> None:
    body, headers = by_hand.as_binary("input", "FP32", INPUTS, parameters={"binary_data_output": True})
    response = post(Service(model, Limits()), body, headers)
    found = by_hand.read(response.content, response.headers[by_hand.HEADER])
    assert found["output"].tobytes() == model.run(INPUTS).tobytes()
    body = by_hand.as_json("images", "UINT8", IMAGES, outputs=[{"name": "output"}, {"name": "decision"}])
    response = post(Service(model, Limits()), body, path="/v2/models/cells-images/versions/1/infer")
    found = by_hand.read(response.content, None)
    assert found["output"].tobytes() == model.predict(IMAGES).tobytes()
    assert [model.classes[number] for number in found["decision"]] == model.decide(model.predict(IMAGES))


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v2", 200, {"name": "bundle", "version": "1", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"ready": True}),
        ("/v2/models/cells/ready", 200, {"name": "cells", "ready": True}),
        ("/v2/models/cells/versions/1/ready", 200, {"name": "cells", "ready": True}),
        (
            "/v2/models/cells",
            200,
            {
                "name": "cells",
                "versions": ["1"],
                "platform": "onnxruntime_f32",
                "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 4, 4]}],
                "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}],
            },
        ),
        ("/v2/models/cells/versions/2", 404, None),
        ("/v2/models/other", 404, None),
        (INFER, 405, None),
        ("/nowhere", 404, None),
    ],
)
def test_addresses(model: Model, path: str, status: int, said: dict[str, Any] | None) -> None:
    response = get(Service(model, Limits()), path)
    assert response.status_code == status
    assert response.json() == said if said is not None else list(response.json()) == ["error"]


def test_a_server_that_stops_is_alive_not_ready_and_still_answers(model: Model) -> None:
    service = Service(model, Limits())
    service.stopping = True

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/cells/ready")
        return [*[await client.get(path) for path in paths], await client.post(INFER, content=by_hand.as_json("input", "FP32", INPUTS))]

    responses = asked(service, talk)
    assert [response.status_code for response in responses] == [200, 503, 503, 200]
    assert {response.headers["connection"] for response in responses} == {"close"}


def test_bodies_are_bounded_before_and_while_they_come(model: Model) -> None:
    limits = Limits(max_body=1000)

    async def endless() -> AsyncIterator[bytes]:
        # a client that says no length: reading goes on until the limit, and no further
        while True:
            yield b" " * 300

    async def streamed(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(INFER, content=endless())

    for response in (post(Service(model, limits), b" " * 1001), asked(Service(model, limits), streamed)):
        assert (response.status_code, response.json()) == (413, {"error": "the body has more than 1000 bytes: send fewer images at once."})
    response = post(Service(model, limits), b" " * 1000)
    assert response.status_code == 400
    assert post(Service(model, limits), b"x", {"Content-Encoding": "gzip"}).status_code == 415


def test_tensors_are_bounded_by_what_they_take_in_memory(model: Model) -> None:
    # one image of 16 bytes becomes 64 bytes of floats: 640 bytes hold ten
    service = Service(model, Limits(max_body=640))
    most = {name: served.max_batch(640, 64) for name, served in service.models.items()}
    assert most == {"cells": 10, "cells-images": 10}
    assert service.models["cells"].max_batch(1 << 30, 64) == 64
    body = json.dumps({"inputs": [{"name": "input", "shape": [11, 1, 4, 4], "datatype": "FP32", "data": []}]}).encode()
    assert post(service, body).status_code == 413


def test_a_body_that_comes_too_slowly_ends(model: Model) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(INFER, content=slow())

    service = Service(model, Limits(time_limit_s=0.05))
    assert asked(service, talk).status_code == 408
    assert service.workers.taken == 0


def test_more_requests_than_places_are_told_to_come_back(model: Model) -> None:
    service, go = Service(model, Limits(max_waiting=1, workers=1)), threading.Event()
    served = service.models["cells"]
    service.models["cells"] = replace(served, run=lambda inputs, wanted: (go.wait(20) and served.run(inputs, wanted)) or {})
    body = by_hand.as_json("input", "FP32", INPUTS)

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = [asyncio.create_task(client.post(INFER, content=body)) for _ in range(2)]
        while service.workers.taken < 2:
            await asyncio.sleep(0.001)
        third = await client.post(INFER, content=body)
        metrics = (await client.get("/metrics")).text
        go.set()
        return [third, *await asyncio.gather(*first), metrics]  # type: ignore[list-item]

    third, *first, metrics = asked(service, talk)
    assert (third.status_code, third.headers["retry-after"]) == (503, "1")
    assert [response.status_code for response in first] == [200, 200]
    assert "bundle_places_taken 2.0" in str(metrics)
    assert 'bundle_requests_total{model="cells",status="503"} 1.0' in str(metrics)


def test_a_request_that_waits_too_long_is_told_to_come_back(model: Model) -> None:
    service, go = Service(model, Limits(time_limit_s=0.1)), threading.Event()
    served = service.models["cells"]
    service.models["cells"] = replace(served, run=lambda inputs, wanted: (go.wait(20) and {}) or {})

    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        response = await client.post(INFER, content=by_hand.as_json("input", "FP32", INPUTS))
        go.set()
        return response

    response = asked(service, talk)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "0.1 s" in response.json()["error"]


def test_a_failing_model_shows_no_traceback_and_nothing_of_the_request(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(model, Limits())

    def fail(inputs: Any, wanted: Any) -> Any:
        raise RuntimeError("SECRET")

    service.models["cells"] = replace(service.models["cells"], run=fail)
    response = post(service, by_hand.as_json("input", "FP32", INPUTS))
    assert (response.status_code, response.json()) == (500, {"error": "the model failed on this request."})
    assert capsys.readouterr().err == "bundle: the model failed (RuntimeError)\n"


def test_metrics_count_what_was_answered(model: Model) -> None:
    service = Service(model, Limits())

    async def talk(client: httpx.AsyncClient) -> str:
        await client.post(INFER, content=by_hand.as_json("input", "FP32", INPUTS))
        await client.post(INFER, content=b"{}")
        return (await client.get("/metrics")).text

    text = asked(service, talk)
    for line in (
        'bundle_info{name="cells.pt",precision="f32",target="onnxruntime",verdict="pass"} 1.0',
        'bundle_requests_total{model="cells",status="200"} 1.0',
        'bundle_requests_total{model="cells",status="400"} 1.0',
        'bundle_items_total{model="cells"} 2.0',
        "bundle_ready 1.0",
    ):
        assert line in text.splitlines()
