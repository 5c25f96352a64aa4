"""How an evaluation's chunks were executed in time, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from onedp.runtime.execution import Execution
from onedp.runtime.executor import Counters, Seams
from onedp.types import PolicySpec


@dataclass(frozen=True)
class Timing:
    """Charged latency, executor, and counters summed over all episodes."""

    label: str
    """For tables; empty when the world waited for the policy."""
    latency: dict[str, Any]
    """The latency model that was charged: ``to_json`` of ``onedp.runtime.latency``."""
    executor: str
    replan_steps: int
    """Policy steps from one observation that a chunk is made of to the next, or executed of a chunk (sync)."""
    noise: str
    control_hz: float
    """Rate of the control ticks that are counted below, and as ``steps`` of an episode."""
    completion_s: float | None
    """Mean time to success [s] of the episodes that succeeded."""
    executed: int
    """Ticks with an action of their own."""
    dropped: int
    """Actions that were late when their chunk came."""
    repeated: int
    """Ticks on which the last action was held."""
    starved: int
    """Ticks on which there was no action yet, not even one to hold."""
    deadline_misses: int
    """Ticks skipped because the loop was late; none in virtual time."""
    chunks: int
    """Chunks delivered."""
    delay_ticks: float
    """Ticks really consumed from an observation until its chunk came, mean."""
    seams: int
    """Chunks compared with the one before on the first tick that both have an action for."""
    seam_jump: float | None
    """Distance of these two actions, physical units of the action, mean. Of the chunks as they came: rtc fades it away,
    ensemble executes their mean."""

    @property
    def jump(self) -> float | None:
        """``seam_jump``, but None where the robot stood still between two chunks (sync, unless nothing is charged)."""
        return None if self.executor == "sync" and self.delay_ticks > 0 else self.seam_jump

    @classmethod
    def of(
        cls,
        execution: Execution,
        spec: PolicySpec,
        control_hz: float,
        counters: Sequence[Counters],
        seams: Sequence[Seams],
        success_ticks: Sequence[int],
    ) -> Timing:
        """Summed over episodes. ``spec`` is the policy's own, ``success_ticks`` the lengths of successful episodes."""
        total = Counters(*(sum(column) for column in zip(*map(astuple, counters), strict=True)))
        joined = Seams(*(sum(column) for column in zip(*map(astuple, seams), strict=True)))
        return cls(
            label=execution.label,
            latency=execution.latency.to_json(),
            executor=execution.executor,
            replan_steps=execution.replan_steps or spec.n_action_steps,
            noise=execution.noise,
            control_hz=control_hz,
            completion_s=float(np.mean(success_ticks)) / control_hz if success_ticks else None,
            executed=total.executed,
            dropped=total.dropped,
            repeated=total.repeated,
            starved=total.starved,
            deadline_misses=total.deadline_misses,
            chunks=joined.chunks,
            delay_ticks=joined.delay_ticks / max(1, joined.chunks),
            seams=joined.joints,
            seam_jump=joined.jump / joined.joints if joined.joints else None,
        )
