"""Which of Ray's errors mean that a worker was lost: its group is run again, everything else is raised. No cluster."""

from __future__ import annotations

import importlib.metadata
from collections import deque
from types import SimpleNamespace

import pytest

from onedp.errors import OneDPError
from onedp.evaluate import ray_groups
from onedp.evaluate.groups import WorkerSetup
from onedp.evaluate.ray_groups import RayCluster
from onedp.evaluate.rollout import FROZEN, groups_of

GROUPS = groups_of(0, 75)
SETUP = WorkerSetup("counter", None, "cpu", "counter", FROZEN)


class RayError(Exception):
    """As in Ray, all below are siblings but for this."""


class RayActorError(RayError):
    pass


class ObjectLostError(RayError):
    pass


class OutOfMemoryError(RayError):
    pass


class OutOfDiskError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        self.cause = cause


LOSSES = [RayActorError, ObjectLostError, OutOfMemoryError]


class FakeRay:
    """Calls run when their answers are asked for; ``start`` and ``run`` are what goes wrong, call by call."""

    exceptions = SimpleNamespace(
        RayActorError=RayActorError,
        ObjectLostError=ObjectLostError,
        OutOfMemoryError=OutOfMemoryError,
        RayTaskError=RayTaskError,
    )

    def __init__(self, start=(), run=()):
        self.troubles = {"version": deque(start), "run": deque(run)}
        self.hired = 0

    def remote(self, **needs):
        return lambda worker: SimpleNamespace(remote=self._hire)

    def _hire(self, setup, shipment):
        self.hired += 1
        return SimpleNamespace(
            version=self._method("version", lambda: importlib.metadata.version("onedp")),
            run=self._method("run", lambda seeds: list(seeds)),
        )

    def _method(self, name, answer):
        def call(*arguments):
            if self.troubles[name]:
                raise self.troubles[name].popleft()
            return answer(*arguments)

        return SimpleNamespace(remote=lambda *arguments: lambda: call(*arguments))

    def wait(self, references, num_returns, timeout):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        return reference()

    def put(self, value):
        return value

    def kill(self, actor):
        pass

    def get_runtime_context(self):
        return SimpleNamespace(get_job_id=lambda: "job")


@pytest.fixture(autouse=True)
def _nothing_to_pack(monkeypatch):
    monkeypatch.setattr(ray_groups, "Shipment", SimpleNamespace(pack=lambda policy: SimpleNamespace(digest="")))


def answers(ray, workers=2):
    return sorted(RayCluster(ray, workers).run(SETUP, GROUPS))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_group_of_a_lost_worker_is_run_again_by_another(loss):
    ray = FakeRay(run=[loss("killed")])
    assert answers(ray) == GROUPS
    assert ray.hired == 3


@pytest.mark.parametrize("loss", LOSSES)
def test_a_worker_that_is_lost_before_it_starts_is_replaced(loss):
    ray = FakeRay(start=[loss("killed")])
    assert answers(ray) == GROUPS
    assert ray.hired == 3


def test_episodes_that_have_no_room_anywhere_are_given_up():
    ray = FakeRay(run=[OutOfMemoryError("killed")] * 3)
    with pytest.raises(OneDPError, match=r"3 workers in a row were lost; .* 0 to 24 are missing.*too little memory"):
        answers(ray, workers=1)


def test_every_other_error_arrives():
    with pytest.raises(OutOfDiskError):
        answers(FakeRay(run=[OutOfDiskError("full")]))
    with pytest.raises(OneDPError, match="mend it"):
        answers(FakeRay(run=[RayTaskError(OneDPError("mend it"))]))
    with pytest.raises(RayTaskError):
        answers(FakeRay(run=[RayTaskError(KeyError("x"))]))
