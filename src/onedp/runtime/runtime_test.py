"""The parts of the control loop, one by one, on a virtual clock."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from onedp.errors import SpecError
from onedp.observations import check_observation
from onedp.runtime.clock import RealClock, VirtualClock
from onedp.runtime.executor import Counters, SynchronousExecutor
from onedp.runtime.limits import ActionLimiter
from onedp.runtime.observations import ObservationBuffer
from onedp.runtime.planner import ThreadPlanner
from onedp.runtime.watchdog import Watchdog, WatchdogLimits
from onedp.serve.fake_policy_test import SPEC, FakePolicy, observation


def step(value: float) -> dict[str, np.ndarray]:
    return {"pos": np.full(2, value), "image": np.full((4, 4, 3), int(value), dtype=np.uint8)}


# --- clock


def test_the_virtual_clock_moves_only_when_told():
    clock = VirtualClock(start=5.0)
    assert clock.now() == 5.0
    clock.sleep_until(6.5)
    clock.sleep_until(2.0)  # has passed
    clock.advance(0.25)
    assert clock.now() == 6.75
    with pytest.raises(ValueError, match=r"does not go back by 1\.0 s"):
        clock.advance(-1.0)


def test_the_real_clock_never_wakes_early():
    clock = RealClock()
    moment = clock.now() + 0.01
    clock.sleep_until(moment)
    assert clock.now() >= moment


# --- observations


def test_the_first_observation_is_repeated_and_the_newest_are_kept():
    buffer = ObservationBuffer(SPEC)
    with pytest.raises(SpecError, match="There is no observation yet"):
        buffer.window()
    for value, expected in ((1.0, [1, 1]), (2.0, [1, 2]), (3.0, [2, 3])):
        buffer.push(step(value))
        assert buffer.window()["pos"][0, :, 0].tolist() == expected
    assert check_observation(SPEC, buffer.window()) == 1
    assert {name: value.dtype.name for name, value in buffer.window().items()} == {"pos": "float32", "image": "uint8"}
    buffer.clear()
    buffer.push(step(9.0))
    assert buffer.window()["pos"][0, :, 0].tolist() == [9, 9]


def test_the_buffer_keeps_copies():
    buffer, reused = ObservationBuffer(SPEC), step(1.0)
    buffer.push(reused)
    reused["pos"][:] = 7
    assert buffer.window()["pos"].max() == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pos": np.zeros(2)}, r"The robot observes \['pos'\], the policy expects \['image', 'pos'\]"),
        ({**step(1.0), "pos": np.zeros(3)}, r"Observation 'pos' has shape \(3,\), expected \(2,\)"),
        ({**step(1.0), "pos": np.array([0, np.nan])}, "Observation 'pos' has NaN or infinity"),
        ({**step(1.0), "image": np.ones((4, 4, 3))}, "Observation 'image' has dtype float64, expected uint8"),
        ({**step(1.0), "pos": np.array(["a", "b"])}, "Observation 'pos' has dtype <U1, expected float32"),
    ],
)
def test_wrong_observations_are_named(wrong, message):
    with pytest.raises(SpecError, match=message):
        ObservationBuffer(SPEC).push(wrong)


# --- executor: chunks of 5 actions, of which 3 are executed; action k of a chunk is its first value + k


def chunk(first: float) -> np.ndarray:
    return np.repeat(np.arange(5, dtype=np.float32)[:, None] + np.float32(first), 2, axis=1)


def run_executor(deliveries: dict[int, tuple[float, int]], ticks: int) -> tuple[list, list, Counters]:
    """Actions and wishes of each tick; ``deliveries``: usable tick to (first value, observed tick)."""
    executor = SynchronousExecutor(SPEC)
    actions, wishes = [], []
    for tick in range(ticks):
        if tick in deliveries:
            first, observed = deliveries[tick]
            executor.deliver(chunk(first), observed=observed, usable=tick)
        wishes.append(executor.wants_chunk(tick))
        action = executor.action(tick)
        actions.append(None if action is None else float(action[0]))
    return actions, wishes, executor.counters


def test_without_latency_every_action_is_executed_in_its_tick():
    actions, wishes, counters = run_executor({0: (10, 0), 3: (20, 3)}, ticks=6)
    assert actions == [10, 11, 12, 20, 21, 22]
    assert wishes == [False] * 6
    assert counters == Counters(executed=6)


def test_a_robot_that_waited_executes_a_chunk_from_its_first_action_and_is_held_at_its_end():
    actions, wishes, counters = run_executor({2: (10, 0), 6: (20, 5)}, ticks=9)
    assert actions == [None, None, 10, 11, 12, 12, 20, 21, 22]
    assert wishes == [True, True, False, False, False, True, False, False, False]
    assert counters == Counters(executed=6, repeated=1, starved=2)


def test_actions_are_late_where_others_were_executed_meanwhile_and_fewer_than_ta_may_be_left():
    actions, _, counters = run_executor({0: (10, 0), 3: (20, 0)}, ticks=6)
    assert actions == [10, 11, 12, 23, 24, 24]
    assert counters == Counters(executed=5, dropped=3, repeated=1)


def test_a_chunk_that_takes_longer_than_it_lasts_is_executed_all_the_same():
    actions, wishes, counters = run_executor({7: (10, 0)}, ticks=8)
    assert actions == [None] * 7 + [10]
    assert wishes == [True] * 7 + [False]
    assert counters == Counters(executed=1, starved=7)


def test_a_chunk_cannot_be_usable_before_its_observation():
    with pytest.raises(SpecError, match="observed at tick 3 cannot be usable at tick 2"):
        SynchronousExecutor(SPEC).deliver(chunk(0), observed=3, usable=2)


# --- limits


def test_actions_stay_inside_limits_and_near_the_one_before():
    limiter = ActionLimiter(SPEC, max_step=(1.0, 500.0), start=np.zeros(2))
    commands = [limiter(np.array(action, dtype=np.float32)).tolist() for action in ([5, 150], [-5, -150], [0, -100])]
    assert commands == [[1, 100], [0, -100], [0, -100]]
    assert limiter.clipped == 2


def test_without_a_start_the_first_action_passes():
    limiter = ActionLimiter(SPEC, max_step=1.0)
    assert limiter(np.array([50, 60], dtype=np.float32)).tolist() == [50, 60]
    assert limiter(np.array([0, 60.5], dtype=np.float32)).tolist() == [49, 60.5]


@pytest.mark.parametrize("action", [[np.nan, 0], [np.inf, 0], [1, 2, 3]])
def test_what_cannot_be_executed_raises(action):
    with pytest.raises(SpecError, match="cannot be executed, expected 2 finite numbers"):
        ActionLimiter(SPEC, max_step=1.0)(np.array(action, dtype=np.float32))


@pytest.mark.parametrize(
    "max_step", [0.0, -1.0, (1.0, 0.0), (1.0, 1.0, 1.0), float("nan"), float("inf"), 1e300, (1.0, float("inf"))]
)
def test_wrong_steps_are_refused(max_step):
    with pytest.raises(SpecError, match="expected one positive number, or 2"):
        ActionLimiter(SPEC, max_step=max_step)


# --- watchdog


def watchdog() -> tuple[VirtualClock, Watchdog, list[float]]:
    """A clock, a watchdog, and when it stopped the robot."""
    clock, stops = VirtualClock(), list[float]()
    limits = WatchdogLimits(inference_s=0.5, observation_s=0.2)
    return clock, Watchdog(limits, clock, lambda: stops.append(clock.now())), stops


def test_late_inference_stops_the_robot_once():
    clock, dog, stops = watchdog()
    dog.asked()
    for _ in range(5):
        clock.advance(0.1)
        dog.observed(clock.now())
        assert dog.check()
    clock.advance(0.125)
    assert not dog.check()
    assert not dog.check()
    dog.stop("again")
    assert len(stops) == 1
    assert dog.reason == "the policy has thought for 0.625 s, allowed 0.5 s"


def test_an_answer_in_time_is_forgotten():
    clock, dog, stops = watchdog()
    dog.asked()
    clock.advance(0.4)
    dog.answered()
    clock.advance(0.4)
    dog.observed(clock.now())
    assert dog.check()
    assert (dog.reason, stops) == (None, [])


def test_old_observations_stop_the_robot_however_often_they_come():
    clock, dog, stops = watchdog()
    for _ in range(2):
        dog.observed(0.0)  # the same old frame
        assert dog.check()
        clock.advance(0.125)
    dog.observed(0.0)
    assert not dog.check()
    assert dog.reason == "the newest observation is 0.25 s old, allowed 0.2 s"
    assert stops == [0.25]


def test_in_the_background_it_stops_a_robot_whose_loop_hangs():
    stopped = threading.Event()
    dog = Watchdog(WatchdogLimits(inference_s=0.01, observation_s=60), RealClock(), stopped.set)
    with dog.in_background(period_s=0.005):
        dog.asked()
        assert stopped.wait(20)
    assert "the policy has thought for" in str(dog.reason)


def test_limits_must_be_positive():
    with pytest.raises(SpecError, match="must be positive"):
        WatchdogLimits(inference_s=0.0, observation_s=1.0)


# --- planner in a thread


def test_the_thread_planner_does_not_block_and_passes_errors_on():
    policy = FakePolicy()
    planner, noise = ThreadPlanner(policy), np.zeros((1, 1, 6, 2), dtype=np.float32)
    assert planner.poll() is None
    policy.gate.clear()
    planner.start(observation(2.0, rows=1), noise)
    assert planner.poll() is None
    assert planner.busy
    policy.gate.set()
    while (actions := planner.poll()) is None:
        pass
    assert not planner.busy
    assert actions[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert planner.poll() is None
    planner.start(observation(policy.poison, rows=1), noise)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 it comes when the thread is done
        while planner.poll() is None:
            pass
    planner.close()


def test_a_closed_planner_takes_no_more_requests():
    planner = ThreadPlanner(FakePolicy())
    planner.close()
    planner.close()
    with pytest.raises(RuntimeError, match="closed"):
        planner.start(observation(2.0, rows=1), np.zeros((1, 1, 6, 2), dtype=np.float32))


END_WHILE_THINKING = """
import threading
from onedp.runtime import planner

planner.LONGEST_WAIT_AT_EXIT_S = {longest_wait_s}
entered, go_on = threading.Event(), threading.Event()

class Thinker:
    def infer(self, obs, noise):
        entered.set()
        go_on.wait({thinks_s})
        print("thought", flush=True)

thinking = planner.ThreadPlanner(Thinker())
thinking.start({{}}, None)
entered.wait()
thinking.close()
"""


@pytest.mark.parametrize(
    ("thinks_s", "longest_wait_s", "output"), [(None, 0.1, ""), (0.1, 120.0, "thought")], ids=["hangs", "thinks"]
)
def test_at_exit_a_policy_that_thinks_is_waited_for_and_one_that_hangs_is_not(thinks_s, longest_wait_s, output):
    script = END_WHILE_THINKING.format(thinks_s=thinks_s, longest_wait_s=longest_wait_s)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, output, "")
