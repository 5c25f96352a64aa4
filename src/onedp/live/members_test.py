"""Shipped policies as members of the cast, and a lane of one against its evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedp.errors import OneDPError
from onedp.evaluate.rollout import run_group
from onedp.live.fake_member_test import STILL, at_once, make_lane
from onedp.live.lane import Timing
from onedp.live.members import load_member
from onedp.runtime.execution import Execution
from onedp.runtime.latency import FixedLatency

TICKS = 60


def test_a_teacher_is_offered_with_many_samplers_and_a_student_with_its_own() -> None:
    teacher = load_member("pusht-keypoints-ddpm@ddim:10")
    assert (teacher.name, teacher.task, teacher.sampler) == ("pusht-keypoints-ddpm", "pusht-keypoints", "ddim:10")
    assert {"ddim:10", "ddpm:100", "ddim:4", "ddim:1"} == set(teacher.samplers)
    assert [teacher.open(sampler).nfe for sampler in ("ddim:10", "ddpm:100", "ddim:1")] == [10, 100, 1]
    student = load_member("pusht-keypoints-onedp-s")
    assert student.samplers == (student.sampler,)
    assert student.open(student.sampler).nfe == 1


def test_measured_latency_is_measured_once() -> None:
    student = load_member("pusht-keypoints-onedp-s")
    policy = student.open(student.sampler)
    latency = student.latency("measured", student.sampler, policy, False)
    assert latency is not None
    assert latency.seconds(0, 0) > 0
    assert student.latency("measured", student.sampler, policy, False) is latency


def test_unknown_policies_and_samplers_are_refused() -> None:
    with pytest.raises(OneDPError, match="pusht-keypoints-onedp-s"):
        load_member("pusht-keypoints-onedp-x")
    with pytest.raises(OneDPError, match="Unknown sampler 'ddim11'"):
        load_member("pusht-keypoints-ddpm@ddim11")


def test_a_shipped_policy_gives_the_numbers_of_its_evaluation() -> None:
    member = load_member("pusht-keypoints-onedp-s")
    policy, latency = member.open(member.sampler), FixedLatency(0.075)
    task = replace(STILL, max_steps=TICKS)
    (rollout,) = run_group(policy, task, [task.make_env()], [5], Execution(latency, "drop-late"))
    lane = make_lane(policy, Timing(latency, "drop-late"), at_once, seed=5)
    while lane.tick < TICKS and lane.solved_after_s is None:
        lane.advance()
    assert (lane.score, lane.tick) == (rollout.result.score, rollout.result.steps)
    assert lane.counters == vars(rollout.counters)
