"""Episodes with charged latency: exact, independent of workers, and the same as on a robot with a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.evaluate.rollout import rerun_episode, run_group
from onedp.runtime.clock import VirtualClock
from onedp.runtime.execution import Execution
from onedp.runtime.executor import EXECUTORS, Counters, Seams
from onedp.runtime.latency import FixedLatency, HistogramLatency
from onedp.runtime.limits import ActionLimiter
from onedp.runtime.loop import ControlLoop, Observation
from onedp.runtime.planner import ChargedPlanner
from onedp.runtime.requests import NOISES
from onedp.runtime.resampled import at_control_rate
from onedp.runtime.watchdog import Watchdog, WatchdogLimits
from onedp.tasks import StepResult, Task
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("tick", (1,), "1"),),
    action=FieldSpec("action", (1,), "1"),
    action_low=(-1e6,),
    action_high=(1e6,),
    rate_hz=10.0,
    horizon=6,
    n_obs_steps=2,
    n_action_steps=3,
)


class Metronome:
    """Observes its own tick; remembers every action. Ends after ``length`` ticks, or 12 for odd seeds."""

    def __init__(self, length: int = 12):
        self.length = length
        self.actions: list[float] = []

    def reset(self, seed):
        self.tick, self.end, self.actions = 0, self.length if seed % 2 == 0 else 12, []
        return {"tick": np.zeros(1, dtype=np.float32)}

    def step(self, action):
        self.actions.append(round(float(action[0]), 4))
        self.tick += 1
        done = self.tick >= self.end
        return StepResult({"tick": np.full(1, self.tick, dtype=np.float32)}, 0.1 * self.tick, done, done)

    def render(self, size):
        return np.zeros((size, size, 3), dtype=np.uint8)


TASK = Task(
    name="metronome",
    spec=SPEC,
    make_env=Metronome,
    features=lambda arrays: dict(arrays),
    raw_arrays=("tick",),
    max_steps=12,
    demonstrations="none",
    rest_action=lambda obs: np.full(1, -1.0),
)


@dataclass
class OnTime:
    """Action k of a chunk is the tick of its observation + k, plus a trace of the noise and of the batch's shape."""

    noise_scale: float = 0.0
    batch_scale: float = 0.0
    spec: PolicySpec = SPEC
    nfe: int = 1
    noise_shape: tuple[int, ...] = (1, 6, 1)

    def infer(self, obs, noise):
        steps = np.arange(5, dtype=np.float32)[:, None]
        rows = np.arange(1, len(noise) + 1, dtype=np.float32)[:, None, None] * len(noise)
        actions = obs["tick"][:, -1:] + steps + self.noise_scale * noise[:, 0, 1:] + self.batch_scale * rows
        return actions.astype(np.float32)


@dataclass
class GoingOn(OnTime):
    """The same, drawn towards the chunk before as far as its weights say; warm noise is made of that chunk too."""

    def infer_continuing(self, obs, noise, previous):
        weights = previous.weights[..., None]
        return ((1 - weights) * self.infer(obs, noise) + weights * previous.actions).astype(np.float32)

    def warm_noise(self, noise, previous):
        warm = noise.copy()
        warm[:, 0, 1:] += previous.weights[..., None] * np.sin(previous.actions)
        return warm


def actions_of(execution: Execution, policy=None, task: Task = TASK) -> tuple[list[float], Counters, Seams]:
    env = Metronome()
    (rollout,) = run_group(policy or OnTime(), task, [env], [1], execution)
    return env.actions, rollout.counters, rollout.seams


def test_a_frozen_world_executes_every_action_in_its_tick():
    actions, counters, seams = actions_of(Execution())
    assert actions == list(range(12))
    assert counters == Counters(executed=12)
    assert seams == Seams(chunks=4, joints=3)


@pytest.mark.parametrize(
    ("executor", "actions", "counters"),
    [
        ("sync", [-1, -1, 0, 1, 2, 2, 2, 5, 6, 7, 7, 7], Counters(6, repeated=4, starved=2)),
        ("drop-late", [-1, -1, *range(2, 12)], Counters(10, dropped=8, starved=2)),
        ("ensemble", [-1, -1, *range(2, 12)], Counters(10, dropped=8, starved=2)),
    ],
)
def test_a_chunk_is_usable_after_its_latency(executor, actions, counters):
    found, counted, _ = actions_of(Execution(FixedLatency(0.15), executor))  # two ticks
    np.testing.assert_allclose(found, actions, atol=1e-4)
    assert counted == counters


def test_a_robot_of_deltas_waits_its_own_way_and_begins_where_it_stood():
    task = replace(TASK, hold_action=lambda last: -last)
    actions, counters, _ = actions_of(Execution(FixedLatency(0.15), "sync"), task=task)
    np.testing.assert_allclose(actions, [-1, -1, 0, 1, 2, -2, -2, 5, 6, 7, -7, -7], atol=1e-4)
    assert counters == Counters(6, repeated=4, starved=2)  # nothing is late for a robot that stood still


def test_between_the_steps_of_a_policy_latency_is_counted_in_ticks():
    """At 50 Hz each action is held for five ticks, and 75 ms are four of them."""
    task = replace(TASK, ticks_per_step=5, max_steps=12)
    actions, counters, _ = actions_of(Execution(FixedLatency(0.075), "drop-late"), task=task)
    assert actions == [-1] * 4 + [0] + [1] * 5 + [2] * 2
    assert counters == Counters(8, dropped=4, starved=4)


def test_replanning_is_said_in_steps_of_the_policy():
    task = replace(TASK, ticks_per_step=2, max_steps=8)
    _, _, seams = actions_of(Execution(replan_steps=2), task=task)
    assert seams.chunks == 2


@pytest.mark.parametrize("hold_action", [None, lambda last: 0.5 * last])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("latency_s", [0.0, 0.02, 0.1, 0.25, 0.6])
def test_an_evaluation_is_what_the_robots_loop_does_on_a_virtual_clock(executor, latency_s, noise, hold_action):
    policy = GoingOn(noise_scale=0.1)
    execution = Execution(FixedLatency(latency_s), executor, replan_steps=2, noise=noise)
    task = replace(TASK, ticks_per_step=2, hold_action=hold_action)
    actions, counters, _ = actions_of(execution, policy, task)

    clock = VirtualClock()

    class Robot:
        def observe(self):
            tick = round(clock.now() * task.control_hz)
            return Observation(clock.now(), {"tick": np.full(1, tick, dtype=np.float32)})

        def act(self, action):
            commands[round(clock.now() * task.control_hz)] = action

        def stop(self):
            pass

    commands: dict[int, np.ndarray] = {}
    control = at_control_rate(policy, task.control_hz)
    loop_executor = execution.make_executor(control.spec, ticks_per_step=2, hold=task.hold_action)
    robot = Robot()
    loop = ControlLoop(
        robot,
        control,
        ChargedPlanner(control, clock, lambda: latency_s),
        loop_executor,
        ActionLimiter(control.spec, max_step=1e9),
        Watchdog(WatchdogLimits(100.0, 100.0), clock, robot.stop),
        clock,
        noise,
    )
    loop.run(ticks=12, seed=1)
    found = [float(np.round(commands[tick][0], 4)) if tick in commands else -1.0 for tick in range(12)]
    np.testing.assert_allclose(found, actions, atol=1e-4)
    assert loop_executor.counters == counters


@pytest.mark.parametrize("latency", [FixedLatency(0.0), FixedLatency(0.15), HistogramLatency.of([0.05, 0.15, 0.35])])
@pytest.mark.parametrize("executor", ["sync", "drop-late"])
def test_an_episode_is_run_again_exactly_without_its_group(latency, executor):
    """Whatever the batches were: when its companions asked follows from their lengths and latencies."""
    policy, execution = OnTime(noise_scale=1.0, batch_scale=0.01), Execution(latency, executor)
    seeds = [4, 5, 6, 7]
    envs = [Metronome(length=7) for _ in seeds]
    rollouts = run_group(policy, TASK, envs, seeds, execution)
    lengths = {rollout.result.seed: rollout.result.steps for rollout in rollouts}
    assert lengths == {4: 7, 5: 12, 6: 7, 7: 12}
    for seed, env in zip(seeds, envs, strict=True):
        again = Metronome(length=7)
        rerun_episode(policy, TASK, again, seed, lengths, execution)
        assert again.actions == env.actions


def test_sampled_latencies_are_the_episodes_own():
    execution = Execution(HistogramLatency.of([0.05, 0.15, 0.35]), "drop-late")
    envs = [Metronome() for _ in range(3)]
    run_group(OnTime(), TASK, envs, [1, 3, 5], execution)
    alone = Metronome()
    run_group(OnTime(), TASK, [alone], [5], execution)
    assert alone.actions == envs[2].actions
    assert len({env.actions.count(-1.0) for env in envs}) > 1


def test_a_task_that_does_not_say_how_to_rest_cannot_be_charged():
    task = replace(TASK, rest_action=None)
    run_group(OnTime(), task, [Metronome()], [1])
    with pytest.raises(OneDPError, match="does not say how its robot rests, so no latency can be charged"):
        run_group(OnTime(), task, [Metronome()], [1], Execution(FixedLatency(0.1)))
