"""A policy of a few lines of numpy, for the tests of the server, its client and the robot loop."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray

from onedp.types import Continuation, FieldSpec, Policy, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("pos", (2,), "m"), FieldSpec("image", (4, 4, 3), "1", dtype="uint8")),
    action=FieldSpec("action", (2,), "m"),
    action_low=(-100.0, -100.0),
    action_high=(100.0, 100.0),
    rate_hz=10.0,
    horizon=6,
    n_obs_steps=2,
    n_action_steps=3,
)


@dataclass
class FakePolicy:
    """Action k is the newest position + k + noise + a constant. ``gate`` closed: it thinks until it opens."""

    offset: float = 0.0
    spec: PolicySpec = SPEC
    nfe: int = 1
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    poison: float = 13.0
    """A position that makes it fail."""

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (1, self.spec.horizon, self.spec.action_dim)

    def infer(self, obs: Mapping[str, ndarray], noise: ndarray) -> ndarray:
        self.entered.set()
        assert self.gate.wait(10)
        self.batches.append(len(noise))
        if (obs["pos"] == self.poison).any():
            raise ZeroDivisionError("thirteen")
        steps = np.arange(self.spec.chunk_length, dtype=np.float32)[:, None]
        return obs["pos"][:, -1:] + steps + noise[:, 0, self.spec.n_obs_steps - 1 :] + np.float32(self.offset)


@dataclass
class Continuing(FakePolicy):
    """Goes on from a chunk by adding 1000 times its weights."""

    previous: list[Continuation] = field(default_factory=list)

    def infer_continuing(self, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation) -> ndarray:
        self.previous.append(previous)
        return self.infer(obs, noise) + 1000 * previous.weights[:, :, None]


def observation(value: float = 1.0, rows: int | None = None) -> dict[str, ndarray]:
    """``(To, *shape)`` a field, or with a batch axis when ``rows`` is given."""
    batch = () if rows is None else (rows,)
    return {
        "pos": np.full((*batch, 2, 2), value, dtype=np.float32),
        "image": np.full((*batch, 2, 4, 4, 3), 7, dtype=np.uint8),
    }


def test_it_is_a_policy():
    policy = FakePolicy()
    assert isinstance(policy, Policy)
    noise = np.zeros((1, *policy.noise_shape), dtype=np.float32)
    np.testing.assert_array_equal(policy.infer(observation(2.0, rows=1), noise)[0, :, 0], [2, 3, 4, 5, 6])
