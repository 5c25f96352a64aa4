"""``onedp evaluate``: one policy on many starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Evaluate:
    """Score, success and latency of one policy, with intervals."""

    policy: tyro.conf.Positional[str]
    """Folder of a policy or of onedp export, or the name of a shipped policy."""
    task: str | None = None
    """Default: the task it was trained on."""
    sampler: str | None = None
    """ddpm:100, ddim:10, ddim:1, heun:18, heun:10, one-step; default: the one stored with the policy."""
    episodes: int = 100
    """Starts."""
    first_seed: int = 100_000
    """Seed of the first start; 100000 and up are the test starts, tune on 200000 and up."""
    workers: int | None = None
    """Worker processes; default: one per core. The scores do not depend on it."""
    device: str = "cpu"
    """Device of the network: cpu, cuda, cuda:1, mps."""
    json: Path | None = None
    """File for the full result (see docs/results.schema.json)."""

    def run(self) -> None:
        """Evaluate, print and write."""
        from rich.console import Console

        from onedp.evaluate.results import save_results
        from onedp.evaluate.runner import EvaluationRequest, evaluate
        from onedp.files import require_writable

        if self.json is not None:
            require_writable(self.json)
        result = evaluate(
            EvaluationRequest(
                policy=self.policy,
                sampler=self.sampler,
                task=self.task,
                episodes=self.episodes,
                first_seed=self.first_seed,
                workers=self.workers,
                device=self.device,
            )
        )
        low, high = result.score_ci95
        success_low, success_high = result.success_ci95
        Console().print(
            f"[bold]{result.policy}[/bold] {result.sampler} on {result.task}, {result.episodes} starts from seed "
            f"{result.first_seed}\n"
            f"  score    {result.score_mean:.3f}  [{low:.3f}, {high:.3f}]  (best reward of an episode, averaged)\n"
            f"  success  {result.success_rate:.3f}  [{success_low:.3f}, {success_high:.3f}]\n"
            f"  network passes per chunk  {result.nfe}\n"
            f"  latency  p50 {result.latency_ms_p50:.2f} ms, p95 {result.latency_ms_p95:.2f} ms "
            f"({result.chunks_per_s:.0f} chunks/s, batch 1, one thread)\n"
            f"  {result.environment_steps_per_s:.0f} environment steps/s, {result.wall_clock_s:.0f} s in all",
            highlight=False,
        )
        if self.json is not None:
            save_results(self.json, result)
