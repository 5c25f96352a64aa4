"""Real time, on a virtual clock: the rate, what a busy machine costs, and what a slow policy does not."""

from __future__ import annotations

import threading
import time

import pytest

from onedp.live.fake_member_test import Pusher, at_once, make_lane
from onedp.live.lane import Timing
from onedp.live.lane_test import Reluctant
from onedp.live.pacing import MOST_LATE_TICKS, LaneThread, Pacer, RateMeter
from onedp.runtime.clock import RealClock, VirtualClock
from onedp.runtime.planner import ThreadPlanner


def run(pacer: Pacer, clock: VirtualClock, seconds: float) -> None:
    end = clock.now() + seconds
    while clock.now() < end:
        clock.sleep_until(pacer.step())


def test_fifty_ticks_a_second() -> None:
    clock = VirtualClock()
    pacer = Pacer(make_lane(), clock)
    run(pacer, clock, 2.0)
    assert pacer.lane.tick == pytest.approx(100, abs=1)
    assert pacer.snapshot()["rate_hz"] == pytest.approx(50, abs=0.6)
    assert pacer.snapshot()["chunks_per_s"] == pytest.approx(1.25, abs=0.3)  # one for 8 steps of 0.1 s


def test_it_does_not_tick_before_its_time() -> None:
    clock = VirtualClock()
    pacer = Pacer(make_lane(), clock)
    wake = pacer.step()
    assert pacer.lane.tick == 1
    assert pacer.step() == wake
    assert pacer.lane.tick == 1


def test_with_true_latency_a_late_loop_misses_ticks() -> None:
    clock = VirtualClock()
    pacer = Pacer(make_lane(timing=Timing(latency=None)), clock)
    pacer.charged = False
    clock.sleep_until(pacer.step())
    clock.advance(0.065)  # something held the machine for three ticks
    pacer.step()
    assert pacer.lane.counters["deadline_misses"] == 3
    assert pacer.lane.tick == 5
    clock.advance(10)
    pacer.step()
    assert pacer.lane.counters["deadline_misses"] == 3 + MOST_LATE_TICKS


def test_with_charged_latency_a_late_loop_catches_up_or_stands_still_but_misses_nothing() -> None:
    clock = VirtualClock()
    pacer = Pacer(make_lane(), clock)
    clock.sleep_until(pacer.step())
    clock.advance(0.065)
    for _ in range(10):
        pacer.step()
    assert pacer.lane.tick == 5
    clock.advance(10)
    for _ in range(10):
        pacer.step()
    assert pacer.lane.tick == 6
    assert pacer.lane.counters["deadline_misses"] == 0


def test_a_world_that_waits_loses_its_rate_and_no_tick() -> None:
    clock = VirtualClock()
    pacer = Pacer(make_lane(make_planner=lambda policy: Reluctant(policy, 400)), clock)
    run(pacer, clock, 4.0)
    assert 0 < pacer.lane.tick < 180
    assert pacer.snapshot()["rate_hz"] < 45
    assert pacer.lane.counters["repeated"] == 0


def test_rates_are_those_of_the_last_seconds() -> None:
    meter = RateMeter(window_s=1.0)
    assert meter.per_s == 0.0
    for i in range(40):
        meter.mark(0.1 * i, i)
    assert meter.per_s == pytest.approx(10.0)
    meter.mark(4.0, 0)  # began anew
    assert meter.per_s == 0.0


def test_a_slow_policy_slows_no_other_lane() -> None:
    """The fast lane goes on while the other one's policy does not come back."""
    gate = threading.Event()

    class Stuck(Pusher):
        def infer(self, obs, noise):
            gate.wait(30)
            return super().infer(obs, noise)

    threads = [
        LaneThread(make_lane(policy, make_planner=make), RealClock(), "test")
        for policy, make in ((Stuck(), ThreadPlanner), (Pusher(), at_once))
    ]
    try:
        for thread in threads:
            thread.start()
        wait_until(lambda: threads[1].snapshot["tick"] >= 5)
        assert threads[0].snapshot["tick"] == 0
        assert threads[0].snapshot["thinking"]
        gate.set()
        wait_until(lambda: threads[0].snapshot["tick"] >= 1)
    finally:
        gate.set()
        for thread in threads:
            thread.close()


def test_calls_are_done_and_a_pause_stops_time() -> None:
    thread = LaneThread(make_lane(), RealClock(), "test")
    thread.start()
    try:
        thread.pause(True)
        wait_until(lambda: thread.snapshot.get("paused"))
        thread.call(lambda lane, pacer: lane.reset(11))
        wait_until(lambda: thread.snapshot["seed"] == 11)
        assert thread.snapshot["tick"] == 0
        thread.pause(False)
        wait_until(lambda: thread.snapshot["tick"] > 0)
    finally:
        thread.close()


def test_a_fault_of_ours_stops_the_lane_and_is_shown() -> None:
    def fail(lane, pacer):
        raise RuntimeError("a bug")

    thread = LaneThread(make_lane(), RealClock(), "test")
    thread.start()
    try:
        thread.call(fail)
        wait_until(lambda: thread.snapshot["error"] == "RuntimeError: a bug")
        assert thread.snapshot["paused"]
    finally:
        thread.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
