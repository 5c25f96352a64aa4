"""What the page may say, and what is answered to everything else."""

from __future__ import annotations

import json

import pytest

from onedp.errors import ServeError
from onedp.live.protocol import LARGEST_MESSAGE, Change, Drag, Pause, Release, Reset, read_command


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ({"type": "drag", "lanes": [0, 1], "x": 100, "y": 2.5, "angle": 1.0}, Drag((0, 1), 100.0, 2.5, 1.0)),
        ({"type": "release", "lanes": [1]}, Release((1,))),
        ({"type": "change", "lane": 1, "latency": "0.075"}, Change(1, latency="0.075")),
        ({"type": "reset", "seed": 7}, Reset(7)),
        ({"type": "pause", "paused": True}, Pause(True)),
    ],
)
def test_commands_are_read(message, command) -> None:
    assert read_command(json.dumps(message), lanes=2) == command


DRAG = '{"type": "drag", "lanes": [0], "y": 1, "angle": 0, '


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("[]", "no JSON object"),
        ("{}", "Unknown type of message 'None'"),
        ('{"type": ["drag"]}', r"Unknown type of message '\['drag'\]'"),
        ('{"type": "drug"}', "Did you mean 'drag'"),
        (b"\x00", "binary, expected a text"),
        (" " * (LARGEST_MESSAGE + 1), "more than 4096 bytes"),
        (DRAG + '"x": "far"}', "'x' is \"far\", expected a number"),
        (DRAG + '"x": NaN}', "cannot be pulled to nan"),
        (DRAG + '"x": 1e300}', "cannot be pulled to 1e\\+300"),
        (DRAG + '"x": 1, "z": 1}', "unknown entries"),
        ('{"type": "release"}', "no entry 'lanes'"),
        ('{"type": "release", "lanes": [2]}', "There is no lane 2, expected 0 to 1"),
        ('{"type": "change", "lane": -1}', "There is no lane -1"),
        ('{"type": "change", "lane": 0, "latency": 0.1}', "'latency' is 0.1, expected a text or null"),
        ('{"type": "reset", "seed": -1}', "A start must be 0 to 4294967295, it is -1"),
        ('{"type": "reset", "seed": 1.5}', "'seed' is 1.5, expected a whole number"),
        ('{"type": "pause", "paused": "yes"}', "'paused' is \"yes\", expected true or false"),
    ],
)
def test_everything_else_is_refused_with_the_reason(message, error: str) -> None:
    with pytest.raises(ServeError, match=error):
        read_command(message, lanes=2)
