"""What the tests of the server share: servers on loopback at ports the system chooses, and bare clients."""

from __future__ import annotations

import contextlib
import time
import urllib.request

import websockets.sync.client

from onedp.serve.fake_policy_test import FakePolicy
from onedp.serve.limits import ServerLimits
from onedp.serve.run import serve_in_thread
from onedp.serve.server import ServerConfig


@contextlib.contextmanager
def serving(policies=None, **config):
    policies = policies or {"fake": FakePolicy()}
    limits = ServerLimits(**{"drain_s": 5.0, **config.pop("limits", {})})
    with serve_in_thread(policies, ServerConfig(port=0, limits=limits, **config)) as port:
        yield port


@contextlib.contextmanager
def connect(port, **options):
    """A bare websocket whose metadata has been read."""
    with websockets.sync.client.connect(f"ws://127.0.0.1:{port}", compression=None, **options) as connection:
        connection.recv(timeout=10)
        yield connection


def get(port, path, headers=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def wait_until(condition):
    """A deadline against hanging only; says nothing about speed."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
