"""The example of a robot, against a server on loopback, in real time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from onedp.errors import OneDPError
from onedp.runtime.watchdog import WatchdogLimits
from onedp.serve.fake_policy_test import SPEC, Continuing, FakePolicy
from onedp.serve.run import serve_in_thread
from onedp.serve.server import ServerConfig

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "robot_loop.py"

if not EXAMPLE.is_file():
    pytest.skip("not run from the source tree", allow_module_level=True)


def example(inference_s: float):
    """The module, with a watchdog that a busy machine does not wake."""
    spec = importlib.util.spec_from_file_location("robot_loop", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.WatchdogLimits = lambda **_: WatchdogLimits(inference_s=inference_s, observation_s=60.0)  # type: ignore
    return module


def test_the_example_drives_its_robot_and_stops_it(capsys):
    policy = FakePolicy(spec=replace(SPEC, rate_hz=100.0))
    with serve_in_thread({"fake": policy}, ServerConfig(port=0)) as port:
        robot = example(inference_s=60.0).main(["--port", str(port), "--seconds", "0.3"])
    out = capsys.readouterr().out
    assert robot.stopped
    assert out.startswith("Stopped: the 30 ticks are over. Counters(executed=")
    assert sum(policy.batches) > 1  # the warm-up, and the robot


@pytest.mark.parametrize("executor", ["drop-late", "ensemble", "rtc"])
def test_the_example_may_go_on_while_its_policy_thinks(capsys, executor):
    policy = Continuing(spec=replace(SPEC, rate_hz=100.0))
    with serve_in_thread({"fake": policy}, ServerConfig(port=0)) as port:
        robot = example(inference_s=60.0).main(["--port", str(port), "--seconds", "0.3", "--executor", executor])
    assert robot.stopped
    assert capsys.readouterr().out.startswith("Stopped: the 30 ticks are over. Counters(executed=")
    assert (len(policy.previous) > 1) == (executor == "rtc")  # the first one is the warm-up


def test_the_example_stops_its_robot_when_the_policy_hangs(capsys):
    policy = FakePolicy(spec=replace(SPEC, rate_hz=100.0))
    with serve_in_thread({"fake": policy}, ServerConfig(port=0)) as port:
        policy.gate.clear()
        robot = example(inference_s=0.1).main(["--port", str(port), "--seconds", "60"])
        policy.gate.set()
    assert robot.stopped
    assert capsys.readouterr().out.startswith("Stopped: the policy has thought for ")


def test_the_example_says_what_is_wrong_with_its_server(tmp_path):
    """No traceback, whether there is no server or it wants a token."""
    policy = FakePolicy(spec=replace(SPEC, rate_hz=100.0))
    (tmp_path / "token").write_text("secret-" + "x" * 32)
    (tmp_path / "token").chmod(0o600)
    config = ServerConfig(port=0, token="secret-" + "x" * 32)
    with serve_in_thread({"fake": policy}, config) as port:
        run = [sys.executable, str(EXAMPLE), "--port", str(port), "--seconds", "0.2"]
        refused = subprocess.run(run, capture_output=True, text=True, timeout=120)
        admitted = subprocess.run([*run, "--token-file", str(tmp_path / "token")], capture_output=True, timeout=120)
    assert (refused.returncode, admitted.returncode) == (2, 0)
    assert refused.stderr.startswith("robot_loop: ")
    assert "wants the header 'Authorization: Api-Key TOKEN'" in refused.stderr
    gone = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert gone.returncode == 2
    assert gone.stderr.startswith("robot_loop: ")
    assert "Traceback" not in gone.stderr + refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "nan"], "--seconds is nan, expected a positive number"),
        (["--seconds", "inf"], "--seconds is inf, expected a positive number"),
        (["--seconds", "-1"], "--seconds is -1, expected a positive number"),
        (["--seconds", "1e-9"], "to run for 0 ticks, expected at least 1"),
        (["--port", "99999"], "The port of the server is 99999, expected 1 to 65535"),
        (["--max-step", "inf"], "max_step is inf, expected one positive number"),
        (["--max-step", "nan"], "max_step is nan, expected one positive number"),
        (["--max-step", "-1"], "max_step is -1.0, expected one positive number"),
        (["--executor", "rtc"], "cannot go on from the chunk before, which rtc needs"),
        (["--token-file", "token"], "The token file token is not readable"),
    ],
)
def test_the_example_refuses_what_makes_no_sense(tmp_path, monkeypatch, arguments, message):
    (tmp_path / "token").write_bytes("secr\u00e9t-of-the-tests".encode("latin-1"))
    (tmp_path / "token").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    with serve_in_thread({"fake": FakePolicy()}, ServerConfig(port=0)) as port, pytest.raises(OneDPError) as refusal:
        example(inference_s=60.0).main(["--port", str(port), "--seconds", "0.1", *arguments])
    assert message in str(refusal.value)  # which the example prints, and exits with 2
    assert "\n" not in str(refusal.value)
