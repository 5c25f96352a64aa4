"""What is measured while the lanes run, with policies that think until they are told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

import onedp.live.stage as stage_module
from onedp.errors import ServeError
from onedp.live.fake_member_test import Pusher, always_40_ms, fake_member
from onedp.live.pacing_test import wait_until
from onedp.live.protocol import Change, Reset
from onedp.live.stage import Stage, StageConfig


@dataclass
class Thinker(Pusher):
    """Thinks until ``go_on`` is set."""

    go_on: threading.Event = field(default_factory=threading.Event)
    begun: list[bool] = field(default_factory=list)
    """As long as the number of its chunks."""
    done: list[bool] = field(default_factory=list)

    def infer(self, obs, noise):
        self.begun.append(True)
        assert self.go_on.wait(120)
        chunk = super().infer(obs, noise)
        self.done.append(True)
        return chunk


@contextmanager
def beside_a_thinker(measure=always_40_ms) -> Iterator[tuple[Stage, Thinker]]:
    """Two running lanes: that of a policy which thinks already, and that of one which can be measured."""
    thinker = Thinker()
    cast = [fake_member("thinker", policy=thinker), fake_member("other", measure=measure)]
    stage = Stage(cast, StageConfig(latency="0"))
    stage.start()
    try:
        wait_until(lambda: thinker.begun)
        yield stage, thinker
    finally:
        thinker.go_on.set()
        stage.close()


@pytest.mark.parametrize("forgotten", [False, True])
def test_nothing_is_measured_while_a_chunk_is_in_the_making(forgotten: bool) -> None:
    in_the_making: list[int] = []

    def measure(policy, continuing):
        in_the_making.append(len(thinker.begun) - len(thinker.done))
        return always_40_ms(policy, continuing)

    with beside_a_thinker(measure) as (stage, thinker):
        if forgotten:
            stage.do(Reset(5))
            wait_until(lambda: len(thinker.begun) == 2)
        changing = threading.Thread(target=stage.do, args=[Change(lane=1, latency="measured")])
        changing.start()
        wait_until(lambda: stage.state()["lanes"][0].get("paused"))
        thinker.go_on.set()
        changing.join(60)
        assert in_the_making == [0]
        assert stage.state()["lanes"][1]["latency"] == "measured"
        tick = stage.state()["lanes"][0]["tick"]
        wait_until(lambda: stage.state()["lanes"][0]["tick"] > tick)


def test_a_policy_that_hangs_lets_no_other_be_measured_and_everything_else_be_done(monkeypatch) -> None:
    monkeypatch.setattr(stage_module, "LONGEST_UNREST_S", 0.1)
    with beside_a_thinker() as (stage, _):
        with pytest.raises(ServeError, match=r"thinker has been thinking for more than 0\.1 s"):
            stage.do(Change(lane=1, latency="measured"))
        assert stage.state()["lanes"][1]["latency"] == "0"
        tick = stage.state()["lanes"][1]["tick"]
        wait_until(lambda: stage.state()["lanes"][1]["tick"] > tick)
        stage.do(Change(lane=1, latency="0.075"))
        wait_until(lambda: stage.state()["lanes"][1]["delay_ms"] == 80)
