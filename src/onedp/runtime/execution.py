"""How chunks become actions while the policy thinks: the options of an evaluation with charged time."""

from __future__ import annotations

from dataclasses import dataclass

from onedp.errors import OneDPError, unknown_choice
from onedp.runtime.executor import EXECUTORS, ChunkExecutor, HoldAction, make_executor
from onedp.runtime.latency import FixedLatency, LatencyModel
from onedp.runtime.requests import NOISES
from onedp.types import PolicySpec

NO_LATENCY = FixedLatency(0.0)


@dataclass(frozen=True)
class Execution:
    """Latency, executor, how often a chunk is made, and its noise. The defaults freeze the world while it thinks."""

    latency: LatencyModel = NO_LATENCY
    """Charged between an observation and the chunk made of it."""
    executor: str = "sync"
    """A name of ``EXECUTORS``."""
    replan_steps: int | None = None
    """Policy steps from one observation that a chunk is made of to the next; None: the policy's Ta."""
    noise: str = "fresh"
    """A name of ``NOISES``."""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise OneDPError(unknown_choice("executor", self.executor, EXECUTORS))
        if self.noise not in NOISES:
            raise OneDPError(unknown_choice("noise", self.noise, NOISES))
        if self.replan_steps is not None and self.replan_steps < 1:
            raise OneDPError(f"--replan {self.replan_steps} is not possible, expected 1 or more steps of the policy.")

    def make_executor(self, spec: PolicySpec, ticks_per_step: int, hold: HoldAction | None = None) -> ChunkExecutor:
        """For one episode of a policy with ``spec``, in control ticks of which a policy's step has so many.

        ``spec``: at the control rate. ``hold``: the task's way to stay where the last action brought it; None: the
        last action again. Raises ``OneDPError`` when a chunk has fewer steps than ``replan_steps``.
        """
        steps = spec.chunk_length // ticks_per_step
        if self.replan_steps is not None and self.replan_steps > steps:
            raise OneDPError(
                f"--replan {self.replan_steps} is not possible, expected 1 to {steps} steps of the policy: its chunks "
                "have no more actions."
            )
        ticks = None if self.replan_steps is None else self.replan_steps * ticks_per_step
        return make_executor(self.executor, spec, ticks, hold)

    @property
    def label(self) -> str:
        """For tables; empty when the world waits for the policy as evaluations always did."""
        parts = [self.executor] if self.executor != "sync" else []
        if self.latency != NO_LATENCY:
            parts = [self.latency.label, self.executor]
        if self.replan_steps is not None:
            parts.append(f"replan {self.replan_steps}")
        if self.noise != "fresh":
            parts.append(f"{self.noise} noise")
        return ", ".join(parts)
