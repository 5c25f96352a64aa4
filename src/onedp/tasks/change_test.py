"""A change in the middle of an episode: when it is due, what counts, and when the episode ends."""

from __future__ import annotations

import numpy as np

from onedp.tasks.change import Change
from onedp.tasks.pusht_moving import Reset
from onedp.tasks.task import StepResult


def test_only_what_follows_counts_and_the_time_after_it_is_limited() -> None:
    change = Change(at_tick=2, end_tick=5)
    success = StepResult({}, reward=1.0, success=True, done=True)
    failure = StepResult({}, reward=0.3, success=False, done=False)
    assert not change.is_due
    assert change.judged(success) == StepResult({}, reward=0.0, success=False, done=False)
    change.judged(failure)
    assert change.is_due
    assert change.judged(failure) == failure
    assert not change.is_due
    assert change.judged(success) == success
    assert change.judged(failure) == StepResult({}, reward=0.3, success=False, done=True)


def test_the_moment_is_drawn_between_the_options() -> None:
    options = Reset(earliest=1.0, latest=2.0, after=3.0)
    changes = [Change.draw(np.random.default_rng(seed), options, control_hz=10) for seed in range(50)]
    ticks = [change.at_tick for change in changes]
    assert min(ticks) >= 10
    assert max(ticks) <= 20
    assert len(set(ticks)) > 5
    assert {change.end_tick - change.at_tick for change in changes} == {30}
