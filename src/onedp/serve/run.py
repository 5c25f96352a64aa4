"""Running a policy server: until a signal in a process of its own, or in a thread beside other work."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from onedp.serve.server import PolicyServer, ServerConfig
from onedp.types import Policy


@runtime_checkable
class Server(Protocol):
    """What can be run here."""

    async def run(self, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serve until ``stop`` is set; ``ready`` gets the port."""
        ...


def serve_until_signal(policies: Mapping[str, Policy], config: ServerConfig, ready: Callable[[int], None]) -> None:
    """Serve in this process's main thread until SIGTERM or SIGINT, then finish the requests in flight and return."""
    run_until_signal(PolicyServer(policies, config), ready)


def run_until_signal(server: Server, ready: Callable[[int], None]) -> None:
    """Run any server in this process's main thread until SIGTERM or SIGINT."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await server.run(stop, ready)

    asyncio.run(run())


@contextmanager
def serve_in_thread(policies: Mapping[str, Policy], config: ServerConfig) -> Iterator[int]:
    """Serve from a thread while the context lasts; gives the port. For tests, notebooks and simulators."""
    with running_in_thread(PolicyServer(policies, config)) as port:
        yield port


@contextmanager
def running_in_thread(server: Server) -> Iterator[int]:
    """Run any server from a thread while the context lasts; gives the port."""
    started = threading.Event()
    state: dict[str, Any] = {}

    async def run() -> None:
        state["stop"], state["loop"] = asyncio.Event(), asyncio.get_running_loop()

        def ready(port: int) -> None:
            state["port"] = port
            started.set()

        await server.run(state["stop"], ready)

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            state["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=work, name="policy server", daemon=True)
    thread.start()
    started.wait()
    try:
        if "port" in state:
            yield state["port"]
    finally:
        if thread.is_alive():
            state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()
    if "error" in state:
        raise state["error"]
