"""What a policy is asked for each chunk: its noise, and what to go on from. Shared by robot and evaluation.

Fresh noise lets a stochastic policy change its mind at every re-plan. Three ways keep it on its course: the same noise
again (``held``), a warm start from the unexecuted tail of the chunk before (``warm``), and real-time chunking, whose
executor asks for chunks drawn towards that tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from onedp.errors import OneDPError, unknown_choice
from onedp.runtime.executor import ChunkExecutor
from onedp.types import Continuation, ContinuingPolicy, Policy, episode_noise

NOISES = ("fresh", "held", "warm")


@runtime_checkable
class WarmStartPolicy(ContinuingPolicy, Protocol):
    """One that can also be started from what was planned before."""

    def warm_noise(
        self, noise: Float32[ndarray, "b draws tp da"], previous: Continuation
    ) -> Float32[ndarray, "b draws tp da"]:
        """Noise for ``infer`` that already holds ``previous``, noised to the policy's input level."""
        ...


@dataclass(frozen=True)
class ChunkRequest:
    """Inputs of one chunk of one episode besides its observation."""

    chunk: int
    """Number of the chunk in its episode, from 0."""
    noise: Float32[ndarray, "draws tp da"]
    previous: Continuation | None
    """A batch of one; None where chunks stand alone."""


def prefix_weights(length: int, overlap: int, delay: int) -> Float32[ndarray, " length"]:
    """RTC's soft mask (arXiv 2506.07339, eq. 5) over a chunk of ``length`` actions.

    1 for the ``delay`` actions that will be executed before the chunk comes, then falling to 0 at the end of the
    ``overlap`` with the chunk before.
    """
    i = np.arange(length)
    overlap, delay = min(overlap, length), min(delay, overlap)
    left = np.clip((overlap - i) / (overlap - delay + 1), 0.0, 1.0)
    return np.where(i < delay, 1.0, left * np.expm1(left) / np.expm1(1.0)).astype(np.float32)


class ChunkRequests:
    """Makes the requests of one episode, in order."""

    def __init__(self, policy: Policy, executor: ChunkExecutor, seed: int, noise: str = "fresh"):
        """Raises ``OneDPError`` for an unknown ``noise``, or a policy that cannot do what it should with it.

        That is to go on from a chunk, or to read the noise that is held or warm.
        """
        if noise not in NOISES:
            raise OneDPError(unknown_choice("noise", noise, NOISES))
        if noise != "fresh" and policy.noise_shape[0] == 0:
            raise OneDPError(
                f"{noise.capitalize()} noise needs a sampler that reads noise; this policy's reads none (OneDP-D, ACT, "
                "or a noise scale of 0), so its chunks would be those of fresh noise. Use fresh noise."
            )
        if executor.continues:
            continuing_policy(policy)
        self._policy = policy
        self._warm_start = _warm_start_policy(policy) if noise == "warm" else None
        self._executor = executor
        self._seed = seed
        self._noise = noise
        self._chunk = 0

    def make(self, tick: int) -> ChunkRequest:
        """The request for the observation of ``tick``."""
        chunk, self._chunk = self._chunk, self._chunk + 1
        noise = episode_noise(self._seed, 0 if self._noise == "held" else chunk, self._policy.noise_shape)
        if self._warm_start is not None:
            noise = self._warm_start.warm_noise(noise[None], self._from(tick, soft=False))[0]
        return ChunkRequest(chunk, noise, self._from(tick, soft=True) if self._executor.continues else None)

    def _from(self, tick: int, soft: bool) -> Continuation:
        spec, tail = self._policy.spec, self._executor.tail(tick)
        overlap = 0 if tail is None else len(tail)
        actions = np.zeros((1, spec.chunk_length, spec.action_dim), dtype=np.float32)
        if tail is not None:
            actions[0, :overlap] = tail
        delay = self._executor.expected_delay if soft else overlap
        if soft and self._executor.moves_by_deltas:
            # Deltas that are kept add up to a path that no observation corrects, so they are let go early.
            overlap = min(overlap, 2 * delay)
        return Continuation(actions, prefix_weights(spec.chunk_length, overlap, delay)[None])


def continuing_policy(policy: Policy) -> ContinuingPolicy:
    """The same policy; raises ``OneDPError`` when it cannot go on from a chunk."""
    if not isinstance(policy, ContinuingPolicy):
        raise OneDPError(
            f"A {type(policy).__name__} cannot go on from the chunk before, which the executor rtc needs: only PyTorch "
            "policies can, here or in a server (ContinuingClient). Use another executor."
        )
    return policy


def _warm_start_policy(policy: Policy) -> WarmStartPolicy:
    if not isinstance(policy, WarmStartPolicy):
        raise OneDPError(
            f"A {type(policy).__name__} cannot start from the chunk before, which warm noise needs: only PyTorch "
            "policies can, and none in a server. Use fresh or held noise."
        )
    return policy


def stacked(requests: Sequence[ChunkRequest]) -> Continuation | None:
    """The ``previous`` of several requests as one batch; None when chunks stand alone."""
    previous = [request.previous for request in requests if request.previous is not None]
    return Continuation.joined(previous) if previous else None


def infer_chunks(policy: Policy, obs: Mapping[str, ndarray], noise: ndarray, previous: Continuation | None) -> ndarray:
    """The chunks ``(B, Tc, Da)`` of a batch; raises ``OneDPError`` when the policy cannot go on from ``previous``."""
    if previous is None:
        return policy.infer(obs, noise)
    return continuing_policy(policy).infer_continuing(obs, noise, previous)
