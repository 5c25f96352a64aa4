"""What the page may say: JSON texts, one command each, checked before anything is done."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from onedp.errors import ServeError, unknown_choice
from onedp.tasks.pusht import WORKSPACE_PX
from onedp.typed_json import from_json

LARGEST_MESSAGE = 4096
"""[bytes]"""
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Drag:
    """Pull the T of these lanes towards a pose. The first one takes it."""

    lanes: tuple[int, ...]
    x: float
    """Of the T's origin [px]."""
    y: float
    angle: float
    """[rad]"""

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and abs(value) <= 4 * WORKSPACE_PX for value in (self.x, self.y, self.angle)):
            raise ServeError(f"The T cannot be pulled to {self.x:g}, {self.y:g}, angle {self.angle:g}.")


@dataclass(frozen=True)
class Release:
    """Let go of the T in these lanes."""

    lanes: tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """Other options of one lane; what is left out stays."""

    lane: int
    latency: str | None = None
    executor: str | None = None
    sampler: str | None = None

    @property
    def lanes(self) -> tuple[int, ...]:
        """The lane that it is about."""
        return (self.lane,)


@dataclass(frozen=True)
class Reset:
    """Begin the episode of a seed in every lane."""

    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ServeError(f"A start must be 0 to {LARGEST_SEED}, it is {self.seed}.")


@dataclass(frozen=True)
class Pause:
    """Stop the time of every lane, or let it go on."""

    paused: bool


Command = Drag | Release | Change | Reset | Pause
COMMANDS: dict[str, type[Command]] = {
    "drag": Drag,
    "release": Release,
    "change": Change,
    "reset": Reset,
    "pause": Pause,
}


def read_command(text: str | bytes, lanes: int) -> Command:
    """The command in a message of a page with so many lanes; raises ``ServeError`` that says what is wrong with it."""
    if isinstance(text, bytes):
        raise ServeError("The message is binary, expected a text: a JSON object.")
    if len(text.encode()) > LARGEST_MESSAGE:
        raise ServeError(f"The message has more than {LARGEST_MESSAGE} bytes.")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ServeError("The message is not JSON.") from None
    if not isinstance(data, dict):
        raise ServeError("The message is no JSON object.")
    kind = data.pop("type", None)
    if not isinstance(kind, str) or kind not in COMMANDS:
        raise ServeError(unknown_choice("type of message", str(kind)[:40], COMMANDS))
    command: Command = from_json(COMMANDS[kind], data, f"The message '{kind}'", ServeError)
    for lane in getattr(command, "lanes", ()):
        if not 0 <= lane < lanes:
            raise ServeError(f"There is no lane {lane}, expected 0 to {lanes - 1}.")
    return command
