"""Roll-outs on a real Ray cluster on this machine: two nodes of one core each."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from onedp.errors import OneDPError
from onedp.evaluate import ray_groups
from onedp.evaluate.counter_world_test import FATAL_SEED, KILLS, MOST_KILLS, TASK, save_counter_policy
from onedp.evaluate.groups import WorkerSetup
from onedp.evaluate.ray_groups import RayCluster
from onedp.evaluate.rollout import FROZEN, groups_of
from onedp.evaluate.runner import EvaluationRequest, evaluate
from onedp.evaluate.shipment import Shipment

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'onedp[ray]'")
pytestmark = pytest.mark.slow
EPISODES, FIRST_SEED = 100, FATAL_SEED - 30


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def address(deaths):
    """Of a cluster whose workers inherit when to die: the first one that meets the fatal start."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(KILLS, str(deaths))
        patch.setenv(MOST_KILLS, "1")
        options = {"num_gpus": 0, "object_store_memory": 80_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **options})
        cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=80_000_000)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_counter_policy(tmp_path_factory.mktemp("policy") / "counter")


def test_a_cluster_gives_the_same_numbers_and_reruns_a_lost_worker(policy, address, deaths, tmp_path, monkeypatch):
    """The policy's folder is gone before the first worker starts, as on a machine without this disk."""
    request = EvaluationRequest(str(policy), None, None, EPISODES, FIRST_SEED, workers=1)
    here = evaluate(request)
    copy = tmp_path / "counter"
    shutil.copytree(policy, copy)

    class Vanishing(Shipment):
        @classmethod
        def pack(cls, folder):
            shipment = Shipment.pack(folder)
            shutil.rmtree(folder)
            return shipment

    monkeypatch.setattr(ray_groups, "Shipment", Vanishing)
    there = evaluate(replace(request, policy=str(copy), ray=address, workers=2))
    assert len(list(deaths.iterdir())) == 1
    assert there.per_episode == here.per_episode
    assert there.timing == here.timing
    assert there.weights_digest == here.weights_digest
    assert not copy.exists()


def test_errors_of_a_worker_arrive_as_they_are(policy, address):
    setup = WorkerSetup(str(policy), None, "cpu", "nowhere", FROZEN)
    with pytest.raises(OneDPError, match=r"^Unknown task 'nowhere'"):
        list(RayCluster.connect(address, 1).run(setup, groups_of(0, 50)))


def test_episodes_that_kill_every_actor_are_given_up(policy, address, deaths, monkeypatch):
    for death in deaths.iterdir():
        death.unlink()
    monkeypatch.setattr(ray_groups, "MOST_LOSSES", 1)  # the cluster's workers die once
    setup = WorkerSetup(str(policy), None, "cpu", TASK.name, FROZEN)
    with pytest.raises(OneDPError, match="workers in a row were lost; episodes among the seeds 225 to 249 are missing"):
        list(RayCluster.connect(address, 2).run(setup, groups_of(FIRST_SEED, EPISODES)))


def test_another_version_on_the_cluster_is_refused(policy, address, monkeypatch):
    monkeypatch.setattr(ray_groups.importlib.metadata, "version", lambda name: "9.9.9")
    setup = WorkerSetup(str(policy), None, "cpu", TASK.name, FROZEN)
    with pytest.raises(OneDPError, match=r"The cluster has onedp .*, this machine 9\.9\.9; .*Install onedp==9\.9\.9"):
        list(RayCluster.connect(address, 1).run(setup, groups_of(0, 50)))
