"""The whole control loop on a virtual clock: which action each tick executes is exact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.runtime.clock import VirtualClock
from onedp.runtime.executor import Counters, SynchronousExecutor
from onedp.runtime.limits import ActionLimiter
from onedp.runtime.loop import ControlLoop, Observation
from onedp.runtime.planner import ChargedPlanner
from onedp.runtime.watchdog import Watchdog, WatchdogLimits
from onedp.serve.fake_policy_test import SPEC, FakePolicy


@dataclass
class FakeRobot:
    """Observes 100 x tick; remembers when it was told what."""

    clock: VirtualClock
    slow_ticks: dict[int, float] = field(default_factory=dict)
    """Seconds that acting costs, by observation number."""
    freeze_at: float = np.inf
    """From then on the same old observation."""
    observations: int = 0
    commands: list[tuple[float, float]] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)

    def observe(self) -> Observation:
        now = min(self.clock.now(), self.freeze_at)
        self.observations += 1
        value = round(now * SPEC.rate_hz)
        return Observation(
            now, {"pos": np.full(2, value, dtype=np.float32), "image": np.zeros((4, 4, 3), dtype=np.uint8)}
        )

    def act(self, action: np.ndarray) -> None:
        self.commands.append((round(self.clock.now() * SPEC.rate_hz, 6), round(float(action[0]), 6)))
        self.clock.advance(self.slow_ticks.get(self.observations - 1, 0.0))

    def stop(self) -> None:
        self.stops.append(round(self.clock.now(), 6))


class Silent(FakePolicy):
    """Without noise: action k of a chunk is its observation's tick + k."""

    def infer(self, obs, noise):
        return super().infer(obs, 0 * noise)


def make(latency: float, policy=None, max_step: float = 1e6, inference_s: float = 60.0, **robot_options):
    clock = VirtualClock()
    robot = FakeRobot(clock, **robot_options)
    policy = policy or Silent()
    loop = ControlLoop(
        robot=robot,
        policy=policy,
        planner=ChargedPlanner(policy, clock, lambda: latency),
        executor=SynchronousExecutor(SPEC),
        limiter=ActionLimiter(SPEC, max_step=max_step),
        watchdog=Watchdog(WatchdogLimits(inference_s=inference_s, observation_s=0.25), clock, robot.stop),
        clock=clock,
    )
    return loop, robot


@pytest.mark.parametrize(
    ("latency", "commands", "counters"),
    [
        # one period is 0.1 s, a chunk has 5 actions, of which up to 3 are executed
        (0.0, {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7}, Counters(executed=8)),
        (0.001, {1: 0, 2: 1, 3: 2, 4: 2, 5: 4, 6: 5, 7: 6}, Counters(executed=6, repeated=1, starved=1)),
        (0.1, {1: 0, 2: 1, 3: 2, 4: 2, 5: 4, 6: 5, 7: 6}, Counters(executed=6, repeated=1, starved=1)),
        (0.101, {2: 0, 3: 1, 4: 2, 5: 2, 6: 2, 7: 5}, Counters(executed=4, repeated=2, starved=2)),
        (0.4, {4: 0, 5: 1, 6: 2, 7: 2}, Counters(executed=3, repeated=1, starved=4)),
        (0.5, {5: 0, 6: 1, 7: 2}, Counters(executed=3, starved=5)),
    ],
)
def test_latency_costs_ticks(latency, commands, counters):
    loop, robot = make(latency)
    assert loop.run(ticks=8) == "the 8 ticks are over"
    assert robot.commands == list(commands.items())
    assert loop.executor.counters == counters
    assert len(robot.stops) == 1


def test_the_noise_of_the_episode_is_replayed():
    commands = []
    for _ in range(2):
        loop, robot = make(0.0, policy=FakePolicy())
        loop.run(ticks=7, seed=3)
        commands.append(robot.commands)
    assert commands[0] == commands[1]
    assert commands[0] != [(tick, tick) for tick in range(7)]


@pytest.mark.parametrize("ticks", [0, -10])
def test_a_loop_without_a_tick_is_no_success(ticks):
    loop, robot = make(0.0)
    with pytest.raises(OneDPError, match=f"to run for {ticks} ticks, expected at least 1"):
        loop.run(ticks=ticks)
    assert robot.commands == []
    assert loop.watchdog.reason is not None  # stopped all the same


def test_a_loop_that_is_late_skips_ticks_and_stays_in_time():
    loop, robot = make(0.0, slow_ticks={1: 0.23})  # acting at tick 1 lasts into tick 3
    loop.run(ticks=6)
    assert robot.commands == [(0, 0), (1, 1), (3.3, 3), (4, 4), (5, 5)]
    assert loop.executor.counters.deadline_misses == 1


def test_deltas_of_skipped_ticks_are_executed_later():
    loop, robot = make(0.0, slow_ticks={1: 0.23})
    loop = replace(loop, executor=SynchronousExecutor(SPEC, hold=lambda last: last * 0))
    loop.run(ticks=6)
    assert robot.commands == [(0, 0), (1, 1), (3.3, 2), (4, 4), (5, 5)]  # 2 of the first chunk, which executes three
    assert loop.executor.counters.deadline_misses == 1


def test_actions_are_limited():
    loop, robot = make(0.0, max_step=0.5)
    loop.run(ticks=4)
    assert robot.commands == [(0, 0), (1, 0.5), (2, 1), (3, 1.5)]
    assert loop.limiter.clipped == 3


def test_late_inference_stops_the_robot_and_ends_the_loop():
    loop, robot = make(latency=10.0, inference_s=0.35)
    assert loop.run(ticks=100) == "the policy has thought for 0.4 s, allowed 0.35 s"
    assert robot.stops == [0.4]
    assert robot.commands == []


def test_old_observations_stop_the_robot_and_end_the_loop():
    loop, robot = make(0.0, freeze_at=0.2)
    assert loop.run(ticks=100) == "the newest observation is 0.3 s old, allowed 0.25 s"
    assert robot.stops == [0.5]
    assert [tick for tick, _ in robot.commands] == [0, 1, 2, 3, 4]


def test_an_error_of_the_policy_stops_the_robot():
    policy = FakePolicy(poison=3.0)  # the observation of tick 3, when the second chunk is asked for
    loop, robot = make(0.0, policy=policy)
    with pytest.raises(ZeroDivisionError):
        loop.run(ticks=100)
    assert robot.stops == [0.3]
    assert loop.watchdog.reason == "ZeroDivisionError: thirteen"
