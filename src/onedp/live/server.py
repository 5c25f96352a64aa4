"""The page and its websocket on one port: static files in, states out at 30 Hz, commands back."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import importlib.resources
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from onedp.errors import OneDPError, ServeError
from onedp.live.protocol import LARGEST_MESSAGE, Change, Command, Drag, Release, read_command
from onedp.live.stage import Stage
from onedp.serve.access import is_loopback, require_token_beyond_loopback
from onedp.serve.limits import TokenBucket

FRAME_S = 1 / 30
"""Between two states of the lanes that a page gets."""
MOST_PAGES = 16
MESSAGES_PER_S = 200.0
"""Of one page; a drag sends one for each picture that is drawn."""
WRITE_S = 5.0
"""A page that takes nothing for so long is cut off."""
LONGEST_ERROR = 500
READ_BEYOND_LIMIT = 4
"""Messages up to so many times the limit are read, to answer that they are too large; larger ones are cut off."""

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/live.css": ("live.css", "text/css; charset=utf-8"),
    "/live.js": ("live.js", "text/javascript; charset=utf-8"),
    "/scene.js": ("scene.js", "text/javascript; charset=utf-8"),
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

logger = logging.getLogger(__name__)
_sockets_logger = logging.getLogger(f"{__name__}.sockets")
_sockets_logger.setLevel(logging.CRITICAL)  # browsers open connections that they never use: no news


@dataclass(frozen=True)
class LiveConfig:
    """Where to listen."""

    host: str = "127.0.0.1"
    port: int = 8050
    """0: the system chooses."""
    token: str | None = field(default=None, repr=False)
    """Pages must show it; needed beyond loopback."""


class LiveServer:
    """Shows ``stage`` to every page that may come in. Runs its lanes while it runs itself."""

    def __init__(self, stage: Stage, config: LiveConfig):
        """Raises ``ServeError`` for a set-up that must not run (no token beyond loopback)."""
        require_token_beyond_loopback(config.host, config.token)
        self._stage = stage
        self._config = config
        self._pages: set[ServerConnection] = set()
        self._changing = asyncio.Lock()
        folder = importlib.resources.files("onedp.live") / "page"
        self._bodies = {path: (folder / name).read_bytes() for path, (name, _) in FILES.items()}
        self._frame = ""
        self._frame_at = 0.0

    async def run(self, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serve until ``stop`` is set. ``ready`` gets the port; raises ``ServeError`` when the address is taken."""
        try:
            server = await serve(
                self._serve_page,
                self._config.host,
                self._config.port,
                process_request=self._process_request,
                compression=None,  # a small message must not unfold into a large one
                max_size=READ_BEYOND_LIMIT * LARGEST_MESSAGE,
                max_queue=16,
                close_timeout=1,
                logger=_sockets_logger,
            )
        except OSError as error:
            raise ServeError(
                f"Cannot listen on {self._config.host}:{self._config.port}: {error.strerror or error}. "
                "Choose another port with --port."
            ) from error
        self._stage.start()
        try:
            ready(server.sockets[0].getsockname()[1])
            await stop.wait()
        finally:
            server.close()
            await server.wait_closed()
            await asyncio.to_thread(self._stage.close)

    # --- plain HTTP, and who may come in

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        path, _, query = request.path.partition("?")
        refusal = self._refusal(request)
        if refusal is not None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, refusal + "\n")
        if path in self._bodies:
            body = self._bodies[path]
            headers = {"Content-Type": FILES[path][1], "Content-Length": str(len(body)), "Connection": "close"}
            return Response(200, "OK", Headers({**headers, **SECURITY_HEADERS}), body)
        if path != "/ws":
            return connection.respond(http.HTTPStatus.NOT_FOUND, "There is one page here: /\n")
        token = parse_qs(query).get("token", [""])[0]
        if self._config.token is not None and not hmac.compare_digest(token.encode(), self._config.token.encode()):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "Open the address that onedp live printed.\n")
        if len(self._pages) >= MOST_PAGES:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"All {MOST_PAGES} pages are taken.\n")
        return None

    def _refusal(self, request: Request) -> str | None:
        """Why another site's page must not talk to us; None for our own page and for programs, which name no origin.

        A foreign name that resolves to this machine (DNS rebinding) is a foreign site too.
        """
        hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
        if len(hosts) != 1:
            return "The request must name one host."
        try:
            name = urlsplit(f"//{hosts[0]}").hostname or ""
        except ValueError:
            name = ""
        if is_loopback(self._config.host) and not is_loopback(name):
            return "This server is asked for by its loopback address only, for example http://127.0.0.1."
        if origins and origins != [f"http://{hosts[0]}"]:
            return "Pages of other sites must not use this server."
        return None

    # --- one page

    async def _serve_page(self, connection: ServerConnection) -> None:
        self._pages.add(connection)
        held: set[int] = set()
        showing = asyncio.ensure_future(self._show(connection))
        try:
            bucket = TokenBucket(MESSAGES_PER_S, time.monotonic())
            async for message in connection:
                error = await self._do(message, bucket, held)
                if error is not None:
                    await self._send(connection, json.dumps({"type": "error", "text": error[:LONGEST_ERROR]}))
        except ConnectionClosed:
            pass
        finally:
            showing.cancel()
            self._pages.discard(connection)
            if held:
                await asyncio.to_thread(self._stage.release, held)

    async def _do(self, message: str | bytes, bucket: TokenBucket, held: set[int]) -> str | None:
        """Carry out one message; returns what was wrong with it."""
        try:
            if not bucket.take(time.monotonic()):
                raise ServeError(f"Too many messages: the limit is {MESSAGES_PER_S:g} per second.")
            command: Command = read_command(message, len(self._stage))
            # A change may measure; those that wait for their turn must not take the threads of all other commands.
            async with self._changing if isinstance(command, Change) else contextlib.nullcontext():
                await asyncio.to_thread(self._stage.do, command)
        except OneDPError as error:
            return str(error)
        except Exception as error:  # ours: the page is told, the server lives
            logger.exception("a command failed")
            return f"The server failed on this message: {type(error).__name__}."
        if isinstance(command, Drag):
            held.update(command.lanes)
        elif isinstance(command, Release):
            held.difference_update(command.lanes)
        return None

    async def _show(self, connection: ServerConnection) -> None:
        """Send the lanes as they are now, again and again; a slow page gets fewer of these, never old ones."""
        try:
            await self._send(connection, json.dumps(self._stage.hello()))
            while True:
                await self._send(connection, self._state())
                await asyncio.sleep(FRAME_S)
        except ConnectionClosed:
            pass

    def _state(self) -> str:
        """The state as JSON, made once for all pages."""
        now = time.monotonic()
        if not self._frame or now - self._frame_at > FRAME_S / 2:
            self._frame, self._frame_at = json.dumps(self._stage.state(), separators=(",", ":")), now
        return self._frame

    async def _send(self, connection: ServerConnection, text: str) -> None:
        try:
            await asyncio.wait_for(connection.send(text), WRITE_S)
        except asyncio.TimeoutError:
            connection.transport.abort()
            raise ConnectionClosed(None, None) from None
