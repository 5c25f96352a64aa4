"""``onedp compare``: several policies on the same starts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from onedp.data.config import ReadingConfig
from onedp.errors import OneDPError


@dataclass(frozen=True)
class Compare:
    """Evaluate policies on the same starts and write table, JSON and an HTML report with videos.

    With --data there need not be an environment: the policies are judged on held-out observations of a data set.
    """

    policies: tyro.conf.Positional[tuple[str, ...]] = ()
    """POLICY or POLICY@SAMPLER (pusht-keypoints-ddpm@ddim:10), folder or shipped name; a folder of onedp export; or a
    RESULT.json of evaluate."""
    out: Path = Path("comparison")
    """Folder for comparison.json, table.md and report.html."""
    task: str | None = None
    """Default: the task the policies were trained on."""
    reference: str | None = None
    """Which of the policies the others are compared with, written as above; default: the first."""
    episodes: int | None = None
    """Starts; default: 100."""
    first_seed: int | None = None
    """Seed of the first start; default: 100000."""
    workers: int | None = None
    """Worker processes, at most one for every 25 episodes, which is what they run at a time; default: one per core.
    The scores do not depend on it."""
    ray: str | None = None
    """Run the episodes on a Ray cluster, of which this machine must be a node (ray start --address=HOST:PORT): auto or
    HOST:PORT; --workers is then their most on it. The scores do not depend on it. Needs pip install 'onedp[ray]' here
    and onedp on all nodes."""
    device: str = "cpu"
    """Device of the networks."""
    data: Path | None = None
    """Judge on observations of this data set (zarr or npz; demonstrated actions are used if they are there) instead
    of running episodes."""
    observations: int | None = None
    """With --data: observations, drawn from the episodes that training holds out; default: 256."""
    draws: int | None = None
    """With --data: chunks for each observation, each from noise of its own; default: 16."""

    reading: Annotated[ReadingConfig, tyro.conf.arg(name="")] = field(default_factory=ReadingConfig)

    def run(self) -> None:
        """Evaluate, print and write."""
        if len(self.policies) < 2:
            raise OneDPError(
                "compare needs at least two policies, for example: onedp compare pusht-keypoints-ddpm@ddim:10 "
                "pusht-keypoints-onedp-s --episodes 100 --out comparison"
            )
        reference = self.reference or self.policies[0]
        if reference not in self.policies:
            raise OneDPError(f"The reference '{reference}' is not among the policies {', '.join(self.policies)}.")
        self._refuse_what_does_not_apply()
        if self.data is not None:
            self._run_heldout(self.data, self.policies.index(reference))
            return
        from onedp.cli.console import make_console, tell_of_idle_workers
        from onedp.evaluate.compare import ComparisonRequest, Contestant, compare, write_comparison
        from onedp.evaluate.tables import terminal_table
        from onedp.files import require_writable

        require_writable(self.out / "comparison.json")
        request = ComparisonRequest(
            contestants=tuple(Contestant.parse(text) for text in self.policies),
            reference=self.policies.index(reference),
            task=self.task,
            episodes=100 if self.episodes is None else self.episodes,
            first_seed=100_000 if self.first_seed is None else self.first_seed,
            workers=self.workers,
            ray=self.ray,
            device=self.device,
        )
        if not all(contestant.is_result for contestant in request.contestants):
            tell_of_idle_workers(request.episodes, request.workers)
        comparison = compare(request)
        subject = next(r.label for r in reversed(comparison.results) if r.label != comparison.reference)
        write_comparison(self.out, comparison, request, subject)
        make_console().print(terminal_table(comparison))
        print(f"Report: {self.out / 'report.html'}")

    def _refuse_what_does_not_apply(self) -> None:
        """An option that would be ignored is a misunderstanding."""
        of_episodes, of_data = ("episodes", "first_seed", "workers", "ray"), ("observations", "draws")
        given = [
            "--" + name.replace("_", "-")
            for name in (of_data if self.data is None else of_episodes)
            if getattr(self, name) is not None
        ]
        if self.data is None:
            unread = ReadingConfig()
            given += [
                f"--{each.name.replace('_', '-')}"
                for each in fields(ReadingConfig)
                if getattr(self.reading, each.name) != getattr(unread, each.name)
            ]
        if given and self.data is None:
            verb = "belongs" if len(given) == 1 else "belong"
            raise OneDPError(f"{' and '.join(given)} {verb} to --data, which is not given. Leave out one or give both.")
        if given:
            raise OneDPError(
                f"With --data no episodes are run, so {' and '.join(given)} would change nothing. Leave it out, or "
                "leave out --data."
            )

    def _run_heldout(self, data: Path, reference: int) -> None:
        """Judge on held-out observations, print and write."""
        from onedp.cli.console import make_console
        from onedp.evaluate.compare import Contestant, label_of, require_distinct
        from onedp.evaluate.heldout import compare_heldout
        from onedp.evaluate.opening import open_policy
        from onedp.files import require_writable, write_json
        from onedp.report.heldout import terminal_table, write_heldout_report
        from onedp.tasks.recorded import reading_task

        require_writable(self.out / "heldout.json")
        contestants = [Contestant.parse(text) for text in self.policies]
        if any(contestant.is_result for contestant in contestants):
            raise OneDPError("With --data every policy must be a folder or a shipped name, not the JSON of a result.")
        policies = [open_policy(each.policy, each.sampler, self.device) for each in contestants]
        require_distinct([label_of(policy) for policy in policies])
        judge = policies[reference]
        task = reading_task(self.task or judge.task, judge.spec, judge.provenance)
        count = 256 if self.observations is None else self.observations
        draws = 16 if self.draws is None else self.draws
        comparison = compare_heldout(policies, reference, data, task, count, draws, 0, self.reading)
        write_json(self.out / "heldout.json", comparison.to_json())
        write_heldout_report(self.out / "report.html", comparison)
        make_console().print(terminal_table(comparison))
        print(f"Report: {self.out / 'report.html'}")
