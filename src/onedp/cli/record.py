"""``onedp record``: what a policy does in its task, as observations for another distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from onedp.errors import OneDPError


@dataclass(frozen=True)
class Record:
    """Record roll-outs of a policy in its simulated task, in robomimic's HDF5 layout: all, or those that it lost.

    The observations are for onedp distill --beside, which teaches a student what its teacher would have done there.
    """

    policy: tyro.conf.Positional[str]
    """Folder of a policy or of onedp export, or the name of a shipped policy."""
    task: str | None = None
    """Default: the task it was trained on."""
    sampler: str | None = None
    """ddpm:100, ddim:10, one-step, ...; default: the one stored with the policy."""
    episodes: int = 200
    """Episodes to run."""
    first_seed: int = 0
    """Seed of the first start, below the test starts (100000 and up)."""
    lost_below: float | None = None
    """Keep only episodes whose score (best reward) stays below this."""
    failed: bool = False
    """Keep only episodes that did not succeed."""
    workers: int | None = None
    """Worker processes, at most one for every 25 episodes, which is what they run at a time; default: one per core.
    The file does not depend on it."""
    device: str = "cpu"
    """Device of the network: cpu, cuda, cuda:1, mps."""
    out: Path | None = None
    """File to write, e.g. lost.hdf5."""

    def run(self) -> None:
        """Roll out, write and say what came of it."""
        if self.out is None:
            raise OneDPError(f"record needs --out, for example: onedp record {self.policy} --failed --out lost.hdf5")
        from tqdm import tqdm

        from onedp.cli.console import tell_of_idle_workers
        from onedp.evaluate.record import RecordRequest, record
        from onedp.evaluate.recorder import Keep
        from onedp.shipped import OBSERVATIONS

        request = RecordRequest(
            self.policy,
            self.out,
            self.episodes,
            first_seed=self.first_seed,
            sampler=self.sampler,
            task=self.task,
            keep=Keep(self.failed, self.lost_below),
            workers=self.workers,
            device=self.device,
        )
        tell_of_idle_workers(self.episodes, self.workers)
        with tqdm(total=self.episodes, unit="episode", disable=None) as bar:

            def progress(done: int, kept: int) -> None:
                bar.set_postfix_str(f"{kept} kept")
                bar.update(done - bar.n)

            summary = record(request, progress)
        data = "" if summary.task in OBSERVATIONS else "--data DEMONSTRATIONS "
        print(
            f"{summary.kept:,} of {summary.episodes:,} episodes kept ({request.keep}), {summary.steps:,} steps, in "
            f"{self.out}\nNext: onedp distill TEACHER {data}--beside {self.out} --out runs/student"
        )
