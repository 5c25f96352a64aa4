"""The server as its clients meet it: openpi's own client, ours, and who wants to see metrics. All on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onedp.errors import ServeError, SpecError
from onedp.policy import load_policy
from onedp.serve.client import ContinuingClient, PolicyClient
from onedp.serve.fake_policy_test import Continuing, FakePolicy, observation
from onedp.serve.loopback_test import connect, get, serving
from onedp.serve.requests import OPTIONS
from onedp.serve.run import serve_in_thread
from onedp.serve.server import PolicyServer, ServerConfig
from onedp.serve.wire import pack, unpack
from onedp.types import (
    RESERVED_NAMES,
    Continuation,
    ContinuingPolicy,
    FieldSpec,
    Policy,
    PolicySpec,
    episode_noise,
)

TOKEN = "a-token-of-the-tests"


# --- openpi's client


their_warning = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")


def openpi_client(port, **options):
    module = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client needs Python < 3.13")
    return module.WebsocketClientPolicy("127.0.0.1", port, **options)


@their_warning
def test_openpi_client_gets_metadata_actions_and_timing():
    with serving({"fake": FakePolicy(), "second": FakePolicy(offset=10.0)}) as port:
        client = openpi_client(port)
        metadata = client.get_server_metadata()
        assert metadata["server"] == "onedp"
        assert metadata["default_policy"] == "fake"
        assert PolicySpec.from_json(metadata["policies"]["second"]["spec"]) == FakePolicy().spec
        assert metadata["policies"]["fake"]["noise_shape"] == [1, 6, 2]
        assert metadata["limits"]["rows"] == 16

        answer = client.infer({**observation(2.0), "seed": 3, "chunk": 4})
        noise = episode_noise(3, 4, (1, 6, 2))[0, 1:]
        assert answer["actions"].dtype == np.float32
        np.testing.assert_allclose(answer["actions"], 2.0 + np.arange(5)[:, None] + noise, rtol=1e-6)
        assert set(answer["server_timing"]) == {"queue_ms", "infer_ms", "total_ms", "batch_rows"}
        assert 0 <= answer["server_timing"]["infer_ms"] <= answer["server_timing"]["total_ms"]

        batch = client.infer({**observation(2.0, rows=2), "noise": np.zeros((2, 1, 6, 2)), "policy": "second"})
        assert batch["actions"].shape == (2, 5, 2)
        assert batch["actions"][:, 0, 0].tolist() == [12, 12]
        assert batch["policy"] == "second"


@their_warning
def test_openpi_client_gets_the_message_of_an_error_and_goes_on():
    with serving() as port:
        client = openpi_client(port)
        with pytest.raises(RuntimeError, match=r"Error in inference server:\nObservation has the fields"):
            client.infer({"prompt": "pick up the block"})
        assert client.infer(observation())["actions"].shape == (5, 2)


@their_warning
def test_openpi_client_shows_its_token():
    with serving(token=TOKEN) as port:
        assert openpi_client(port, api_key=TOKEN).infer(observation())["actions"].shape == (5, 2)
        with pytest.raises(InvalidStatus):
            openpi_client(port, api_key="another")


# --- our client


def test_our_client_is_the_policy_it_asks():
    policy = FakePolicy()
    obs, noise = observation(0.5, rows=3), np.random.default_rng(0).standard_normal((3, 1, 6, 2), dtype=np.float32)
    with serving({"a": FakePolicy(offset=9.0), "b": policy}) as port, PolicyClient(port=port, policy="b") as client:
        assert isinstance(client, Policy)
        assert (client.spec, client.noise_shape, client.nfe) == (policy.spec, policy.noise_shape, policy.nfe)
        np.testing.assert_array_equal(client.infer(obs, noise), policy.infer(obs, noise))
        assert client.timing["batch_rows"] == 3


def test_our_client_goes_on_from_a_chunk_as_the_policy_does():
    policy, rng = Continuing(), np.random.default_rng(0)
    obs, noise = observation(0.5, rows=2), rng.standard_normal((2, 1, 6, 2), dtype=np.float32)
    before = Continuation(rng.random((2, 5, 2), dtype=np.float32), rng.random((2, 5), dtype=np.float32))
    with serving({"a": FakePolicy(), "b": policy}) as port:
        with ContinuingClient(port=port, policy="b") as client:
            answer = client.infer_continuing(obs, noise, before)
            np.testing.assert_array_equal(policy.previous[-1].actions, before.actions)
            np.testing.assert_array_equal(answer, policy.infer_continuing(obs, noise, before))
            np.testing.assert_array_equal(client.infer(obs, noise), policy.infer(obs, noise))
        with pytest.raises(ServeError, match=r"The policy 'a' of the server at .* cannot go on from the chunk before"):
            ContinuingClient(port=port)
        assert isinstance(client, ContinuingPolicy)
        with PolicyClient(port=port, policy="b") as other:
            assert not isinstance(other, ContinuingPolicy)


def test_a_server_of_before_chunks_went_on_is_named(monkeypatch):
    def before(server):
        told = now(server)
        for offer in told["policies"].values():
            del offer["continues"]
        return told

    now = PolicyServer.metadata
    monkeypatch.setattr(PolicyServer, "metadata", before)
    with serving({"b": Continuing()}) as port:
        with pytest.raises(ServeError, match=r"does not know chunks that go on from the one before.* Update it"):
            ContinuingClient(port=port)
        with PolicyClient(port=port) as client:
            assert client.infer(observation(1.0, rows=1), np.zeros((1, 1, 6, 2), np.float32)).shape == (1, 5, 2)


def test_a_policy_is_warmed_up_for_both_kinds_of_chunks():
    policy = Continuing()
    with serving({"b": policy}):
        assert policy.batches == [1, 1]
        assert [previous.weights.max() for previous in policy.previous] == [0]


def test_a_real_policy_goes_on_from_a_chunk_through_a_server():
    policy, rng = load_policy("pusht-keypoints-onedp-s"), np.random.default_rng(0)
    obs = policy.spec.fake_observation(2, rng)
    noise = rng.standard_normal((2, *policy.noise_shape), dtype=np.float32)
    tail = policy.infer(obs, noise)
    before = Continuation(tail, np.linspace(1, 0, 2 * tail.shape[1], dtype=np.float32).reshape(2, -1))
    with serving({"real": policy}) as port, ContinuingClient(port=port) as client:
        answer = client.infer_continuing(obs, noise, before)
    np.testing.assert_allclose(answer, policy.infer_continuing(obs, noise, before), atol=1e-3)


def test_our_client_says_what_went_wrong():
    policy = FakePolicy()
    noise = np.zeros((1, 1, 6, 2), dtype=np.float32)
    with serving({"fake": policy}, token=TOKEN) as port:
        with pytest.raises(ServeError, match=r"refuses: This server wants the header 'Authorization: Api-Key TOKEN'"):
            PolicyClient(port=port)
        with pytest.raises(ServeError, match=r"Unknown policy 'fak'. Did you mean 'fake'\?"):
            PolicyClient(port=port, token=TOKEN, policy="fak")
        with PolicyClient(port=port, token=TOKEN) as client:
            with pytest.raises(ServeError, match=r"refuses the request: The policy 'fake' failed: ZeroDivisionError"):
                client.infer(observation(13.0, rows=1), noise)
            assert client.infer(observation(1.0, rows=1), noise).shape == (1, 5, 2)
        policy.gate.clear()
        with PolicyClient(port=port, token=TOKEN, timeout_s=0.2) as client:
            with pytest.raises(ServeError, match=r"did not answer within 0.2 s; the connection is closed"):
                client.infer(observation(1.0, rows=1), noise)
            with pytest.raises(ServeError, match=r"The connection to ws://127.0.0.1:.* is closed"):
                client.infer(observation(1.0, rows=1), noise)
        policy.gate.set()
    with pytest.raises(ServeError, match=r"No policy server answers at .* Start one: onedp serve"):
        PolicyClient(port=port, token=TOKEN)
    for wrong in (0, -1, 99999):
        with pytest.raises(ServeError, match=f"The port of the server is {wrong}, expected 1 to 65535"):
            PolicyClient(port=wrong)
    for odd in ("sécret", "two\nlines"):
        with pytest.raises(ServeError, match="not one line of printable ASCII"):
            PolicyClient(port=port, token=odd)
    for host in ("[::1", "a b", "x/../y"):
        with pytest.raises(ServeError, match="No policy server answers at"):
            PolicyClient(host=host, port=port)


# --- access, health, metrics


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_beyond_loopback_a_token_is_demanded(host):
    with pytest.raises(ServeError, match=r"can be reached from other machines, .* Give --token-file"):
        PolicyServer({"fake": FakePolicy()}, ServerConfig(host=host))
    PolicyServer({"fake": FakePolicy()}, ServerConfig(host=host, token=TOKEN))
    assert TOKEN not in repr(ServerConfig(host=host, token=TOKEN))


def test_health_and_metrics():
    with serving() as port:
        assert get(port, "/healthz") == (200, "text/plain; charset=utf-8", "OK\n")
        with PolicyClient(port=port) as client:
            client.infer(observation(1.0, rows=2), np.zeros((2, 1, 6, 2), dtype=np.float32))
            status, kind, text = get(port, "/metrics")
        assert status == 200
        assert kind.startswith("text/plain; version=")
        assert 'onedp_answers_total{policy="fake"} 1.0' in text
        assert 'onedp_batch_rows_sum{policy="fake"} 2.0' in text
        assert 'onedp_infer_seconds_count{policy="fake"} 1.0' in text
        assert "onedp_connections 1.0" in text
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as plain:
            plain.request("GET", "/")
            assert plain.getresponse().status == 426  # no websocket


def test_with_a_token_health_is_open_and_metrics_are_not():
    with serving(token=TOKEN) as port:
        assert get(port, "/healthz")[0] == 200
        with pytest.raises(urllib.request.HTTPError, match="401"):
            get(port, "/metrics")
        assert "onedp_answers" in get(port, "/metrics", {"Authorization": f"Api-Key {TOKEN}"})[2]


# --- set-up and end


def test_a_policy_that_fails_its_warm_up_is_not_served():
    policy = FakePolicy()
    policy.infer = lambda obs, noise: np.zeros((1, 1, 1), dtype=np.float32)  # type: ignore[method-assign]
    with pytest.raises(ServeError, match="The policy 'fake' failed"), serving({"fake": policy}):
        pass


def test_a_taken_port_is_named():
    config = ServerConfig(port=0)
    with serve_in_thread({"fake": FakePolicy()}, config) as port:
        again = ServerConfig(port=port)
        with (
            pytest.raises(ServeError, match=f"Cannot listen on 127.0.0.1:{port}"),
            serve_in_thread({"fake": FakePolicy()}, again),
        ):
            pass


def test_no_observation_can_be_called_as_an_option():
    assert set(OPTIONS) <= set(RESERVED_NAMES)
    with pytest.raises(SpecError, match=r"Observations cannot be named \['seed'\]"):
        PolicySpec((FieldSpec("seed", (2,), "m"),), FieldSpec("action", (2,), "m"), (-1, -1), (1, 1), 10.0)


def test_a_server_needs_a_policy_and_a_seed_that_exists():
    for seed in (-1, 2**63, 10**26):
        with pytest.raises(ServeError, match=f"The server's seed is {seed}, expected 0 to"):
            ServerConfig(seed=seed)
    with pytest.raises(ServeError, match="There is no policy to serve"):
        PolicyServer({}, ServerConfig())


def test_stopping_finishes_the_request_in_flight():
    policy = FakePolicy()
    answers = []

    def ask(port):
        with connect(port) as connection:
            connection.send(pack(observation()))
            answers.append(connection.recv(timeout=10))
            with pytest.raises(ConnectionClosed, match="server stops"):
                connection.recv(timeout=10)

    with serving({"fake": policy}) as port:
        policy.entered.clear()
        policy.gate.clear()
        thread = threading.Thread(target=ask, args=(port,))
        thread.start()
        assert policy.entered.wait(10)
        threading.Timer(0.05, policy.gate.set).start()  # after the context has told the server to stop
    thread.join(10)
    assert unpack(answers[0])["actions"].shape == (5, 2)


PROGRAM = """
import sys, threading
from onedp.serve.fake_policy_test import FakePolicy
from onedp.serve.requests import OPTIONS
from onedp.serve.run import serve_until_signal
from onedp.serve.server import ServerConfig
policy = FakePolicy()
def release():  # the test says when the policy may answer
    policy.entered.wait()
    print("thinking", flush=True)
    sys.stdin.readline()
    policy.gate.set()
def ready(port):  # after the warm-up
    policy.entered.clear()
    policy.gate.clear()
    threading.Thread(target=release, daemon=True).start()
    print(port, flush=True)
serve_until_signal({"fake": policy}, ServerConfig(port=0), ready)
"""


def test_sigterm_answers_the_request_in_flight_and_exits_with_0():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin
        assert process.stdout
        with connect(int(process.stdout.readline())) as connection:
            connection.send(pack(observation()))
            assert process.stdout.readline() == "thinking\n"
            process.terminate()
            time.sleep(0.1)  # whether the signal or the line comes first, the answer must come
            process.stdin.write("\n")
            process.stdin.flush()
            assert unpack(connection.recv(timeout=10))["actions"].shape == (5, 2)
        assert process.wait(20) == 0
    finally:
        process.kill()
        _, stderr = process.communicate()
    assert stderr == ""


def test_the_metadata_is_plain_data():
    metadata = PolicyServer({"fake": FakePolicy()}, ServerConfig()).metadata()
    assert unpack(pack(metadata)) == json.loads(json.dumps(metadata))
