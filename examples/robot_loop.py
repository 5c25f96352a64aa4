"""A robot driven by a policy server. In one terminal ``onedp serve pusht-keypoints-onedp-s``, in another:

    python examples/robot_loop.py --seconds 10

Replace the three methods of ``MyRobot``; everything else stays. No torch is needed here: pip install 'onedp[robot]'.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from onedp.errors import OneDPError
from onedp.runtime.clock import Clock, RealClock
from onedp.runtime.executor import EXECUTORS, make_executor
from onedp.runtime.limits import ActionLimiter
from onedp.runtime.loop import ControlLoop, Observation
from onedp.runtime.planner import ThreadPlanner
from onedp.runtime.watchdog import Watchdog, WatchdogLimits
from onedp.serve.access import read_token
from onedp.serve.client import ContinuingClient, PolicyClient
from onedp.types import PolicySpec


class MyRobot:
    """A stand-in that sees the same picture for ever and goes wherever it is told at once."""

    def __init__(self, spec: PolicySpec, clock: Clock):
        self.clock = clock
        self.seen = {name: value[0, 0] for name, value in spec.fake_observation(1, np.random.default_rng(0)).items()}
        self.position = np.zeros(spec.action_dim, dtype=np.float32)
        self.stopped = False

    def observe(self) -> Observation:
        """Newest camera pictures and joint angles, with the time at which they were taken; never waits for one."""
        return Observation(self.clock.now(), self.seen)

    def act(self, action: np.ndarray) -> None:
        """Send one command; ignore it when stopped."""
        if not self.stopped:
            self.position = action

    def stop(self) -> None:
        """Stop and stay stopped. The watchdog calls it, from a thread of its own if this one hangs."""
        self.stopped = True


def main(arguments: list[str] | None = None) -> MyRobot:
    """Drive the robot for some seconds; gives it back stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--token-file", type=Path, help="the server's, where it demands one")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--executor", default="sync", choices=EXECUTORS, help="what the robot does while it thinks")
    parser.add_argument("--max-step", type=float, default=30.0, help="largest change of an action per control step")
    options = parser.parse_args(arguments)

    if not (math.isfinite(options.seconds) and options.seconds > 0):
        raise OneDPError(f"--seconds is {options.seconds:g}, expected a positive number.")

    clock = RealClock()
    token = read_token(options.token_file) if options.token_file else None
    client = ContinuingClient if EXECUTORS[options.executor].continues else PolicyClient
    with client(options.host, options.port, token=token) as policy:
        robot, planner = MyRobot(policy.spec, clock), ThreadPlanner(policy)
        watchdog = Watchdog(WatchdogLimits(inference_s=1.0, observation_s=0.5), clock, robot.stop)
        executor = make_executor(options.executor, policy.spec)  # deltas need hold=: how the robot waits
        limiter = ActionLimiter(policy.spec, options.max_step)
        loop = ControlLoop(robot, policy, planner, executor, limiter, watchdog, clock)
        with watchdog.in_background(period_s=0.02):
            reason = loop.run(ticks=round(options.seconds * policy.spec.rate_hz))
        planner.close()
    print(f"Stopped: {reason}. {executor.counters}, {limiter.clipped} actions limited")
    return robot


if __name__ == "__main__":
    try:
        main()
    except (OneDPError, OSError) as error:
        print(f"robot_loop: {error}", file=sys.stderr)
        sys.exit(2)
