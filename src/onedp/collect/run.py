"""Collect successful scripted episodes, in worker processes; what is kept does not depend on how many."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from onedp.collect import experts
from onedp.collect.episode import collect_episode
from onedp.collect.expert import Expert
from onedp.collect.workers import attempts_in_order
from onedp.data.robomimic_writer import Demonstration, require_h5py, robomimic_file
from onedp.errors import OneDPError
from onedp.files import require_writable
from onedp.machine import command_line, usable_cores
from onedp.tasks import get_task
from onedp.tasks.episode_rows import robomimic_environment
from onedp.tasks.seeds import require_training_seeds
from onedp.tasks.task import Environment
from onedp.tasks.ways import way_counts

LABEL = "scripted: made by a program that sees the simulation's state. These are not human demonstrations."


@dataclass(frozen=True)
class CollectRequest:
    """What to collect."""

    task: str
    episodes: int
    """Successful episodes to keep."""
    out: Path
    seed: int = 0
    """Seed of the first start; failed starts are skipped, so somewhat more seeds than episodes are used."""
    noise: float = 1.0
    """Factor on the recovery noise."""
    workers: int | None = None
    """Processes; None: one per core."""
    attempts_per_episode: int = 4
    """Give up when fewer than one start in so many succeeds."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise OneDPError(f"episodes must be at least 1, it is {self.episodes}.")
        if self.noise < 0:
            raise OneDPError(f"noise must not be negative, it is {self.noise}.")
        if self.workers is not None and self.workers < 1:
            raise OneDPError(f"workers must be at least 1, it is {self.workers}.")
        attempts = self.most_attempts
        require_training_seeds(self.seed, attempts, f"seed {self.seed} with up to {attempts} starts")

    @property
    def most_attempts(self) -> int:
        """Starts that are tried at the most."""
        return max(10, self.episodes * self.attempts_per_episode)


@dataclass(frozen=True)
class CollectSummary:
    """What came of it."""

    kept: int
    attempts: int
    steps: int
    failed_seeds: tuple[int, ...]
    ways: Mapping[str, int]
    """Episodes kept that went each of the task's ways; empty in tasks that have one."""

    @property
    def success_rate(self) -> float:
        """Share of the tried starts on which the expert succeeded."""
        return self.kept / self.attempts


def collect(
    request: CollectRequest, progress: Callable[[int, int], None] = lambda kept, attempts: None
) -> CollectSummary:
    """Run the task's expert until enough episodes succeeded, and write them in robomimic's layout.

    ``progress`` is called with episodes kept and starts tried. Raises ``OneDPError`` when the task has no expert, its
    simulator is missing, too few starts succeed, or the file cannot be written.
    """
    scripted = experts.get_expert(request.task)
    get_task(request.task)  # refuses wrong options here, before a worker meets them
    require_writable(request.out)
    require_h5py()
    failed: list[int] = []
    went: list[Any] = []
    with robomimic_file(request.out) as file:
        for attempt, demonstration in enumerate(_attempts(request)):
            if demonstration is None:
                failed.append(request.seed + attempt)
            else:
                file.add(demonstration)
                went.append(demonstration.attributes.get("way"))
            progress(len(file), attempt + 1)
            if len(file) == request.episodes:
                break
        else:
            raise OneDPError(
                f"Only {len(file)} of {request.most_attempts} starts succeeded, {request.episodes} were wanted. "
                "Nothing was written. Less --noise may help; otherwise collect fewer episodes."
            )
        attempts = len(file) + len(failed)
        summary = CollectSummary(len(file), attempts, file.steps, tuple(failed), way_counts(went))
        file.finish(robomimic_environment(request.task), _attributes(request, scripted, summary))
    return summary


def _attributes(request: CollectRequest, scripted: experts.Scripted, summary: CollectSummary) -> dict[str, Any]:
    facts = {
        "task": request.task,
        "rate_hz": get_task(request.task).spec.rate_hz,
        "first_seed": request.seed,
        "starts_tried": summary.attempts,
        "starts_failed_and_left_out": len(summary.failed_seeds),
        **({"ways": summary.ways} if summary.ways else {}),
        "noise_factor": request.noise,
        "noise": asdict(scripted.noise),
        "actions": "what the expert wanted; executed_actions is what was executed, with noise",
        "onedp": importlib.metadata.version("onedp"),
        "command": command_line(),
    }
    return {"demonstrations": LABEL, "scripted_expert": scripted.description, "collected": json.dumps(facts)}


def _attempts(request: CollectRequest) -> Iterator[Demonstration | None]:
    """Results of the starts in the order of their seeds."""
    seeds = range(request.seed, request.seed + request.most_attempts)
    workers = min(request.workers or usable_cores(), request.episodes)
    if workers == 1:
        worker = _Worker(request)
        yield from map(worker.attempt, seeds)
        return
    yield from attempts_in_order(partial(_attempt, request), seeds, workers)


class _Worker:
    """An environment and its expert, used for one episode after the other."""

    def __init__(self, request: CollectRequest):
        self._request = request
        self._task = get_task(request.task)
        self._scripted = experts.get_expert(request.task)
        self._env: Environment = self._task.make_env()
        self._expert: Expert = self._scripted.make(self._env)

    def attempt(self, seed: int) -> Demonstration | None:
        return collect_episode(self._task, self._scripted, self._env, self._expert, seed, self._request.noise)


_worker: list[_Worker] = []
"""That of this process, kept from one attempt to the next."""


def _attempt(request: CollectRequest, seed: int) -> Demonstration | None:
    if not _worker:
        _worker.append(_Worker(request))
    return _worker[0].attempt(seed)
