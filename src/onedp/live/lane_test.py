"""A lane is an evaluation that one can touch: the same numbers when nobody does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onedp.errors import OneDPError
from onedp.evaluate.rollout import run_group
from onedp.live.fake_member_test import STILL, Broken, ContinuingPusher, Pusher, at_once, make_lane
from onedp.live.lane import Lane, Timing
from onedp.live.tasks import live_task
from onedp.runtime.execution import Execution
from onedp.runtime.latency import FixedLatency, HistogramLatency
from onedp.tasks import get_task
from onedp.tasks.pusht import PUSHT_IMAGE

TICKS = 90
AWAY = np.array([120.0, 130.0, 1.0])


class Reluctant:
    """A planner that says nothing the first ``polls`` times."""

    def __init__(self, policy, polls: int):
        self._planner, self._polls, self._left = at_once(policy), polls, 0

    def start(self, obs, noise, previous=None):
        self._planner.start(obs, noise, previous)
        self._left = self._polls

    def poll(self):
        self._left -= 1
        return self._planner.poll() if self._left < 0 else None


def run(lane: Lane, ticks: int = TICKS) -> None:
    while lane.tick < ticks and lane.solved_after_s is None:
        lane.advance()


@pytest.mark.parametrize(
    ("executor", "latency"),
    [
        ("sync", FixedLatency(0.0)),
        ("sync", FixedLatency(0.669)),
        ("drop-late", FixedLatency(0.075)),
        ("ensemble", HistogramLatency.of([0.01, 0.05, 0.2])),
        ("rtc", FixedLatency(0.075)),
    ],
    ids=str,
)
def test_a_lane_gives_the_numbers_of_an_evaluation(executor: str, latency) -> None:
    """Whatever the policy really takes."""
    policy = ContinuingPusher() if executor == "rtc" else Pusher()
    task = replace(STILL, max_steps=TICKS)
    (rollout,) = run_group(policy, task, [task.make_env()], [3], Execution(latency, executor))
    lane = make_lane(policy, Timing(latency, executor), lambda policy: Reluctant(policy, 3))
    run(lane)
    assert (lane.score, lane.tick) == (rollout.result.score, rollout.result.steps)
    assert lane.counters == vars(rollout.counters)
    assert lane.chunks == rollout.seams.chunks


def test_a_moving_task_moves_as_in_an_evaluation() -> None:
    task = replace(get_task("pusht-drift@speed=20"), max_steps=60)
    (rollout,) = run_group(Pusher(), task, [task.make_env()], [3], Execution())
    lane = Lane(live_task("pusht-drift@speed=20"), Pusher(), Timing(), at_once, 3)
    run(lane, 60)
    assert lane.score == rollout.result.score


def test_the_world_waits_for_a_charged_policy_only() -> None:
    charged = make_lane(make_planner=lambda policy: Reluctant(policy, 5))
    ticked = [charged.advance() for _ in range(7)]
    assert ticked == [False] * 5 + [True] * 2
    true = make_lane(timing=Timing(latency=None), make_planner=lambda policy: Reluctant(policy, 5))
    assert all(true.advance() for _ in range(7))
    assert true.counters["starved"] == 5
    assert true.snapshot()["delay_ms"] == 100


def test_a_reset_begins_the_same_episode_again() -> None:
    lane = make_lane()
    run(lane, 40)
    first = lane.snapshot()
    lane.reset(3)
    assert lane.snapshot()["tick"] == 0
    run(lane, 40)
    assert lane.snapshot() == first
    lane.reset(4)
    run(lane, 40)
    assert lane.snapshot()["block"] != first["block"]


def test_a_hand_moves_the_t_and_earns_nothing() -> None:
    lane = make_lane()
    run(lane, 10)
    score = lane.snapshot()["score"]
    lane.pull_to(AWAY)
    for _ in range(60):
        lane.advance()
    state = lane.snapshot()
    np.testing.assert_allclose(state["block"][:2], AWAY[:2], atol=3.0)
    assert state["held"]
    assert state["score"] == score
    lane.release()
    assert lane.snapshot()["attempt_s"] == 0.0
    assert not lane.snapshot()["held"]
    lane.advance()
    assert lane.snapshot()["attempt_s"] == 0.02


def test_a_success_is_counted_once_an_attempt_and_never_by_hand() -> None:
    goal = np.array([256.0, 256.0, np.pi / 4])
    lane = make_lane(Still())
    lane.pull_to(goal)
    for _ in range(100):
        lane.advance()
    assert (lane.solved_times, lane.score) == (0, 0.0)
    lane.release()
    for _ in range(3):
        lane.advance()
    assert (lane.solved_times, lane.solved_after_s, lane.score) == (1, 0.02, 1.0)


def test_after_a_success_the_robot_rests_until_the_t_is_taken() -> None:
    lane = make_lane(Still())
    lane.pull_to(np.array([256.0, 256.0, np.pi / 4]))
    for _ in range(100):
        lane.advance()
    lane.release()
    lane.advance()
    chunks, agent = lane.chunks, lane.snapshot()["agent"]
    for _ in range(100):
        lane.advance()
    state = lane.snapshot()
    assert (lane.chunks, state["thinking"], state["target"], state["reward"]) == (chunks, False, None, 1.0)
    np.testing.assert_allclose(state["agent"], agent, atol=1.0)
    lane.pull_to(AWAY)
    lane.advance()
    assert lane.chunks == chunks + 1
    lane.release()
    for _ in range(100):
        lane.advance()
    assert lane.chunks > chunks + 1


class Still(Pusher):
    """Stays in a corner."""

    def infer(self, obs, noise):
        return np.full((1, self.spec.chunk_length, 2), 30.0, dtype=np.float32)


def test_other_options_go_on_from_the_same_scene() -> None:
    lane = make_lane()
    run(lane, 30)
    before = lane.snapshot()
    lane.configure(ContinuingPusher(), Timing(FixedLatency(0.1), "rtc"))
    after = lane.snapshot()
    assert after["block"] == before["block"]
    assert (after["tick"], after["chunks"], after["plan"]) == (30, 0, [])
    assert set(after["counters"].values()) == {0}
    run(lane, 60)
    assert lane.chunks > 0


def test_options_that_do_not_fit_change_nothing() -> None:
    lane = make_lane()
    with pytest.raises(OneDPError, match="cannot go on from the chunk before"):
        lane.configure(Pusher(), Timing(executor="rtc"))
    with pytest.raises(OneDPError, match="does not fit the observations or actions of 'pusht-keypoints'"):
        lane.configure(Pusher(spec=PUSHT_IMAGE.spec), Timing())
    run(lane, 5)
    assert lane.tick == 5


def test_a_policy_that_fails_stops_its_lane_alone_and_says_why() -> None:
    lane = make_lane(Broken())
    assert all(lane.advance() for _ in range(3))
    assert lane.snapshot()["error"] == "ValueError: no weights"
    lane.configure(Pusher(), Timing())
    assert lane.snapshot()["error"] is None


def test_a_missed_tick_repeats_the_last_target_and_is_counted() -> None:
    lane = make_lane(timing=Timing(latency=None))
    lane.advance()
    target = lane.snapshot()["target"]
    lane.miss()
    assert lane.counters["deadline_misses"] == 1
    assert lane.snapshot()["target"] == target
    assert lane.tick == 2


def test_the_plan_has_one_point_a_step() -> None:
    lane = make_lane()
    lane.advance()
    chunk = Pusher().spec.chunk_length
    assert len(lane.plan()) == chunk
    run(lane, 11)
    assert len(lane.plan()) == chunk - 2


def test_only_push_t_is_shown() -> None:
    with pytest.raises(OneDPError, match="Unknown task of onedp live 'lift'"):
        live_task("lift")
