"""Executors of groups: lost workers, errors of workers, and policies on their way."""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from onedp.artifact import shipped_artifacts
from onedp.errors import ArtifactError, OneDPError
from onedp.evaluate.counter_world_test import FATAL_SEED, KILLS, MOST_KILLS, TASK, save_counter_policy
from onedp.evaluate.groups import InProcess, Processes, WorkerSetup
from onedp.evaluate.ray_groups import RayCluster
from onedp.evaluate.rollout import FROZEN, groups_of
from onedp.evaluate.runner import EvaluationRequest
from onedp.evaluate.shipment import Shipment
from onedp.policy import load_policy

GROUPS = groups_of(FATAL_SEED - 30, 75)  # three groups; the fatal start is in the second


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = save_counter_policy(tmp_path_factory.mktemp("policy") / "counter")
    return WorkerSetup(str(folder), None, "cpu", TASK.name, FROZEN)


def results_of(executor, setup):
    rollouts = [rollout for group in executor.run(setup, GROUPS) for rollout in group]
    return sorted((rollout.result for rollout in rollouts), key=lambda result: result.seed)


@pytest.fixture(scope="module")
def expected(setup):
    return results_of(InProcess(load_policy(setup.policy), TASK), setup)


@pytest.mark.slow
def test_episodes_of_a_killed_process_are_run_again(setup, expected, tmp_path, monkeypatch):
    monkeypatch.setenv(KILLS, str(tmp_path))
    monkeypatch.setenv(MOST_KILLS, "1")
    assert results_of(Processes(2), setup) == expected
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_episodes_that_kill_every_process_are_given_up(setup, tmp_path, monkeypatch):
    monkeypatch.setenv(KILLS, str(tmp_path))
    monkeypatch.setenv(MOST_KILLS, "99")
    with pytest.raises(OneDPError, match=r"3 workers in a row were lost; .* 225 to 274 are missing.*too little memory"):
        results_of(Processes(1), setup)


def test_the_error_of_a_worker_arrives(setup):
    with pytest.raises(OneDPError, match="Unknown task 'nowhere'"):
        results_of(Processes(2), replace(setup, task="nowhere"))


# --- shipments


def test_a_policy_arrives_without_its_folder_and_leaves_nothing(setup, tmp_path):
    copy = tmp_path / "counter"
    shutil.copytree(setup.policy, copy)
    shipment = Shipment.pack(str(copy))
    shutil.rmtree(copy)
    with shipment.unpacked() as folder:
        assert folder != str(copy)
        arrived = load_policy(folder)
        assert sorted(path.name for path in copy.parent.iterdir()) == []
    assert arrived.provenance["weights_digest"] == load_policy(setup.policy).provenance["weights_digest"]
    with pytest.raises(ArtifactError, match="Unknown policy"):
        load_policy(folder)
    assert Shipment.pack(setup.policy).digest == shipment.digest


def test_a_shipped_policy_goes_by_name_and_must_be_the_same_there(monkeypatch):
    name, folder = next(iter(shipped_artifacts().items()))
    shipment = Shipment.pack(str(folder))
    assert shipment.files == ()
    with shipment.unpacked() as where:
        assert where == name
    with pytest.raises(ArtifactError, match=f"The policy {name} differs between a worker's machine and this one"):
        replace(shipment, digest="of another version").unpacked().__enter__()


def test_a_damaged_shipment_is_refused(setup):
    shipment = Shipment.pack(setup.policy)
    (path, content), *others = shipment.files
    damaged = replace(shipment, files=((path, content[:-1]), *others))
    with pytest.raises(ArtifactError, match="The policy counter differs between"):
        damaged.unpacked().__enter__()


# --- what the user is told


def test_without_ray_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OneDPError, match=r"--ray needs Ray, which is not installed: pip install 'onedp\[ray\]'"):
        RayCluster.connect("auto", None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"No Ray cluster answers at '127\.0\.0\.1:1' .*refused.*'ray start --head' begins a cluster"),
        ("ray://127.0.0.1:1", r"is not supported\. Make this machine a node .*'ray start --address=H.*--ray auto"),
        ("local", "The Ray address 'local' is none of: auto, HOST:PORT"),
        ("host:", "The Ray address 'host:' is none of"),
    ],
)
def test_addresses_where_no_cluster_is(monkeypatch, address, message):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())  # not asked: the address is looked at first
    with pytest.raises(OneDPError, match=message):
        RayCluster.connect(address, None)


@pytest.mark.parametrize("address", ["auto", "listening"])
def test_what_ray_says_of_a_failed_connection_is_shown(monkeypatch, address):
    """Something listens at the second address, as it does for a machine that is no node of the cluster."""

    def init(**_):
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = "HOST:PORT"
        if address == "listening":
            head = address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OneDPError) as caught:
            RayCluster.connect(address, None)
    message = str(caught.value)
    assert f"No Ray cluster answers at '{address}' (ConnectionError: Could not find any" in message
    assert f"This machine must be a node of the cluster: 'ray start --address={head}' on it makes it one." in message


def test_workers_must_be_positive():
    with pytest.raises(OneDPError, match="workers must be at least 1, it is 0"):
        EvaluationRequest("p", None, None, episodes=2, first_seed=0, workers=0)
