"""``onedp serve`` as a process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from onedp.cli.main import main
from onedp.serve.client import PolicyClient


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "serve needs a POLICY, for example: onedp serve pusht-keypoints-onedp-s"),
        (["no-such-policy"], "Unknown policy 'no-such-policy'"),
        (["pusht-keypoints-onedp-s", "--host", "0.0.0.0"], "can be reached from other machines"),
        (["pusht-keypoints-onedp-s", "--token-file", "nowhere"], "The token file nowhere is not readable"),
        (["pusht-keypoints-onedp-s", "--threads", "0"], "threads is 0, expected a whole number from 1 to"),
        (["pusht-keypoints-onedp-s", "pusht-keypoints-onedp-s"], "Two policies have the same name"),
        (["pusht-keypoints-onedp-s", "--seed", "-1"], "The server's seed is -1, expected 0 to 2**63 - 1"),
        (["pusht-keypoints-onedp-s", "--seed", str(2**63)], "seed is 9223372036854775808, expected 0 to"),
        (["pusht-keypoints-onedp-s", "--limits.rows", "0"], "Every limit of the server must be positive"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["serve", *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("onedp: ")


@pytest.mark.slow
def test_shipped_policies_answer_as_they_do_without_a_server():
    command = [sys.executable, "-m", "onedp.cli.main", "serve", "pusht-keypoints-edm-onedp-s"]
    command += ["pusht-keypoints-edm@heun:10", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("Serving pusht-keypoints-edm-onedp-s, pusht-keypoints-edm@heun:10 on ws://127.0.0.1:"), (
            process.communicate()
        )
        from onedp.policy import load_policy

        own = load_policy("pusht-keypoints-edm-onedp-s")
        obs = own.spec.fake_observation(1, np.random.default_rng(0))
        noise = np.random.default_rng(1).standard_normal((1, *own.noise_shape), dtype=np.float32)
        port = int(line.rpartition(":")[2])
        with PolicyClient(port=port) as client:
            np.testing.assert_allclose(client.infer(obs, noise), own.infer(obs, noise), atol=1e-3)  # pixels of 512
        with PolicyClient(port=port, policy="pusht-keypoints-edm@heun:10") as client:
            assert client.nfe == 19
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        _, stderr = process.communicate()
    assert stderr == ""
