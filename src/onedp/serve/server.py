"""The websocket server: openpi's protocol, one handler a client, inference in the policies' own threads.

On connecting, the client gets the metadata. Then each binary message is a request and gets one answer: a binary one
with actions, or a text one that says what was wrong with it. Torch-free: a policy is anything with ``infer``.
"""

from __future__ import annotations

import asyncio
import http
import importlib.metadata
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from onedp.errors import OneDPError, ServeError
from onedp.serve.access import is_authorized, require_token_beyond_loopback
from onedp.serve.limits import ServerLimits, TokenBucket
from onedp.serve.metrics import ServerMetrics
from onedp.serve.requests import ConnectionNoise, read_request
from onedp.serve.wire import pack, unpack
from onedp.serve.worker import PolicyWorker
from onedp.types import Continuation, ContinuingPolicy, Policy

PROTOCOL_VERSION = 1
LONGEST_ERROR = 2000
"""Characters of an error answer: a client's own long names come back in it."""
READ_BEYOND_LIMIT = 4
"""Messages up to so many times the limit are still read, to answer that they are too large; larger ones are cut off."""
LAST_CALL_S = 0.1
"""After SIGTERM a request that is already on its way is still taken."""
SPARE_SOCKETS = 16
"""So many sockets more than clients may be on their way in at a time: for health checks, and to tell a client too many
that it is one. One more, and the oldest is closed: who comes in asks at once, who only holds a socket stays behind."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerConfig:
    """Where to listen and what to allow."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: the system chooses."""
    token: str | None = field(default=None, repr=False)
    """Clients must show it; needed beyond loopback."""
    limits: ServerLimits = field(default_factory=ServerLimits)
    seed: int = 0
    """Seed of the noise of the first connection whose client names none, 0 to 2**63 - 1; the next one's is one
    higher."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ServeError(f"The server's seed is {self.seed}, expected 0 to 2**63 - 1.")


class PolicyServer:
    """Serves ``policies``, by name; the first is the one that clients get who name none."""

    def __init__(self, policies: Mapping[str, Policy], config: ServerConfig):
        """Raises ``ServeError`` for a set-up that must not run (no token beyond loopback)."""
        require_token_beyond_loopback(config.host, config.token)
        if not policies:
            raise ServeError("There is no policy to serve.")
        self._policies = dict(policies)
        self._config = config
        self._limits = config.limits
        self._max_bytes = config.limits.largest_message(policies.values())
        self._metrics = ServerMetrics()
        self._workers = {
            name: PolicyWorker(name, policy, config.limits.rows) for name, policy in self._policies.items()
        }
        self._metadata = pack(self.metadata())
        self._clients: set[ServerConnection] = set()
        self._sockets: set[ServerConnection] = set()
        self._arriving: dict[ServerConnection, None] = {}
        """Sockets that are no clients (yet), the oldest first."""
        self._connected = 0
        self._stop: asyncio.Event | None = None

    def metadata(self) -> dict[str, Any]:
        """What every client is told first."""
        return {
            "server": "onedp",
            "version": importlib.metadata.version("onedp"),
            "protocol": PROTOCOL_VERSION,
            "default_policy": next(iter(self._policies)),
            "policies": {
                name: {
                    "spec": policy.spec.to_json(),
                    "chunk_length": policy.spec.chunk_length,
                    "noise_shape": list(policy.noise_shape),
                    "nfe": policy.nfe,
                    "continues": isinstance(policy, ContinuingPolicy),
                }
                for name, policy in self._policies.items()
            },
            "limits": {
                "message_bytes": self._max_bytes,
                "rows": self._limits.rows,
                "requests_per_s": self._limits.requests_per_s,
                "idle_s": self._limits.idle_s,
            },
        }

    async def run(self, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serve until ``stop`` is set, then finish the requests in flight. ``ready`` gets the port.

        Raises ``OneDPError`` when a policy does not answer its warm-up or the address is taken.
        """
        self._stop = stop
        for worker in self._workers.values():
            worker.start()
        await self._warm_up()
        try:
            server = await serve(
                self._serve_client,
                self._config.host,
                self._config.port,
                process_request=self._process_request,
                create_connection=self._connection_class(),
                origins=[None],  # no web page may command a robot: browsers name their origin, robots do not
                compression=None,  # actions do not compress, and a small message must not unfold into a large one
                max_size=READ_BEYOND_LIMIT * self._max_bytes,
                max_queue=2,
                close_timeout=2,
            )
        except OSError as error:
            raise ServeError(
                f"Cannot listen on {self._config.host}:{self._config.port}: {error.strerror or error}."
            ) from error
        ready(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close(close_connections=False)
        await self._drain()
        for worker in self._workers.values():
            await asyncio.to_thread(worker.close, self._limits.drain_s)

    async def _drain(self) -> None:
        """Let the clients' handlers end by themselves, then cut off what is left."""
        deadline = time.monotonic() + self._limits.drain_s
        while self._clients and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._sockets):
            connection.transport.abort()

    async def _warm_up(self) -> None:
        """A chunk of each policy, alone and going on from one, before any client: the first takes longest, or fails."""
        rng = np.random.default_rng(0)
        for name, policy in self._policies.items():
            obs = policy.spec.fake_observation(1, rng)
            noise = rng.standard_normal((1, *policy.noise_shape), dtype=np.float32)
            before = [Continuation.free(policy.spec)] if isinstance(policy, ContinuingPolicy) else []
            for previous in (None, *before):
                await asyncio.wrap_future(self._workers[name].submit(obs, noise, previous))

    # --- connections and plain HTTP

    def _connection_class(self) -> type[ServerConnection]:
        """Connections that are counted from the first byte on, long before a handshake."""
        server = self

        class Counted(ServerConnection):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                server._sockets.add(self)
                server._arriving[self] = None
                if len(server._arriving) > server._limits.connections + SPARE_SOCKETS:
                    oldest = next(iter(server._arriving))
                    del server._arriving[oldest]
                    server._metrics.refused.labels("sockets").inc()
                    oldest.transport.abort()

            def connection_lost(self, exc: Exception | None) -> None:
                server._sockets.discard(self)
                server._arriving.pop(self, None)
                server._clients.discard(self)
                super().connection_lost(exc)

        return Counted

    def _process_request(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """Answer health and metrics; let clients through that may come in."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if not is_authorized(", ".join(request.headers.get_all("Authorization")), self._config.token):
            self._metrics.refused.labels("token").inc()
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "This server wants the header 'Authorization: Api-Key TOKEN'.\n"
            )
        if path == "/metrics":
            body = self._metrics.text()
            headers = Headers(
                {"Content-Type": self._metrics.content_type, "Content-Length": str(len(body)), "Connection": "close"}
            )
            return Response(200, "OK", headers, body)
        if len(self._clients) >= self._limits.connections:
            self._metrics.refused.labels("connections").inc()
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, f"All {self._limits.connections} connections are taken.\n"
            )
        self._clients.add(connection)
        self._arriving.pop(connection, None)
        return None

    # --- one client

    async def _serve_client(self, connection: ServerConnection) -> None:
        assert self._stop is not None  # set by run
        self._metrics.connections.inc()
        noise = ConnectionNoise(self._config.seed + self._connected)
        self._connected += 1
        bucket = TokenBucket(self._limits.requests_per_s, time.monotonic())
        try:
            await self._send(connection, self._metadata)
            while (data := await self._next_message(connection)) is not None:
                await self._send(connection, await self._answer(data, noise, bucket))
            reason = "server stops" if self._stop.is_set() else f"silent for {self._limits.idle_s:g} s"
            await connection.close(1001, reason)
        except ConnectionClosed:
            pass
        finally:
            self._clients.discard(connection)
            self._metrics.connections.dec()

    async def _next_message(self, connection: ServerConnection) -> str | bytes | None:
        """The next message; None when the client stays silent, or when the server stops and none is on its way."""
        assert self._stop is not None
        message = asyncio.ensure_future(connection.recv())
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({message, stop}, timeout=self._limits.idle_s, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not message.done():
                await asyncio.wait({message}, timeout=LAST_CALL_S)
            return message.result() if message.done() else None
        finally:
            message.cancel()
            stop.cancel()

    async def _send(self, connection: ServerConnection, answer: str | bytes) -> None:
        try:
            await asyncio.wait_for(connection.send(answer), self._limits.write_s)
        except asyncio.TimeoutError:
            self._metrics.cut_off.inc()
            connection.transport.abort()
            raise ConnectionClosed(None, None) from None

    async def _answer(self, data: str | bytes, noise: ConnectionNoise, bucket: TokenBucket) -> str | bytes:
        received_at = time.perf_counter()
        reason = "rate"
        try:
            if not bucket.take(time.monotonic()):
                raise ServeError(f"Too many requests: the limit is {self._limits.requests_per_s:g} per second.")
            reason = "malformed"
            if isinstance(data, str):
                raise ServeError("The message is text, expected a binary one: msgpack of a map of numpy arrays.")
            if len(data) > self._max_bytes:
                raise ServeError(f"The message has {len(data):,} bytes, the limit is {self._max_bytes:,}.")
            message = unpack(data)
            reason = "refused"
            request = read_request(message, self._policies, noise, self._limits.rows)
            reason = "policy"
            worker = self._workers[request.policy]
            answer = await asyncio.wrap_future(worker.submit(request.obs, request.noise, request.previous))
        except OneDPError as error:
            self._metrics.errors.labels(reason).inc()
            return str(error)[:LONGEST_ERROR]
        except Exception as error:  # ours: the client is told, the server lives
            logger.exception("a request failed")
            self._metrics.errors.labels("bug").inc()
            return f"The server failed on this request: {type(error).__name__}."
        self._count(request.policy, answer)
        timing = {
            "queue_ms": answer.queue_s * 1e3,
            "infer_ms": answer.infer_s * 1e3,
            "total_ms": (time.perf_counter() - received_at) * 1e3,
            "batch_rows": answer.batch_rows,
        }
        actions = answer.actions[0] if request.single else answer.actions
        reply = {"actions": actions, "server_timing": timing, "policy": request.policy}
        if request.noise_key is not None:
            reply["seed"], reply["chunk"] = request.noise_key
        return pack(reply)

    def _count(self, policy: str, answer: Any) -> None:
        self._metrics.answers.labels(policy).inc()
        self._metrics.queue.labels(policy).observe(answer.queue_s)
        self._metrics.infer.labels(policy).observe(answer.infer_s)
        self._metrics.batch.labels(policy).observe(answer.batch_rows)
