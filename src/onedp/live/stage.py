"""All lanes together: what the page's commands do to them, and what it sees of them."""

from __future__ import annotations

import importlib.metadata
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from onedp.errors import OneDPError, ServeError
from onedp.live.cast import LATENCIES, Member
from onedp.live.lane import Lane, PlannerMaker, Timing
from onedp.live.pacing import LaneThread, Pacer
from onedp.live.protocol import Change, Command, Drag, Pause, Release, Reset
from onedp.live.tasks import live_task
from onedp.runtime.clock import Clock, RealClock
from onedp.runtime.execution import Execution
from onedp.runtime.executor import EXECUTORS
from onedp.runtime.planner import ThreadPlanner
from onedp.tasks.pusht import T_CORNERS_PX, WORKSPACE_PX
from onedp.tasks.pusht_moving import CONTROL_HZ
from onedp.types import ContinuingPolicy, Policy

GOAL_POSE = (256.0, 256.0, math.pi / 4)
"""Of the simulator: x, y [px], angle [rad]."""
AGENT_RADIUS_PX = 15.0
WALL_PX = 5.0
"""Middle of the simulator's walls, from the edge."""
LONGEST_UNREST_S = 60.0
"""A policy that thinks for longer is not waited for when another is to be measured."""


@dataclass(frozen=True)
class Options:
    """What a lane shows, as the page names it."""

    sampler: str
    latency: str
    executor: str


@dataclass(frozen=True)
class StageConfig:
    """How every lane begins."""

    task: str | None = None
    """A moving Push-T (``pusht-drift@speed=4``) for all; None: each policy's own, with a T that stands still."""
    latency: str = "measured"
    executor: str = "sync"
    seed: int = 0


class Stage:
    """Owns the lanes' threads. Its methods may be called from any thread; only a ``Change`` may take long."""

    def __init__(
        self,
        cast: Sequence[Member],
        config: StageConfig,
        clock: Clock | None = None,
        make_planner: PlannerMaker = ThreadPlanner,
    ):
        """Opens the policies and measures them if asked to; raises ``OneDPError``."""
        if not cast:
            raise OneDPError("There is no policy to show.")
        self._cast = list(cast)
        self._seed = config.seed
        self._paused = False  # by a user
        self._measuring = False
        self._lock = threading.Lock()  # never held for long: everybody waits for it
        self._changing = threading.Lock()  # one change at a time, which may take seconds
        self._options: list[Options] = []
        self._policies: list[Policy] = []
        self._lanes: list[LaneThread] = []
        for member in self._cast:
            options = Options(member.sampler, config.latency, config.executor)
            policy, timing = self._prepared(member, options)
            lane = Lane(live_task(config.task or member.task), policy, timing, make_planner, config.seed)
            self._options.append(options)
            self._policies.append(policy)
            self._lanes.append(LaneThread(lane, clock or RealClock(), member.name, timing.latency is not None))

    def __len__(self) -> int:
        return len(self._lanes)

    def start(self) -> None:
        """Let time pass in every lane."""
        for lane in self._lanes:
            lane.start()

    def close(self) -> None:
        """End all threads."""
        for lane in self._lanes:
            lane.close()

    def do(self, command: Command) -> None:
        """Carry a command out; returns when it was handed to its lanes. ``Change`` may take seconds.

        Raises ``OneDPError`` with nothing changed.
        """
        if isinstance(command, Change):
            with self._changing:
                self._change(command)
            return
        with self._lock:
            if isinstance(command, Drag):
                pose = np.array([command.x, command.y, command.angle])
                for lane in command.lanes:
                    self._lanes[lane].call(lambda lane, pacer: lane.pull_to(pose))
            elif isinstance(command, Release):
                self._release(command.lanes)
            elif isinstance(command, Reset):
                self._seed = command.seed
                for each in self._lanes:
                    each.call(lambda lane, pacer: lane.reset(command.seed))
            elif isinstance(command, Pause):
                self._paused = command.paused
                self._pause_lanes()

    def release(self, lanes: Iterable[int]) -> None:
        """Let go of the T in these lanes: who held it is gone."""
        with self._lock:
            self._release(lanes)

    def _release(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            self._lanes[lane].call(lambda lane, pacer: lane.release())

    def _pause_lanes(self) -> None:
        for lane in self._lanes:
            lane.pause(self._paused or self._measuring)

    def _change(self, command: Change) -> None:
        index = command.lane
        old, member = self._options[index], self._cast[index]
        new = Options(command.sampler or old.sampler, command.latency or old.latency, command.executor or old.executor)
        policy, timing = self._prepared(member, new)

        def configure(lane: Lane, pacer: Pacer) -> None:
            lane.configure(policy, timing)
            pacer.charged = timing.latency is not None

        with self._lock:
            self._options[index], self._policies[index] = new, policy
            self._lanes[index].call(configure)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """No lane moves and no policy thinks, whatever users do meanwhile: what is measured must not compete."""
        self._measure(True)
        try:
            for lane in self._lanes:
                if not lane.wait_until_still(LONGEST_UNREST_S):
                    raise ServeError(
                        f"Nothing can be measured at rest: {lane.name} has been thinking for more than "
                        f"{LONGEST_UNREST_S:g} s. Choose another latency."
                    )
            yield
        finally:
            self._measure(False)

    def _measure(self, measuring: bool) -> None:
        with self._lock:
            self._measuring = measuring
            self._pause_lanes()

    def _prepared(self, member: Member, options: Options) -> tuple[Policy, Timing]:
        """The policy and timing of ``options``; raises ``OneDPError`` when they do not go together."""
        Execution(executor=options.executor)  # refuses other names
        member.check_sampler(options.sampler)
        policy = member.open(options.sampler)
        continuing = EXECUTORS[options.executor].continues
        if continuing and not isinstance(policy, ContinuingPolicy):
            raise ServeError(f"{member.name} cannot go on from the chunk before: only PyTorch policies can.")
        latency = member.latency(options.latency, options.sampler, policy, continuing, self._at_rest)
        return policy, Timing(latency, options.executor)

    # --- what the page sees

    def hello(self) -> dict[str, Any]:
        """What does not change: shapes [px], and what the page may ask for."""
        bar, stem = T_CORNERS_PX[:4], T_CORNERS_PX[4:]
        return {
            "type": "hello",
            "version": importlib.metadata.version("onedp"),
            "workspace": WORKSPACE_PX,
            "wall": WALL_PX,
            "control_hz": CONTROL_HZ,
            "t": [bar.tolist(), stem.tolist()],
            "goal": list(GOAL_POSE),
            "agent_radius": AGENT_RADIUS_PX,
            "latencies": list(LATENCIES),
            "lanes": [
                {
                    "name": member.name,
                    "samplers": list(member.samplers),
                    "executors": [
                        name
                        for name, executor in EXECUTORS.items()
                        if not executor.continues or isinstance(policy, ContinuingPolicy)
                    ],
                }
                for member, policy in zip(self._cast, self._policies, strict=True)
            ],
        }

    def state(self) -> dict[str, Any]:
        """This moment of every lane."""
        return {
            "type": "state",
            "paused": self._paused,
            "seed": self._seed,
            "lanes": [
                {
                    **lane.snapshot,
                    "sampler": options.sampler,
                    "latency": options.latency,
                    "executor": options.executor,
                    "nfe": policy.nfe,
                }
                for lane, options, policy in zip(self._lanes, self._options, self._policies, strict=True)
            ],
        }
