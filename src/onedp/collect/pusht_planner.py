"""A planner that pushes the T into place: it tries pushes in a second simulation and does the best of them.

Greedy, with the gain of a push in the logarithm of the error over the time it takes, so that small corrections near the
goal count as much as long pushes far from it. Errors of execution are met by planning again after every push.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.collect.pusht_geometry import DISC_RADIUS_PX, WalkingMap, contact_points, distance_to_t, is_free
from onedp.tasks.pusht import PushTEnvironment, keypoints_in_world

GOAL = np.array([256.0, 256.0, np.pi / 4])
PRECISION_PX = 1.0
"""Errors below count as none."""
CANDIDATES = 48
REFINED = 5
LONGEST_PUSH_STEPS = 12
SETTLE_STEPS = 3
APPROACH_PX = 6.0
"""A push starts so far from touching."""
LAG_STEPS = 2
"""The disc is about so many control steps behind a target that moves."""


@dataclass(frozen=True)
class Push:
    """From ``start`` along ``step`` for ``count`` control steps."""

    start: ndarray
    step: ndarray
    count: int

    def targets(self) -> list[ndarray]:
        """What the disc is told, one a control step, the last ones to come to rest."""
        moving = [self.start + self.step * (i + 1) for i in range(self.count)]
        return moving + [moving[-1]] * SETTLE_STEPS


def pose_error(pose: ndarray) -> float:
    """Mean distance of the T's corners from where they belong [px]."""
    both = keypoints_in_world(np.array([[0, 0, *pose], [0, 0, *GOAL]])).reshape(2, 8, 2)
    return float(np.linalg.norm(both[0] - both[1], axis=-1).mean())


class Imagination:
    """A second simulation to try pushes in."""

    def __init__(self) -> None:
        from gym_pusht.envs.pusht import PushTEnv

        self._simulator: Any = PushTEnv(obs_type="state")
        self._simulator.reset(seed=0)

    def errors(self, pose: ndarray, push: Push) -> list[float]:
        """``pose_error`` after every control step of ``push`` from ``pose``."""
        simulator = self._simulator
        simulator.agent.position, simulator.agent.velocity = tuple(push.start), (0, 0)
        simulator.block.angle, simulator.block.position = float(pose[2]), tuple(pose[:2])
        simulator.block.velocity, simulator.block.angular_velocity = (0, 0), 0
        for body in (simulator.block, simulator.agent):
            simulator.space.reindex_shapes_for_body(body)
        errors = []
        for target in push.targets():
            self._move(target)
            errors.append(pose_error(np.array([*simulator.block.position, simulator.block.angle])))
        return errors

    def _move(self, target: ndarray) -> None:
        """One control step of the simulator, without its costly reward."""
        simulator = self._simulator
        for _ in range(round(1 / (simulator.dt * simulator.control_hz))):
            pull = simulator.k_p * (target - simulator.agent.position) - simulator.k_v * np.array(
                simulator.agent.velocity
            )
            simulator.agent.velocity += pull * simulator.dt
            simulator.space.step(simulator.dt)


class PushTPlanner:
    """Walks to the start of the best push, pushes, and plans again."""

    def __init__(self, env: PushTEnvironment):
        self._env = env
        self._imagination: Imagination | None = None
        self._rng = np.random.default_rng(0)
        self._lead = 40.0
        self._way: list[ndarray] = []
        self._targets: list[ndarray] = []
        self._expected = GOAL

    def start(self, rng: np.random.Generator) -> None:
        """Draw how fast this demonstration walks; candidates of pushes are drawn too."""
        self._rng = rng
        self._lead = rng.uniform(30, 50)
        self._way, self._targets = [], []

    def noise_share(self) -> float:
        """Less noise the nearer the T is to its place: the last pushes are of a few pixels."""
        return float(np.clip((pose_error(self._state()[2:]) - 4) / 30, 0.0, 1.0))

    def act(self) -> ndarray:
        """The next target of the disc."""
        state = self._state()
        agent, pose = state[:2], state[2:]
        if self._way and np.abs(pose[:2] - self._expected[:2]).max() > 3:  # the T was hit on the way
            self._way, self._targets = [], []
        while self._way and np.linalg.norm(self._way[0] - agent) < (2.0 if len(self._way) == 1 else 12.0):
            self._way.pop(0)
        if not self._way and not self._targets:
            self._plan(agent, pose)
        if self._way:
            ahead = self._way[0] - agent
            return agent + ahead * min(1.0, self._lead / max(1e-6, float(np.linalg.norm(ahead))))
        return self._targets.pop(0)

    def _state(self) -> ndarray:
        return self._env.raw_state()

    def _plan(self, agent: ndarray, pose: ndarray) -> None:
        self._expected = pose
        out = self._step_back(agent, pose)
        walking = WalkingMap(out, pose)
        push = self._best_push(out, pose, walking)
        if push is None:  # nothing helps from here: walk somewhere else and look again
            self._way = [np.clip(agent + self._rng.uniform(-80, 80, 2), 40, 472)]
            return
        back = [out] if np.linalg.norm(out - agent) > 2 else []
        self._way, self._targets = [*back, *walking.way(push.start)], push.targets()

    @staticmethod
    def _step_back(agent: ndarray, pose: ndarray) -> ndarray:
        """The nearest place from where the disc can walk without touching the T."""
        if is_free(agent[None], pose, 5.0)[0]:
            return agent
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        for radius in (8, 14, 22, 32, 48, 70):
            places = agent + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            free = np.flatnonzero(is_free(places, pose, 5.0))
            if len(free):
                return places[free[np.argmax(distance_to_t(places[free], pose))]]
        return agent

    def _best_push(self, agent: ndarray, pose: ndarray, walking: WalkingMap) -> Push | None:
        if self._imagination is None:
            self._imagination = Imagination()
        now = pose_error(pose)
        rated: list[tuple[float, Push]] = []
        for push in self._candidates(pose, now):
            walk = walking.length(push.start) / (0.5 * self._lead)
            if np.isfinite(walk):
                errors = self._imagination.errors(pose, push)
                rated += [
                    (_gain(now, error, walk + k + SETTLE_STEPS), Push(push.start, push.step, max(1, k + 1 - LAG_STEPS)))
                    for k, error in enumerate(errors[LAG_STEPS : push.count], start=LAG_STEPS)
                ]
        rated.sort(key=lambda each: -each[0])
        best: tuple[float, Push | None] = (0.0, None)
        for _, push in rated[:REFINED]:
            for count in {max(1, push.count - 1), push.count, push.count + 1}:
                tried = Push(push.start, push.step, count)
                walk = walking.length(push.start) / (0.5 * self._lead)
                error = self._imagination.errors(pose, tried)[-1]
                gain = _gain(now, error, walk + count + SETTLE_STEPS)
                if gain > best[0]:
                    best = (gain, tried)
        return best[1]

    def _candidates(self, pose: ndarray, error: float) -> list[Push]:
        points, inwards = contact_points(CANDIDATES * 2, pose, self._rng)
        turn = self._rng.uniform(-0.6, 0.6, len(points))
        cos, sin = np.cos(turn), np.sin(turn)
        directions = np.stack(
            [cos * inwards[:, 0] - sin * inwards[:, 1], sin * inwards[:, 0] + cos * inwards[:, 1]], axis=1
        )
        starts = points - directions * (DISC_RADIUS_PX + APPROACH_PX)
        speeds = np.clip(error / 3, 2.0, 14.0) * self._rng.uniform(0.6, 1.3, len(points))
        usable = np.flatnonzero(is_free(starts, pose, 1.0))[:CANDIDATES]
        return [Push(starts[i], directions[i] * speeds[i], LONGEST_PUSH_STEPS) for i in usable]


def _gain(before: float, after: float, steps: float) -> float:
    """Logarithm of the improvement for each control step."""
    return float(np.log((before + PRECISION_PX) / (after + PRECISION_PX)) / steps)
