"""Groups of episodes on a Ray cluster: one actor a worker, each with one core, one policy and its environments.

Nothing is shared with the workers' machines but the installed package: the policy's files go through Ray's object
store, once for each digest and node. Ray itself moves pickled objects between members of a cluster, so whoever can
reach one can run programs on it: a cluster belongs in a network of one's own.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from onedp.errors import OneDPError
from onedp.evaluate.groups import MOST_LOSSES, GroupWorker, Seeds, WorkerSetup, lost_too_often
from onedp.evaluate.rollout import Rollout
from onedp.evaluate.shipment import Shipment

CONNECT_SECONDS = 5.0
"""How long an address may take to answer at all."""
START_SECONDS = 600.0
"""How long to wait while no worker is to be had: a cluster may have to start machines first."""


_in_store: dict[tuple[str, str], Any] = {}
"""Connection and digest to the reference of a shipment that is in the object store."""


class _Worker:
    """An actor: opens the policy with the first group, so that what is wrong with it arrives as that group's error."""

    def __init__(self, setup: WorkerSetup, shipment: Shipment):
        self._setup, self._shipment = setup, shipment
        self._worker: GroupWorker | None = None

    def version(self) -> str:
        """Of the package where this actor runs."""
        return importlib.metadata.version("onedp")

    def run(self, seeds: Seeds) -> list[Rollout]:
        if self._worker is None:
            with self._shipment.unpacked() as policy:
                self._worker = GroupWorker.open(dataclasses.replace(self._setup, policy=policy))
        return self._worker.run(seeds)


class RayCluster:
    """A ``GroupExecutor`` on a cluster that runs already."""

    def __init__(self, ray: Any, workers: int | None):
        self._ray = ray
        self._workers = workers

    @classmethod
    def connect(cls, address: str, workers: int | None) -> RayCluster:
        """``address``: ``auto`` (the cluster that this machine is a node of) or ``HOST:PORT``.

        This machine must be a node of it. ``workers``: actors at the most; None: one for each core of the cluster.
        Raises ``OneDPError``.
        """
        try:
            import ray
        except ImportError as error:
            raise OneDPError("--ray needs Ray, which is not installed: pip install 'onedp[ray]'") from error
        _require_answer(address)
        if not ray.is_initialized():  # one connection for all policies of a comparison
            try:
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
            except Exception as error:  # whatever the many layers below raise
                raise OneDPError(_unreachable(address, f"{type(error).__name__}: {error}")) from error
        return cls(ray, workers)

    def run(self, setup: WorkerSetup, groups: Sequence[Seeds]) -> Iterator[list[Rollout]]:
        """Roll-outs as they are finished; a lost actor is replaced, and its group goes to the next one that is free."""
        shipment = Shipment.pack(setup.policy)
        key = (self._ray.get_runtime_context().get_job_id(), shipment.digest)
        if key not in _in_store:
            _in_store[key] = self._ray.put(shipment)
        team = _Team(self._ray, setup, _in_store[key])
        wanted = min(self._workers or max(1, int(self._ray.cluster_resources().get("CPU", 1))), len(groups))
        try:
            for _ in range(wanted):
                team.hire()
            yield from _dispatch(team, groups)
        finally:
            team.dismiss()


class _Team:
    """Actors and what each of them is doing: getting ready (None) or running a group."""

    def __init__(self, ray: Any, setup: WorkerSetup, shipment: Any):
        device_needs = {"num_gpus": 1} if setup.device.startswith("cuda") else {}
        self._make = ray.remote(num_cpus=1, max_restarts=0, **device_needs)(_Worker)
        self._ray, self._setup, self._shipment = ray, setup, shipment
        self._actors: dict[Any, tuple[Any, Seeds | None]] = {}
        self._resting: list[Any] = []

    @property
    def running(self) -> bool:
        """Whether any group is running."""
        return any(seeds is not None for _, seeds in self._actors.values())

    def replace(self) -> None:
        """Get somebody in the place of a lost actor: one that rests, or a new one."""
        if self._resting:
            actor = self._resting.pop()
            self._actors[actor.version.remote()] = (actor, None)
        else:
            self.hire()

    def rest(self, actor: Any) -> None:
        """Nothing to do for it, unless another is lost."""
        self._resting.append(actor)

    def hire(self) -> None:
        """One more actor, which is ready when it has answered."""
        actor = self._make.remote(self._setup, self._shipment)
        self._actors[actor.version.remote()] = (actor, None)

    def assign(self, actor: Any, seeds: Seeds) -> None:
        """Let it run a group."""
        self._actors[actor.run.remote(seeds)] = (actor, seeds)

    def next_report(self, seconds: float) -> tuple[Any, Any, Seeds | None] | None:
        """Reference to an answer, its actor and what that was doing; None when nobody answers in time."""
        done, _ = self._ray.wait(list(self._actors), num_returns=1, timeout=seconds)
        return (done[0], *self._actors.pop(done[0])) if done else None

    def answer(self, reference: Any) -> Any:
        """What the actor said; None when it was lost. Raises what it raised."""
        known = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (known.RayActorError, known.ObjectLostError, known.OutOfMemoryError):
            return None  # Ray has an error of its own for an actor that it killed because its node ran out of memory
        except known.RayTaskError as error:
            if isinstance(error.cause, OneDPError):  # without Ray's traceback of the other machine
                raise error.cause from None
            raise

    def dismiss(self) -> None:
        """Stop all, whatever they are doing."""
        for actor in [*(actor for actor, _ in self._actors.values()), *self._resting]:
            self._ray.kill(actor)


def _dispatch(team: _Team, groups: Sequence[Seeds]) -> Iterator[list[Rollout]]:
    waiting, unfinished = deque(groups), len(groups)
    lost: Counter[int] = Counter()
    patience = time.monotonic() + START_SECONDS
    while unfinished:
        report = team.next_report(seconds=1.0)
        if report is None:
            if team.running:
                patience = time.monotonic() + START_SECONDS
            elif time.monotonic() > patience:
                raise OneDPError(
                    f"The Ray cluster gave no core for {START_SECONDS:.0f} s. See what it is busy with: ray status"
                )
            continue
        reference, actor, seeds = report
        answer = team.answer(reference)
        if answer is None:
            first = seeds[0] if seeds is not None else -1  # -1: lost before it had anything to do
            lost[first] += 1
            if seeds is not None:
                if lost[first] == MOST_LOSSES:
                    raise lost_too_often([seeds])
                waiting.appendleft(seeds)
            elif lost[first] == 10 * MOST_LOSSES:
                raise OneDPError(f"{lost[first]} workers were lost before they could start. See: ray list actors")
            team.replace()
            continue
        if seeds is None:
            _require_same_version(answer)
        else:
            unfinished -= 1
            yield answer
        if waiting:
            team.assign(actor, waiting.popleft())
        else:
            team.rest(actor)


def _require_same_version(theirs: str) -> None:
    mine = importlib.metadata.version("onedp")
    if theirs != mine:
        raise OneDPError(
            f"The cluster has onedp {theirs}, this machine {mine}; other code may give other numbers. Install "
            f"onedp=={mine} on all nodes."
        )


def _require_answer(address: str) -> None:
    """Raise ``OneDPError`` at once where nobody listens; Ray itself would try for a minute."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise OneDPError(
            f"The Ray address '{address}' is one of Ray's client, which is not supported. Make this machine a node of "
            "the cluster with 'ray start --address=HOST:PORT' (the port of the head node, 6379 unless told otherwise), "
            "then use --ray auto."
        )
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdigit():
        raise OneDPError(f"The Ray address '{address}' is none of: auto, HOST:PORT.")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise OneDPError(_unreachable(address, str(error))) from error


def _unreachable(address: str, reason: str) -> str:
    head = "HOST:PORT" if address == "auto" else address
    return (
        f"No Ray cluster answers at '{address}' ({reason}). This machine must be a node of the cluster: 'ray start "
        f"--address={head}' on it makes it one. 'ray start --head' begins a cluster and prints its address; without "
        "--ray the cores of this machine are used."
    )
