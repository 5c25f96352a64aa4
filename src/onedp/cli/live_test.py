"""``onedp live`` at the command line: what it refuses, and that it serves until it is told to stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import pytest

from onedp.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "live needs a POLICY or several"),
        (["pusht-keypoints-onedp-s", "--host", "0.0.0.0"], "can be reached from other machines"),
        (["pusht-keypoints-onedp-s", "--seed", "-1"], "--seed must be 0 to"),
        (["pusht-keypoints-onedp-s", "--task", "lift"], "Unknown task of onedp live 'lift'"),
        (["pusht-keypoints-onedp-s", "--latency", "soon"], "The latency 'soon' is not known"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, error, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["live", *arguments])
    assert stop.value.code == 2
    assert error in capsys.readouterr().err


@pytest.mark.slow
def test_it_serves_the_shipped_policies_until_a_signal() -> None:
    command = [sys.executable, "-m", "onedp.cli.main", "live", "pusht-keypoints-onedp-s", "--latency", "true"]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Open http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[1], timeout=30) as answer:
            assert b"Push-T, live" in answer.read()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
