"""The server as browsers and strangers meet it, on loopback, with policies that need no network."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import onedp.live.server as server_module
from onedp.errors import OneDPError, ServeError
from onedp.live.fake_member_test import Pusher, always_40_ms, at_once, fake_member
from onedp.live.protocol import LARGEST_MESSAGE
from onedp.live.server import FILES, READ_BEYOND_LIMIT, LiveConfig, LiveServer
from onedp.live.stage import Stage, StageConfig
from onedp.serve.run import running_in_thread

TOKEN = "a-token-of-the-tests"


@contextmanager
def serving(token: str | None = None, measure=always_40_ms) -> Iterator[int]:
    cast = [fake_member("first", measure=measure), fake_member("second", policy=Pusher())]
    stage = Stage(cast, StageConfig(latency="0", seed=3), make_planner=at_once)
    with running_in_thread(LiveServer(stage, LiveConfig(port=0, token=token))) as port:
        yield port


@contextmanager
def page(port: int, **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}/ws", open_timeout=30, **options) as socket:
        hello = json.loads(socket.recv(timeout=30))
        assert hello["type"] == "hello"
        yield socket


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def next_of(socket: ClientConnection, kind: str, condition=lambda message: True) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        message = json.loads(socket.recv(timeout=30))
        if message["type"] == kind and condition(message):
            return message
    raise AssertionError(f"no such {kind} came")


def is_at(lane: dict[str, Any], x: float, y: float) -> bool:
    return bool(np.hypot(lane["block"][0] - x, lane["block"][1] - y) < 5)


def get(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def test_the_page_and_its_files() -> None:
    with serving() as port:
        for path, (_, kind) in FILES.items():
            status, headers, body = get(port, path)
            assert (status, headers["Content-Type"]) == (200, kind)
            assert "default-src 'self'" in headers["Content-Security-Policy"]
            assert len(body) > 500
        assert get(port, "/?x=1")[0] == 200
        for path in ("/nothing", "/../server.py", "/page/index.html"):
            assert get(port, path)[0] == 404


def test_a_page_sees_its_lanes_move() -> None:
    with serving() as port, page(port) as socket:
        first = next_of(socket, "state")
        later = next_of(socket, "state", lambda state: state["lanes"][0]["tick"] > first["lanes"][0]["tick"] + 5)
        assert [lane["nfe"] for lane in later["lanes"]] == [1, 1]
        assert later["lanes"][0]["agent"] != first["lanes"][0]["agent"]
        assert later["lanes"][0]["rate_hz"] > 0


def test_the_t_follows_the_hand_in_the_lanes_named_until_released() -> None:
    with serving() as port, page(port) as socket:
        before = next_of(socket, "state")
        say(socket, type="drag", lanes=[1], x=140, y=120, angle=0.5)
        state = next_of(
            socket, "state", lambda state: np.hypot(*np.subtract(state["lanes"][1]["block"][:2], (140, 120))) < 5
        )
        assert state["lanes"][1]["held"]
        assert not state["lanes"][0]["held"]
        assert not is_at(before["lanes"][1], 140, 120)
        say(socket, type="release", lanes=[1])
        next_of(socket, "state", lambda state: not state["lanes"][1]["held"])


def test_a_page_that_goes_away_lets_go() -> None:
    with serving() as port, page(port) as watcher:
        with page(port) as socket:
            say(socket, type="drag", lanes=[0, 1], x=140, y=120, angle=0.5)
            next_of(watcher, "state", lambda state: state["lanes"][0]["held"])
        next_of(watcher, "state", lambda state: not any(lane["held"] for lane in state["lanes"]))


def test_options_are_changed_and_refused() -> None:
    with serving() as port, page(port) as socket:
        say(socket, type="change", lane=0, latency="measured", executor="rtc")
        state = next_of(socket, "state", lambda state: state["lanes"][0]["executor"] == "rtc")
        next_of(socket, "state", lambda state: state["lanes"][0]["delay_ms"] == 40)
        assert state["lanes"][1]["executor"] == "sync"
        say(socket, type="change", lane=0, sampler="ten", executor="sync", latency="paper")
        next_of(socket, "state", lambda state: state["lanes"][0]["delay_ms"] == 80)  # 75 ms are 4 ticks
        for options, error in (
            ({"lane": 1, "executor": "rtc"}, "second cannot go on from the chunk before"),
            ({"lane": 0, "executor": "fast"}, "Unknown executor 'fast'"),
            ({"lane": 0, "sampler": "ddim:10"}, "Unknown sampler of first 'ddim:10'"),
            ({"lane": 0, "latency": "/etc/passwd"}, "The latency '/etc/passwd' is not known"),
            ({"lane": 0, "latency": "1e9"}, "A latency must be 0 to 5 seconds here"),
        ):
            say(socket, type="change", **options)
            assert error in next_of(socket, "error")["text"]
        assert next_of(socket, "state")["lanes"][0]["sampler"] == "ten"


def test_nobody_waits_for_a_measurement() -> None:
    """Nor for a page that goes away meanwhile, with a T in its hand."""
    measuring, go_on = threading.Event(), threading.Event()

    def measure(policy, continuing):
        measuring.set()
        assert go_on.wait(120)
        return always_40_ms(policy, continuing)

    with serving(measure=measure) as port, page(port) as asking, page(port) as watcher:
        try:
            with page(port) as leaving:
                say(leaving, type="drag", lanes=[1], x=140, y=120, angle=0.5)
                next_of(watcher, "state", lambda state: state["lanes"][1]["held"])
                say(asking, type="change", lane=0, latency="measured")
                assert measuring.wait(30)
            next_of(watcher, "state", lambda state: not state["lanes"][1]["held"])
            assert get(port, "/")[0] == 200
            say(watcher, type="pause", paused=True)
            assert next_of(watcher, "state", lambda state: state["paused"])["lanes"][0]["latency"] == "0"
        finally:
            go_on.set()
        next_of(watcher, "state", lambda state: state["lanes"][0]["latency"] == "measured")
        say(asking, type="reset", seed=9)  # done after all pauses
        state = next_of(watcher, "state", lambda state: [lane["seed"] for lane in state["lanes"]] == [9, 9])
        assert all(lane["paused"] for lane in state["lanes"])  # as the user wants


def test_reset_and_pause() -> None:
    with serving() as port, page(port) as socket:
        say(socket, type="pause", paused=True)
        next_of(socket, "state", lambda state: state["paused"] and state["lanes"][0].get("paused"))
        say(socket, type="reset", seed=9)
        state = next_of(socket, "state", lambda state: [lane["seed"] for lane in state["lanes"]] == [9, 9])
        assert state["seed"] == 9
        assert [lane["tick"] for lane in state["lanes"]] == [0, 0]
        assert state["lanes"][0]["block"] == state["lanes"][1]["block"]
        say(socket, type="pause", paused=False)
        next_of(socket, "state", lambda state: state["lanes"][0]["tick"] > 0)


def test_malformed_messages_get_an_error_and_the_server_lives() -> None:
    with serving() as port, page(port) as socket:
        for message, error in (
            ("{", "not JSON"),
            (b"\x00\xff", "binary"),
            ('{"type": "drag", "lanes": [9], "x": 1, "y": 1, "angle": 0}', "There is no lane 9"),
            ("x" * (LARGEST_MESSAGE + 1), "more than 4096 bytes"),
        ):
            socket.send(message)
            assert error in next_of(socket, "error")["text"]
        next_of(socket, "state")
        socket.send("x" * (READ_BEYOND_LIMIT * LARGEST_MESSAGE + 1))
        with pytest.raises(ConnectionClosed):
            next_of(socket, "never")
        with page(port) as another:
            next_of(another, "state")


def test_a_flood_is_refused_and_the_server_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MESSAGES_PER_S", 2.0)
    with serving() as port, page(port) as socket:
        for _ in range(20):
            say(socket, type="release", lanes=[])
        assert "Too many messages" in next_of(socket, "error")["text"]
        next_of(socket, "state")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:1", "http://127.0.0.1"])
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    with serving() as port:
        with pytest.raises(InvalidStatus) as caught, page(port, origin=origin):
            pass
        assert caught.value.response.status_code == 403
        assert get(port, "/", Origin=origin)[0] == 403


def test_a_foreign_name_for_this_machine_is_refused() -> None:
    with serving() as port:
        status, _, body = get(port, "/", Host=f"evil.example:{port}")
        assert (status, b"loopback address only" in body) == (403, True)
        assert get(port, "/", Host=f"localhost:{port}")[0] == 200
        assert get(port, "/", Host="[")[0] == 403


def test_our_own_page_may_come_in() -> None:
    with serving() as port, page(port, origin=f"http://127.0.0.1:{port}") as socket:
        next_of(socket, "state")


def test_with_a_token_only_who_knows_it_may_come_in() -> None:
    with serving(token=TOKEN) as port:
        for query in ("", "?token=wrong"):
            with pytest.raises(InvalidStatus) as caught, connect(f"ws://127.0.0.1:{port}/ws{query}"):
                pass
            assert caught.value.response.status_code == 401
            status, _, body = get(port, f"/ws{query}")  # how the page learns why
            assert (status, body) == (401, b"Open the address that onedp live printed.\n")
        with connect(f"ws://127.0.0.1:{port}/ws?token={TOKEN}") as socket:
            assert json.loads(socket.recv(timeout=30))["type"] == "hello"


def test_beyond_loopback_a_token_is_needed() -> None:
    stage = Stage([fake_member()], StageConfig(latency="0"), make_planner=at_once)
    with pytest.raises(ServeError, match="can be reached from other machines"):
        LiveServer(stage, LiveConfig(host="0.0.0.0"))


def test_a_taken_port_is_named() -> None:
    with serving() as port:
        stage = Stage([fake_member()], StageConfig(latency="0"), make_planner=at_once)
        server = LiveServer(stage, LiveConfig(port=port))
        with pytest.raises(ServeError, match=f"Cannot listen on 127.0.0.1:{port}"), running_in_thread(server):
            pass


def test_a_stage_refuses_what_it_cannot_show() -> None:
    with pytest.raises(OneDPError, match="There is no policy to show"):
        Stage([], StageConfig())
    with pytest.raises(OneDPError, match="Unknown task of onedp live 'lift'"):
        Stage([fake_member(task="lift")], StageConfig(latency="0"))
    with pytest.raises(OneDPError, match="Unknown executor 'fast'"):
        Stage([fake_member()], StageConfig(executor="fast"))
