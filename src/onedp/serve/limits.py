"""What a client may ask of the server."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onedp.errors import ServeError
from onedp.types import Policy


@dataclass(frozen=True)
class ServerLimits:
    """Limits of one server. Sizes in bytes, times in seconds."""

    message_bytes: int | None = None
    """Largest message; None: four times the largest observation of the policies with its noise and the chunk before,
    times ``rows``, and 64 KiB."""
    rows: int = 16
    """Observations in one request, and in one pass of the network for several requests together."""
    requests_per_s: float = 1000.0
    """Sustained rate of one connection; a burst of as many is allowed."""
    connections: int = 64
    """Clients at a time."""
    idle_s: float = 300.0
    """A connection silent for so long is closed."""
    write_s: float = 5.0
    """A client that does not take its answer for so long is cut off."""
    drain_s: float = 10.0
    """After SIGTERM, requests in flight get so long."""

    def __post_init__(self) -> None:
        sizes = (self.rows, self.requests_per_s, self.connections, self.idle_s, self.write_s, self.drain_s)
        if not all(size > 0 for size in sizes) or (self.message_bytes is not None and self.message_bytes < 1):
            raise ServeError(f"Every limit of the server must be positive, these are not: {self}.")

    def largest_message(self, policies: Iterable[Policy]) -> int:
        """``message_bytes``, or what a client of any of the policies can need [bytes]."""
        if self.message_bytes is not None:
            return self.message_bytes
        return 2**16 + 4 * self.rows * max(_row_bytes(policy) for policy in policies)


def _row_bytes(policy: Policy) -> int:
    """An observation, its noise, and the chunk before with its weights."""
    spec = policy.spec
    observation = sum(spec.n_obs_steps * field.size * np.dtype(field.dtype).itemsize for field in spec.observations)
    return observation + 4 * math.prod(policy.noise_shape) + 4 * spec.chunk_length * (spec.action_dim + 1)


class TokenBucket:
    """Allows ``rate`` requests a second on average, and as many at once."""

    def __init__(self, rate: float, now: float):
        self._rate = rate
        self._tokens = self._capacity = max(1.0, rate)
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Whether a request at time ``now`` [s] is within the rate; it then counts."""
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
