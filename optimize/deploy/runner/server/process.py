"""The process of a server: its socket, its signals, and a stop that loses no request.

On SIGTERM the server goes through these steps. A load balancer that looks at /v2/health/ready takes it out in the first one.

    1. it is not ready any more, goes on to accept and to answer, and asks clients to leave their connections
    2. no inference request runs and none came for `QUIET_S`, or the drain time is over: it accepts no more connections
    3. again `QUIET_S` without a request: all that was sent over connections it had accepted is answered
    4. connections are closed, and the process ends with 0
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING

from ..errors import Refused

if TYPE_CHECKING:
    from ..model import Model
    from .application import Limits, Service

QUIET_S = 0.25
"""Time in seconds without an inference request after which a server that was told to stop takes it that clients have gone."""
_TICK_S = 0.05
_KEEP_ALIVE_S = 30
_BACKLOG = 256
_CONNECTIONS = 512
"""Most connections that are answered; more are told 503."""


def serve(model: Model, sock: socket.socket, limits: Limits, drain_s: float) -> int:
    """Serve a model until the process is told to stop, and return 0.

    Args:
        model: the model of a bundle.
        sock: bound socket.
        limits: bounds of what is taken.
        drain_s: longest time in seconds that new requests are still accepted after SIGTERM.
    """
    import uvicorn

    from .application import Service

    service = Service(model, limits)
    server: uvicorn.Server

    async def watch() -> None:
        """Stop the server once clients have gone."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()

        def stop() -> None:
            if service.stopping:
                # told a second time: what has begun is still answered
                server.should_exit = True
            service.stopping = True
            told.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                # in place of Uvicorn's own handlers, which would close the socket at once and end with the signal, not with 0
                loop.add_signal_handler(number, stop)
            except NotImplementedError:
                return  # Windows: Uvicorn's own stop
        await told.wait()
        await _quiet(service, drain_s)
        # Clients that have connected and were not accepted yet would be cut off by closing the socket. So first no more of them are let in,
        # and one tick accepts those that are.
        sock.listen(0)
        await asyncio.sleep(_TICK_S)
        for listener in server.servers:
            listener.close()
        await _quiet(service, limits.time_limit_s)
        server.should_exit = True

    config = uvicorn.Config(
        service.application(watch),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        # a request that has begun has its own limit; a little more here, so that it is not cut off before
        timeout_graceful_shutdown=int(limits.time_limit_s) + 5,
        limit_concurrency=_CONNECTIONS,
        backlog=_BACKLOG,
    )
    server = uvicorn.Server(config)
    names = " and ".join(service.models)
    # from here on a client may connect: it waits in the socket's queue until the loop runs
    sock.listen(_BACKLOG)
    _say(f"{names} at {_address(sock)}/v2; {limits.workers} at once, {limits.max_waiting} may wait")
    server.run(sockets=[sock])
    _say(f"stopped; {service.answered} inference requests were answered")
    return 0


async def _quiet(service: Service, longest_s: float) -> None:
    """Wait until no inference request runs and none came for `QUIET_S`; not longer than `longest_s` seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + longest_s and (service.running or loop.time() <= max(began, service.last_s) + QUIET_S):
        await asyncio.sleep(_TICK_S)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address, and says so when others can reach it.

    Args:
        host: name or number of an interface of this machine.
        port: number of the port; 0 for any that is free.

    Raises:
        Refused: when the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise Refused(f"`--host` (={host!r}) is no address of this machine ({problem.strerror}): name one.") from None
    try:
        if sys.platform != "win32":
            # else a port stays taken for a minute after a server has ended
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as problem:
        sock.close()
        raise Refused(f"{host}:{port} cannot be served ({problem.strerror}): name another `--port`.") from None
    if not sock.getsockname()[0].startswith(("127.", "::1")):
        _say(f"other machines can reach {_address(sock)}, without a password and unencrypted: put a proxy in front that asks for both")
    return sock


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(line: str) -> None:
    print(f"bundle: {line}", file=sys.stderr, flush=True)
