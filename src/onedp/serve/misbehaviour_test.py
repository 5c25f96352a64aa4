"""Clients that send what they should not, too much, or never read: they get an error, and the server lives."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onedp.errors import ServeError
from onedp.serve.client import PolicyClient
from onedp.serve.fake_policy_test import Continuing, FakePolicy, observation
from onedp.serve.fuzz import fuzzed_messages
from onedp.serve.loopback_test import connect, get, serving, wait_until
from onedp.serve.server import SPARE_SOCKETS
from onedp.serve.wire import pack, unpack
from onedp.types import FieldSpec, PolicySpec

# --- wrong messages; requests_test.py has the mistakes inside a request


def test_each_wrong_message_gets_its_error_and_the_connection_lives():
    good = pack(observation())
    wrong = {
        b"\xc1\xc1": "The message is not readable as msgpack",
        good[:-1]: "The message is not readable as msgpack: Unpack failed: incomplete input",
        "text": "The message is text, expected a binary one",
        pack([1]): "A request is a map of names to numpy arrays",
        pack({**observation(), "pos": np.zeros((2, 2), dtype=np.int8), "image": 3}): "Observation 'image' is a int",
        pack(observation(np.nan)): "Observation 'pos' has NaN or infinity",
        pack({**observation(), "speed": 1}): "unknown ['speed']",
        pack({**observation(), "policy": "x"}): "Unknown policy 'x'. Valid: fake.",
        pack(observation(13.0)): "The policy 'fake' failed: ZeroDivisionError: thirteen",
    }
    with serving() as port, connect(port) as connection:
        for data, message in wrong.items():
            connection.send(data)
            assert message in connection.recv(timeout=10)
            connection.send(good)
            assert unpack(connection.recv(timeout=10))["actions"].shape == (5, 2)
        _, _, metrics = get(port, "/metrics")
        assert 'onedp_errors_total{reason="malformed"} 3.0' in metrics
        assert 'onedp_errors_total{reason="refused"} 5.0' in metrics
        assert 'onedp_errors_total{reason="policy"} 1.0' in metrics


def test_an_error_answer_is_short_however_long_the_names():
    with serving() as port, connect(port) as connection:
        connection.send(pack({"x" * 50_000: 1}))
        assert len(connection.recv(timeout=10)) == 2000


def test_too_large_a_message_is_answered_and_a_far_too_large_one_closes_that_connection_only():
    with serving(limits={"message_bytes": 1000}) as port, connect(port) as other, connect(port) as connection:
        connection.send(b"x" * 1001)
        assert connection.recv(timeout=10) == "The message has 1,001 bytes, the limit is 1,000."
        connection.send(pack(observation()))
        assert unpack(connection.recv(timeout=10))["actions"].shape == (5, 2)
        connection.send(b"x" * 4001)
        with pytest.raises(ConnectionClosed, match="1009"):
            connection.recv(timeout=10)
        other.send(pack(observation()))
        assert unpack(other.recv(timeout=10))["actions"].shape == (5, 2)


def test_fuzzed_messages_do_no_harm():
    policy = Continuing()
    with serving({"fake": policy}, limits={"requests_per_s": 1e6}) as port, connect(port) as connection:
        errors = 0
        for data in fuzzed_messages(policy.spec, count=300, seed=0):
            connection.send(data)
            errors += isinstance(connection.recv(timeout=10), str)
        assert errors > 200  # a few changed bytes are still a request
        assert policy.previous  # of both kinds
        connection.send(pack(observation()))
        assert unpack(connection.recv(timeout=10))["actions"].shape == (5, 2)
        assert 'reason="bug"' not in get(port, "/metrics")[2]


def test_bytes_that_are_no_http_do_no_harm():
    with serving() as port:
        for data in (b"\x16\x03\x01" + b"\0" * 300, b"GET / HTTP/1.1\r\n\r\n", b"\r\n" * 50, b"x" * 20_000 + b"\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(data)
        with PolicyClient(port=port) as client:
            assert client.nfe == 1


# --- limits


def test_requests_beyond_the_rate_are_refused():
    with serving(limits={"requests_per_s": 0.001}) as port, connect(port) as connection:
        connection.send(pack(observation()))
        assert isinstance(connection.recv(timeout=10), bytes)
        connection.send(pack(observation()))
        assert connection.recv(timeout=10) == "Too many requests: the limit is 0.001 per second."


def test_connections_beyond_the_limit_are_refused_until_one_leaves():
    with serving(limits={"connections": 1}) as port:
        with PolicyClient(port=port), pytest.raises(ServeError, match="All 1 connections are taken"):
            PolicyClient(port=port)
        wait_until(lambda: "onedp_connections 0.0" in get(port, "/metrics")[2])
        with PolicyClient(port=port) as client:
            assert client.name == "fake"


@pytest.mark.parametrize("word", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_sockets_that_never_finish_their_handshake_lock_nobody_out(word):
    noise = np.zeros((1, 1, 6, 2), dtype=np.float32)
    with serving(limits={"connections": 4}) as port, contextlib.ExitStack() as stack, PolicyClient(port=port) as before:
        half_open = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(4 + SPARE_SOCKETS + 10)
        ]
        for each in half_open[10:]:
            each.sendall(word)
        assert half_open[0].recv(1) == b""  # the oldest gave way
        assert get(port, "/healthz")[2] == "OK\n"
        with PolicyClient(port=port) as client:
            assert client.infer(observation(rows=1), noise).shape == (1, 5, 2)
        assert before.infer(observation(rows=1), noise).shape == (1, 5, 2)
        half_open[-1].settimeout(0.05)
        with pytest.raises(TimeoutError):  # the newest still may
            half_open[-1].recv(1)
        count = get(port, "/metrics")[2].partition('onedp_refused_connections_total{reason="sockets"} ')[2].split()[0]
        assert float(count) >= 10


def test_as_many_clients_as_allowed_may_come_at_once():
    with serving(limits={"connections": 32}) as port, ThreadPoolExecutor(32) as pool, contextlib.ExitStack() as stack:
        clients = list(pool.map(lambda _: PolicyClient(port=port), range(32)))
        for client in clients:
            stack.enter_context(client)
        assert {client.name for client in clients} == {"fake"}
        with pytest.raises(ServeError, match="All 32 connections are taken"):
            PolicyClient(port=port)


def test_a_silent_connection_is_closed():
    with (
        serving(limits={"idle_s": 0.05}) as port,
        connect(port) as connection,
        pytest.raises(ConnectionClosed, match=r"1001 .* silent for 0.05 s"),
    ):
        connection.recv(timeout=10)


def test_web_pages_may_not_connect():
    with serving() as port, pytest.raises(InvalidStatus, match="403"):
        connect(port, origin="http://example.org").__enter__()


def test_a_client_that_never_reads_is_cut_off_and_stalls_nobody():
    wide = PolicySpec(
        (FieldSpec("pos", (2,), "m"),), FieldSpec("action", (64,), "m"), (-1,) * 64, (1,) * 64, 10.0, 4000
    )
    policy = FakePolicy(spec=wide)
    policy.infer = lambda obs, noise: np.zeros((len(noise), wide.chunk_length, 64), dtype=np.float32)  # type: ignore
    request = pack({"pos": np.zeros((2, 2), dtype=np.float32)})  # its answer has a megabyte
    with serving({"wide": policy}, limits={"write_s": 2.0}) as port, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        raw.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode())
        frame = bytes([0x82, 0x80 | len(request), 0, 0, 0, 0]) + request  # masked with zeros
        for _ in range(20):
            raw.sendall(frame)
        with connect(port, max_size=2**22) as other:
            for _ in range(5):
                other.send(request)
                assert isinstance(other.recv(timeout=10), bytes)
        wait_until(lambda: "onedp_slow_readers_total 1.0" in get(port, "/metrics")[2])
        wait_until(lambda: "onedp_connections 0.0" in get(port, "/metrics")[2])


def test_many_clients_share_a_pass():
    policy = FakePolicy()
    with serving({"fake": policy}) as port, ThreadPoolExecutor(6) as pool, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(6)]
        policy.batches.clear()
        policy.entered.clear()
        policy.gate.clear()
        clients[0].send(pack(observation(0.0)))
        assert policy.entered.wait(10)
        for value, client in enumerate(clients[1:], start=1):
            client.send(pack({**observation(float(value)), "noise": np.zeros((1, 6, 2))}))
        # a request answered at once shows that the five before it in the loop are queued
        with connect(port) as last:
            last.send(b"\xc1")
            last.recv(timeout=10)
        policy.gate.set()
        answers = [unpack(answer) for answer in pool.map(lambda client: client.recv(timeout=10), clients)]
        assert [answer["actions"][0, 0] for answer in answers[1:]] == [1, 2, 3, 4, 5]
        assert sum(policy.batches) == 6
        assert max(policy.batches) > 1
