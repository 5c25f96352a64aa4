"""Where groups of episodes run: in this process, in worker processes here, or on a cluster (``ray_groups``).

An executor takes what a worker must know and the groups of seeds, and gives the roll-outs of each group in whatever
order they are finished. A group whose worker is lost is run again from its seeds, which gives the same numbers.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from onedp.errors import OneDPError
from onedp.evaluate.opening import EvaluatedExport, open_policy
from onedp.evaluate.recorder import Keep, record_group
from onedp.evaluate.rollout import GROUP_SIZE, Rollout, run_group
from onedp.machine import usable_cores
from onedp.policy import TorchPolicy
from onedp.runtime.execution import Execution
from onedp.tasks import Task, get_task
from onedp.threads import one_thread

Seeds = Sequence[int]

MOST_LOSSES = 3
"""Workers that the same episodes may lose before they are given up: then it is no accident."""


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker must know to run any group."""

    policy: str
    """Folder of the policy or export, or the name of a shipped policy."""
    sampler: str | None
    device: str
    task: str
    execution: Execution
    keep: Keep | None = None
    """Which episodes to keep whole, beside their results; None: none."""


class GroupWorker:
    """A policy, a task and its environments, for one group after the other."""

    def __init__(
        self, policy: TorchPolicy | EvaluatedExport, task: Task, execution: Execution, keep: Keep | None = None
    ):
        self._policy, self._task, self._execution, self._keep = policy, task, execution, keep
        self._envs = [task.make_env() for _ in range(GROUP_SIZE)]

    @classmethod
    def open(cls, setup: WorkerSetup) -> GroupWorker:
        """Raises ``OneDPError`` when policy or task cannot be opened here."""
        policy = open_policy(setup.policy, setup.sampler, setup.device)
        return cls(policy, get_task(setup.task), setup.execution, setup.keep)

    def run(self, seeds: Seeds) -> list[Rollout]:
        """The episodes of one group, with one thread."""
        with one_thread():
            if self._keep is not None:
                return record_group(self._policy, self._task, self._envs, seeds, self._keep, self._execution)
            return run_group(self._policy, self._task, self._envs, seeds, execution=self._execution)


@runtime_checkable
class GroupExecutor(Protocol):
    """Runs groups of episodes somewhere."""

    def run(self, setup: WorkerSetup, groups: Sequence[Seeds]) -> Iterator[list[Rollout]]:
        """Roll-outs of every group, in any order; raises ``OneDPError`` when a group keeps losing its workers."""
        ...


@dataclass(frozen=True)
class InProcess:
    """One group after the other, in this process, with the policy that is open already."""

    policy: TorchPolicy | EvaluatedExport
    task: Task

    def run(self, setup: WorkerSetup, groups: Sequence[Seeds]) -> Iterator[list[Rollout]]:
        """Roll-outs in the order of the groups."""
        worker = GroupWorker(self.policy, self.task, setup.execution, setup.keep)
        for seeds in groups:
            yield worker.run(seeds)


@dataclass(frozen=True)
class Processes:
    """Worker processes on this machine."""

    workers: int

    def run(self, setup: WorkerSetup, groups: Sequence[Seeds]) -> Iterator[list[Rollout]]:
        """Roll-outs as they are finished. A process that dies takes the pool along, so a new one takes the rest."""
        waiting = list(groups)
        losses = 0
        while waiting:
            done: list[Seeds] = []
            context = multiprocessing.get_context("spawn")
            workers = min(self.workers, len(waiting))
            with ProcessPoolExecutor(workers, context, initializer=_set_up, initargs=(setup,)) as pool:
                try:
                    futures = {pool.submit(_work, seeds): seeds for seeds in waiting}
                    for future in as_completed(futures):
                        rollouts = future.result()
                        done.append(futures[future])
                        losses = 0
                        yield rollouts
                except BrokenProcessPool as error:
                    losses += 1
                    if losses == MOST_LOSSES:
                        raise lost_too_often([seeds for seeds in waiting if seeds not in done]) from error
                finally:
                    pool.shutdown(cancel_futures=True)
            waiting = [seeds for seeds in waiting if seeds not in done]


_setup: list[WorkerSetup] = []
_worker: list[GroupWorker] = []


def _set_up(setup: WorkerSetup) -> None:
    """Only remembers: an error in here would break the pool, and the first group opens the policy all the same."""
    _setup.append(setup)


def _work(seeds: Seeds) -> list[Rollout]:
    if not _worker:
        _worker.append(GroupWorker.open(_setup[0]))
    return _worker[0].run(seeds)


def lost_too_often(groups: Sequence[Seeds]) -> OneDPError:
    """For episodes that killed every worker that ran them."""
    seeds = sorted(seed for group in groups for seed in group)
    return OneDPError(
        f"{MOST_LOSSES} workers in a row were lost; episodes among the seeds {seeds[0]} to {seeds[-1]} are missing. "
        "Something stops the workers, most often too little memory: use fewer --workers, or run --workers 1 to see it."
    )


def executor_for(
    policy: TorchPolicy | EvaluatedExport, task: Task, groups: int, workers: int | None, ray: str | None
) -> GroupExecutor:
    """This process for a single worker or group, else processes, or the cluster at the address ``ray``.

    Raises ``OneDPError`` when there is no Ray or no cluster.
    """
    if ray is not None:
        from onedp.evaluate.ray_groups import RayCluster

        return RayCluster.connect(ray, workers)
    workers = min(workers or usable_cores(), groups)
    return InProcess(policy, task) if workers == 1 else Processes(workers)


def idle_workers(episodes: int, workers: int | None) -> str:
    """A line for users who asked for more ``workers`` than there are groups of episodes; empty for all others.

    None, the default number of workers, is nobody's wish.
    """
    groups = math.ceil(episodes / GROUP_SIZE)
    if workers is None or workers <= groups:
        return ""
    make = "1 group" if groups == 1 else f"{groups} groups"
    return f"{groups} of {workers} workers can be used: episodes run in groups of {GROUP_SIZE}, {episodes} make {make}."
