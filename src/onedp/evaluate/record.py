"""Roll-outs of a policy as a data set in robomimic's layout; what is written does not depend on the workers."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onedp.data.robomimic_writer import require_h5py, robomimic_file
from onedp.errors import OneDPError
from onedp.evaluate.groups import WorkerSetup, executor_for
from onedp.evaluate.opening import JudgedPolicy, open_policy, policy_path, task_to_run
from onedp.evaluate.recorder import Keep
from onedp.evaluate.results import EpisodeResult
from onedp.evaluate.rollout import FROZEN, Rollout, groups_of
from onedp.files import require_writable
from onedp.machine import command_line
from onedp.tasks import Task
from onedp.tasks.episode_rows import robomimic_environment
from onedp.tasks.seeds import require_training_seeds
from onedp.tasks.ways import way_counts

LABEL = "none: roll-outs of a policy, its failures among them. A teacher must not learn from these actions."


@dataclass(frozen=True)
class RecordRequest:
    """What to record."""

    policy: str
    """Folder of a policy or of an export, or name of a shipped policy."""
    out: Path
    episodes: int
    first_seed: int = 0
    sampler: str | None = None
    """None: the one stored in the artifact."""
    task: str | None = None
    """None: the one the policy was trained on."""
    keep: Keep = field(default_factory=Keep)
    workers: int | None = None
    """Processes; None: one per core."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise OneDPError(f"episodes must be at least 1, it is {self.episodes}.")
        if self.workers is not None and self.workers < 1:
            raise OneDPError(f"workers must be at least 1, it is {self.workers}.")
        what = f"first-seed {self.first_seed} with {self.episodes} episodes"
        require_training_seeds(self.first_seed, self.episodes, what)


@dataclass(frozen=True)
class RecordSummary:
    """What came of it."""

    kept: int
    episodes: int
    steps: int
    """Of the episodes kept."""
    task: str


def record(request: RecordRequest, progress: Callable[[int, int], None] = lambda done, kept: None) -> RecordSummary:
    """Roll the policy out as an evaluation would, and write the episodes that ``request.keep`` wants.

    ``progress`` is called with episodes done and kept. Raises ``OneDPError`` when the policy cannot be opened, does not
    fit its task or has none with an environment, nothing is kept, or the file cannot be written.
    """
    require_writable(request.out)
    require_h5py()
    policy = open_policy(request.policy, request.sampler, request.device)
    task = task_to_run(policy, request.task)
    groups = groups_of(request.first_seed, request.episodes)
    setup = WorkerSetup(
        policy_path(request.policy), request.sampler, request.device, request.task or policy.task, FROZEN, request.keep
    )
    run: list[EpisodeResult] = []
    with robomimic_file(request.out) as file:
        executor = executor_for(policy, task, len(groups), request.workers, None)
        with closing(_in_order(executor.run(setup, groups), groups)) as rollouts:  # workers end with it
            for rollout in rollouts:
                if rollout.demonstration is not None:
                    file.add(rollout.demonstration)
                run.append(rollout.result)
                progress(len(run), len(file))
        if not len(file):
            raise OneDPError(_nothing(request, run))
        file.finish(robomimic_environment(setup.task), _attributes(request, policy, task, run))
    return RecordSummary(len(file), len(run), file.steps, setup.task)


def _in_order(done: Iterator[list[Rollout]], groups: Sequence[Sequence[int]]) -> Generator[Rollout, None, None]:
    """Roll-outs by seed, of groups that end in any order: those that end early wait in memory."""
    waiting: dict[int, list[Rollout]] = {}
    first_seeds = iter([seeds[0] for seeds in groups])
    following = next(first_seeds, None)
    for group in done:
        waiting[group[0].result.seed] = group
        while following in waiting:
            yield from waiting.pop(following)
            following = next(first_seeds, None)


def _nothing(request: RecordRequest, run: Sequence[EpisodeResult]) -> str:
    worst = min(result.score for result in run)
    fewer = "all succeeded" if request.keep.failed else f"the lowest score is {worst:.3f}"
    return (
        f"None of the {len(run)} episodes is one {request.keep}: {fewer}. Nothing was written. Record more "
        "--episodes, others (--first-seed), or choose otherwise (--lost-below, --failed)."
    )


def _attributes(
    request: RecordRequest, policy: JudgedPolicy, task: Task, run: Sequence[EpisodeResult]
) -> dict[str, Any]:
    kept = [result for result in run if request.keep.wants(result)]
    ways = way_counts(result.way for result in kept)
    digest = str(policy.provenance["weights_digest"])
    facts = {
        "task": request.task or policy.task,
        "rate_hz": task.spec.rate_hz,
        "policy": policy.name,
        "weights_digest": digest,
        "sampler": policy.sampler.label,
        "first_seed": request.first_seed,
        "episodes_run": len(run),
        "episodes_kept": len(kept),
        "kept": str(request.keep),
        **({"ways": ways} if ways else {}),
        "actions": "what the policy did",
        "onedp": importlib.metadata.version("onedp"),
        "command": command_line(),
    }
    about = f"{policy.name} ({policy.sampler.label}), weights {digest[:16]}"
    return {"demonstrations": LABEL, "policy": about, "collected": json.dumps(facts)}
