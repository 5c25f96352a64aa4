"""Asynchronous executors on a virtual clock of ticks: which action each tick executes is exact.

Chunks have 5 actions; action k of a chunk is its first value + k. A chunk whose first value is the tick of its
observation gives the tick itself when it is on time.
"""

from __future__ import annotations

import numpy as np
import pytest

from onedp.errors import OneDPError, SpecError
from onedp.runtime.execution import Execution
from onedp.runtime.executor import (
    ENSEMBLE_DECAY,
    EXECUTORS,
    ChunkExecutor,
    Counters,
    DropLateExecutor,
    EnsembleExecutor,
    RealTimeChunkingExecutor,
    Seams,
    SynchronousExecutor,
    make_executor,
)
from onedp.runtime.latency import FixedLatency
from onedp.serve.fake_policy_test import SPEC


def chunk(first: float, step: float = 1.0) -> np.ndarray:
    return np.repeat(np.arange(5, dtype=np.float32)[:, None] * step + first, 2, axis=1).astype(np.float32)


def run(executor: ChunkExecutor, delay: int, ticks: int, first=float) -> tuple[list[float | None], list[int]]:
    """The action of each tick, and the ticks of the observations; every chunk comes ``delay`` ticks late."""
    actions: list[float | None] = []
    asked: list[int] = []
    thinking: int | None = None
    for tick in range(ticks):
        for _ in range(2):  # a delay of 0 is delivered at once
            if thinking is not None and tick == thinking + delay:
                executor.deliver(chunk(first(thinking)), observed=thinking, usable=tick)
                thinking = None
            elif thinking is None and executor.wants_chunk(tick):
                thinking = tick
                asked.append(tick)
        action = executor.action(tick)
        actions.append(None if action is None else float(action[0]))
    return actions, asked


def test_drop_late_never_holds_still_while_a_chunk_lasts():
    executor = DropLateExecutor(SPEC)  # a new chunk every 3 ticks
    actions, asked = run(executor, delay=2, ticks=9)
    assert actions == [None, None, 2, 3, 4, 5, 6, 7, 8]
    assert asked == [0, 3, 6]
    assert executor.counters == Counters(executed=7, dropped=6, starved=2)
    assert executor.seams == Seams(chunks=3, delay_ticks=6, joints=0, jump=0.0)  # the old chunk has no action at 5, 8


def test_drop_late_changes_to_the_new_chunk_at_once_and_measures_the_seam():
    executor = DropLateExecutor(SPEC, replan_ticks=2)
    actions, asked = run(executor, delay=1, ticks=6, first=lambda tick: tick + 100.0 * (tick // 2))
    assert actions == [None, 1, 2, 103, 104, 205]
    assert asked == [0, 2, 4]
    assert executor.seams.joints == 2
    assert executor.seams.jump == pytest.approx(2 * 100 * np.sqrt(2))
    assert executor.counters == Counters(executed=5, dropped=3, starved=1)


def test_a_delay_longer_than_a_chunk_starves():
    executor = DropLateExecutor(SPEC)
    actions, _ = run(executor, delay=5, ticks=12)
    assert actions == [None] * 12
    assert executor.counters == Counters(dropped=10, starved=12)


def test_a_chunk_that_runs_out_is_held():
    executor = DropLateExecutor(SPEC)
    actions, asked = run(executor, delay=4, ticks=10)
    assert actions == [None] * 4 + [4, 4, 4, 4, 8, 8]
    assert asked == [0, 4, 8]
    assert executor.counters == Counters(executed=2, dropped=8, repeated=4, starved=4)


def test_replanning_more_often_than_the_policy_can_think_asks_as_soon_as_it_answered():
    _, asked = run(DropLateExecutor(SPEC, replan_ticks=1), delay=2, ticks=7)
    assert asked == [0, 2, 4, 6]


def test_without_delay_drop_late_is_synchronous():
    late, sync = DropLateExecutor(SPEC), SynchronousExecutor(SPEC)
    assert run(late, delay=0, ticks=12) == run(sync, delay=0, ticks=12)
    assert late.counters == sync.counters == Counters(executed=12)


def test_synchronous_holds_while_it_thinks():
    executor = SynchronousExecutor(SPEC, replan_ticks=2)
    actions, asked = run(executor, delay=2, ticks=9)
    assert actions == [None, None, 0, 1, 1, 1, 4, 5, 5]  # each chunk from its first action on: the robot waited for it
    assert asked == [0, 4, 8]
    assert executor.counters == Counters(executed=4, repeated=3, starved=2)


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("hold", [None, lambda last: last * 0])
def test_waiting_is_no_jump(delay, hold):
    """Chunks that agree on every tick of the plan join without one, however long the robot waited in between."""
    executor = SynchronousExecutor(SPEC, replan_ticks=2, hold=hold)
    run(executor, delay, ticks=12, first=lambda tick: float(2 * (tick // (2 + delay))))
    assert executor.seams.joints >= 2
    assert executor.seams.jump == 0.0
    parting = SynchronousExecutor(SPEC, replan_ticks=2, hold=hold)
    run(parting, delay, ticks=12, first=lambda tick: float(3 * (tick // (2 + delay))))
    assert parting.seams.jump == pytest.approx(parting.seams.joints * np.sqrt(2))


def test_the_ensemble_averages_what_reaches_the_tick():
    executor = EnsembleExecutor(SPEC, replan_ticks=2)
    actions, asked = run(executor, delay=0, ticks=7, first=lambda tick: 10.0 * tick)
    assert asked == [0, 2, 4, 6]
    old, middle, new = np.exp(-ENSEMBLE_DECAY * np.arange(3))
    assert actions[0:2] == [0, 1]
    assert actions[2] == pytest.approx((old * 2 + middle * 20) / (old + middle))
    assert actions[4] == pytest.approx((old * 4 + middle * 22 + new * 40) / (old + middle + new))
    assert actions[5] == pytest.approx((old * 23 + middle * 41) / (old + middle))  # the first one is over
    assert executor.counters == Counters(executed=7)


def test_the_ensemble_holds_when_all_chunks_are_over():
    executor = EnsembleExecutor(SPEC)
    executor.deliver(chunk(0), observed=0, usable=3)
    assert [executor.action(tick)[0] for tick in (3, 4, 5)] == [3, 4, 4]  # type: ignore[index]
    assert executor.counters == Counters(executed=2, dropped=3, repeated=1)


def test_the_tail_is_what_is_left_of_the_newest_chunk():
    executor = RealTimeChunkingExecutor(SPEC)
    assert executor.tail(0) is None
    executor.deliver(chunk(10), observed=4, usable=6)
    assert executor.tail(7)[:, 0].tolist() == [13, 14]  # type: ignore[index]
    assert executor.tail(9) is None
    assert executor.tail(3) is None


def test_the_expected_delay_is_the_longest_of_the_last_ten():
    executor = DropLateExecutor(SPEC)
    assert executor.expected_delay == 0
    for delay, expected in [(3, 3), *[(1, 3)] * 9, (2, 2)]:
        executor.deliver(chunk(0), observed=0, usable=delay)
        assert executor.expected_delay == expected


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_refuses_what_is_impossible(name):
    with pytest.raises(SpecError, match="every 6 ticks is not possible, expected 1 to 5"):
        make_executor(name, SPEC, 6)
    with pytest.raises(SpecError, match="observed at tick 3 cannot be usable at tick 2"):
        make_executor(name, SPEC).deliver(chunk(0), observed=3, usable=2)


def test_executions_say_what_they_are_and_refuse_unknown_names():
    assert Execution().label == ""
    assert Execution(executor="rtc").label == "rtc"
    assert Execution(FixedLatency(0.1), "sync", 4, "held").label == "0.1 s, sync, replan 4, held noise"
    with pytest.raises(OneDPError, match="Unknown executor 'rct'"):
        Execution(executor="rct")
    with pytest.raises(OneDPError, match="Unknown noise 'cold'"):
        Execution(noise="cold")
    with pytest.raises(OneDPError, match="--replan 0 is not possible, expected 1 or more steps"):
        Execution(replan_steps=0)
    with pytest.raises(OneDPError, match="--replan 6 is not possible, expected 1 to 5 steps of the policy"):
        Execution(replan_steps=6).make_executor(SPEC, ticks_per_step=1)
    Execution(replan_steps=5).make_executor(SPEC, ticks_per_step=1)
    with pytest.raises(OneDPError, match="Unknown executor 'x'"):
        make_executor("x", SPEC)


def stand_still(last: np.ndarray) -> np.ndarray:
    return last * 0


@pytest.mark.parametrize(("name", "moves"), [("sync", 2), ("drop-late", 5), ("ensemble", 5), ("rtc", 5)])
def test_a_robot_of_deltas_that_stood_still_begins_with_the_first_and_is_held_at_the_end(name, moves):
    executor = make_executor(name, SPEC, 2, hold=stand_still)
    assert [executor.action(tick) for tick in range(3)] == [None] * 3
    executor.deliver(chunk(1), observed=0, usable=3)
    actions = [executor.action(tick) for tick in range(3, 10)]
    expected = [*range(1, 1 + moves), *[0] * (7 - moves)]
    assert [None if action is None else float(action[0]) for action in actions] == expected
    assert executor.counters == Counters(executed=moves, repeated=7 - moves, starved=3)
    executor.deliver(chunk(20), observed=10, usable=11)
    new = executor.action(11)
    assert new is not None
    assert new[0] == 20


def test_deltas_are_late_where_others_were_executed_in_their_place():
    executor = make_executor("drop-late", SPEC, 3, hold=stand_still)
    actions, asked = run(executor, delay=2, ticks=9)
    assert asked == [0, 3, 6]
    # the first chunk comes to a robot that stood still; of the others two deltas each were executed by the one before
    assert actions == [None, None, 0, 1, 2, 5, 6, 7, 8]
    assert executor.counters == Counters(executed=7, dropped=4, starved=2)
    short = make_executor("drop-late", SPEC, 4, hold=stand_still)
    actions, asked = run(short, delay=4, ticks=16)  # the second chunk ends while the third is thought of
    assert asked == [0, 4, 8, 12]
    assert actions == [None] * 4 + [0, 1, 2, 3, 8, 0, 0, 0, 9, 10, 11, 12]  # of which one delta was executed by then
    assert short.counters == Counters(executed=9, dropped=5, repeated=3, starved=4)


@pytest.mark.parametrize("name", ["drop-late", "ensemble", "rtc"])
def test_deltas_of_skipped_ticks_come_later_and_positions_of_them_never(name):
    actions = {}
    for hold in (stand_still, None):
        executor = make_executor(name, SPEC, 5, hold=hold)
        executor.deliver(chunk(1), observed=0, usable=0)
        told = [executor.action(0), executor.action(1)]
        executor.skip(1, 2)  # ticks 2 and 3
        told += [executor.action(tick) for tick in range(4, 8)]
        actions[hold] = [float(action[0]) for action in told if action is not None]
        assert executor.counters.deadline_misses == 2
    assert actions == {stand_still: [1, 2, 3, 4, 5, 0], None: [1, 2, 5, 5, 5, 5]}


@pytest.mark.parametrize(("name", "late"), [("drop-late", 2), ("sync", 0)])
def test_seams_are_compared_at_the_same_place_of_the_plan_though_a_tick_was_skipped(name, late):
    executor = make_executor(name, SPEC, 1 if name == "sync" else 2, hold=stand_still)
    executor.deliver(chunk(0), observed=0, usable=0)
    executor.action(0)
    executor.action(1)
    executor.skip(1, 1)
    executor.action(3)
    executor.deliver(chunk(1), observed=1, usable=4)  # made where the first chunk had its second action, 1
    assert executor.counters.dropped == late
    assert executor.seams == Seams(chunks=2, delay_ticks=3, joints=1)
    new = executor.action(4)
    assert new is not None
    assert new[0] == 1 + late


def test_a_robot_that_waits_loses_no_delta_to_skipped_ticks():
    executor = make_executor("sync", SPEC, 3, hold=stand_still)
    executor.deliver(chunk(1), observed=0, usable=0)
    assert executor.action(0) is not None
    executor.skip(0, 4)
    assert not executor.wants_chunk(5)
    told = [executor.action(tick) for tick in range(5, 8)]
    assert [float(action[0]) for action in told if action is not None] == [2, 3, 0]
    assert executor.wants_chunk(8)
    executor.skip(7, 2)  # while it stands still there is nothing to postpone
    held = executor.action(10)
    assert held is not None
    assert held[0] == 0
