"""Policies that need no network, and lanes that need no clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onedp.live.cast import Member
from onedp.live.lane import Lane, Timing
from onedp.live.tasks import live_task
from onedp.runtime.clock import VirtualClock
from onedp.runtime.planner import ChargedPlanner
from onedp.tasks.pusht import PUSHT_KEYPOINTS
from onedp.types import Policy, PolicySpec

STILL = live_task("pusht-keypoints")
STEPS = PUSHT_KEYPOINTS.spec.chunk_length


@dataclass
class Pusher:
    """Walks to the T and through it, with a trace of the noise: what it does depends on all its inputs."""

    spec: PolicySpec = PUSHT_KEYPOINTS.spec
    nfe: int = 1
    noise_shape: tuple[int, ...] = (1, PUSHT_KEYPOINTS.spec.horizon, 2)
    thinks_s: float = 0.0

    def infer(self, obs, noise):
        if self.thinks_s:
            time.sleep(self.thinks_s)
        agent, block = obs["agent_pos"][:, -1, None], obs["keypoints"][:, -1].reshape(len(noise), 8, 2).mean(axis=1)
        share = np.linspace(0.1, 1.5, STEPS, dtype=np.float32)[None, :, None]
        chunk = agent + share * (block[:, None] - agent) + 5 * noise[:, 0, -STEPS:]
        return np.clip(chunk, 0, 512).astype(np.float32)


@dataclass
class ContinuingPusher(Pusher):
    """Also goes on from a chunk: it mixes."""

    def infer_continuing(self, obs, noise, previous):
        weights = previous.weights[..., None]
        return ((1 - weights) * self.infer(obs, noise) + weights * previous.actions).astype(np.float32)

    def warm_noise(self, noise, previous):
        return noise


class Broken(Pusher):
    """Fails."""

    def infer(self, obs, noise):
        raise ValueError("no weights")


def at_once(policy):
    """A planner that has the chunk as soon as it is asked."""
    return ChargedPlanner(policy, VirtualClock(), lambda: 0.0)


def make_lane(policy=None, timing: Timing | None = None, make_planner=at_once, seed: int = 3) -> Lane:
    return Lane(STILL, policy or Pusher(), timing or Timing(), make_planner, seed)


def always_40_ms(policy: Policy, continuing: bool) -> list[float]:
    """What a policy was measured at."""
    return [0.04] * 5


def fake_member(
    name: str = "pusher",
    policy: Policy | None = None,
    task: str = "pusht-keypoints",
    measure: Callable[[Policy, bool], Sequence[float]] = always_40_ms,
) -> Member:
    """Offers two samplers, the second of which needs ten passes."""
    policies = {"one": policy or ContinuingPusher(), "ten": Pusher(nfe=10)}
    return Member(name, task, "one", ("one", "ten"), policies.__getitem__, measure)
