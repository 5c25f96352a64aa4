"""The one exception family that reaches a user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OneDPError(Exception):
    """Something the user can mend.

    The message says what was wrong, what was expected and what to do next. The command line prints it without a
    traceback and exits with code 2.
    """


class DataError(OneDPError):
    """Demonstrations that cannot be read or do not fit the task."""


class ArtifactError(OneDPError):
    """A policy folder that is missing, damaged, tampered with or of another version."""


class CheckpointError(OneDPError):
    """A checkpoint of another library that cannot be imported."""


class SpecError(OneDPError):
    """Observations, noise or actions that do not match a policy's spec."""


class TrainingError(OneDPError):
    """Training that cannot continue: not-a-number losses, a checkpoint of another run."""


class ServeError(OneDPError):
    """A request that the policy server refuses, or a server that does not answer as it should."""


class HubError(OneDPError):
    """A hub of policies that does not answer, or refuses."""


def did_you_mean(given: str, choices: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest of ``choices``, or an empty text when none is near."""
    near = difflib.get_close_matches(given, list(choices), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown_choice(what: str, given: str, choices: Iterable[str]) -> str:
    """Message for a name that is not in a table: what was given, the nearest match, the valid names."""
    names = sorted(choices)
    return f"Unknown {what} '{given}'.{did_you_mean(given, names)} Valid: {', '.join(names) or 'none'}."
