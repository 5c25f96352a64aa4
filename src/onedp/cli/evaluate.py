"""``onedp evaluate``: one policy on many starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:  # so that --help stays instant
    from onedp.evaluate.results import EvaluationResult
    from onedp.evaluate.timing import Timing


@dataclass(frozen=True)
class Evaluate:
    """Score, success and latency of one policy, with intervals."""

    policy: tyro.conf.Positional[str]
    """Folder of a policy or of onedp export, or the name of a shipped policy."""
    task: str | None = None
    """Default: the task it was trained on."""
    sampler: str | None = None
    """ddpm:100, ddim:10, heun:18, euler:10, consistency:3, one-step; a last number is a factor on the noise
    (ddim:10:0.75). Default: the one stored with the policy."""
    episodes: int = 100
    """Starts."""
    first_seed: int = 100_000
    """Seed of the first start; 100000 and up are the test starts, tune on 200000 and up."""
    workers: int | None = None
    """Worker processes, at most one for every 25 episodes, which is what they run at a time; default: one per core.
    The scores do not depend on it."""
    ray: str | None = None
    """Run the episodes on a Ray cluster, of which this machine must be a node (ray start --address=HOST:PORT): auto or
    HOST:PORT; --workers is then their most on it. The scores do not depend on it. Needs pip install 'onedp[ray]' here
    and onedp on all nodes."""
    device: str = "cpu"
    """Device of the network: cpu, cuda, cuda:1, mps."""
    latency: str = "0"
    """Time charged from an observation until its chunk can be used, while the simulation runs on: seconds (0.669),
    measured (on this machine, a draw for each chunk), paper (its V100: DDPM-100 0.669, DDIM-10 0.075, one step 0.016,
    other numbers of passes 0.009 and 0.0066 each), or a file of recorded latencies."""
    executor: str = "sync"
    """What the robot does meanwhile: sync (executes a part of the chunk, then holds still and thinks), drop-late (goes
    on with the old chunk and drops the late actions of the new one), ensemble (executes the mean of all chunks), rtc
    (real-time chunking: new chunks go on from the old one). Only --latency measured charges rtc for the backward passes
    of its guidance, or for the four candidates of a one-step policy."""
    replan: int | None = None
    """Policy steps from one observation that a chunk is made of to the next (sync: executed of a chunk); default: the
    policy's own."""
    noise: str = "fresh"
    """Noise of a chunk, for policies that read noise: fresh, held (the same for all chunks of an episode), warm
    (one-step policies: the rest of the chunk before, noised)."""
    json: Path | None = None
    """File for the full result (see docs/results.schema.json)."""

    def run(self) -> None:
        """Evaluate, print and write."""
        from rich.console import Console

        from onedp.cli.console import tell_of_idle_workers
        from onedp.evaluate.comparison import save_results
        from onedp.evaluate.runner import EvaluationRequest, evaluate
        from onedp.files import require_writable

        if self.json is not None:
            require_writable(self.json)
        request = EvaluationRequest(
            policy=self.policy,
            sampler=self.sampler,
            task=self.task,
            episodes=self.episodes,
            first_seed=self.first_seed,
            workers=self.workers,
            ray=self.ray,
            device=self.device,
            latency=self.latency,
            executor=self.executor,
            replan_steps=self.replan,
            noise=self.noise,
        )
        tell_of_idle_workers(self.episodes, self.workers)
        result = evaluate(request)
        Console().print("\n".join(lines_of(result)), highlight=False)
        if self.json is not None:
            save_results(self.json, result)


def lines_of(result: EvaluationResult) -> list[str]:
    """What is printed of a result, with rich's markup."""
    from onedp.tasks.ways import describe_ways

    low, high = result.score_ci95
    success_low, success_high = result.success_ci95
    lines = [
        f"[bold]{result.policy}[/bold] {result.sampler} on {result.task}, {result.episodes} starts from seed "
        f"{result.first_seed}",
        f"  score    {result.score_mean:.3f}  [{low:.3f}, {high:.3f}]  (best reward of an episode, averaged)",
        f"  success  {result.success_rate:.3f}  [{success_low:.3f}, {success_high:.3f}]",
        f"  network passes per chunk  {result.nfe}",
        f"  latency  p50 {result.latency_ms_p50:.2f} ms, p95 {result.latency_ms_p95:.2f} ms "
        f"({result.chunks_per_s:.0f} chunks/s, batch 1, one thread)",
        f"  {result.environment_steps_per_s:.0f} environment steps/s, {result.wall_clock_s:.0f} s in all",
    ]
    if result.ways:
        lines.append(f"  ways     {describe_ways(result.ways)}")
    timing = result.timing
    if timing is not None and timing.label:
        lines += _timing_lines(timing)
    return lines


def _timing_lines(timing: Timing) -> list[str]:
    done = "-" if timing.completion_s is None else f"{timing.completion_s:.1f} s"
    jump = "-" if timing.jump is None else f"{timing.jump:.3g}"
    tick = f"{1000 / timing.control_hz:g} ms"
    came = f"a chunk comes after {timing.delay_ticks:.1f} ticks of {tick}"
    if timing.chunks == 0:
        came = f"no chunk came before the episodes were over (ticks of {tick})"
    return [
        f"  charged  {timing.label}: {came}; time to success {done}",
        f"  actions  {timing.executed} executed, {timing.dropped} dropped late, {timing.repeated} repeated, "
        f"{timing.starved} starved, {timing.deadline_misses} deadlines missed; jump between chunks {jump}",
    ]
