"""Training on several processes under ``accelerate launch``: the numbers of one process with the joint batch."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from onedp.diffusion.draws import Share, keyed_generator
from onedp.diffusion.samplers import Ddim, Heun
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.methods.config import DenoisingConfig
from onedp.methods.method import Batch, Method, Setting
from onedp.methods.presets import fitted
from onedp.methods.student_config import ProgressiveConfig
from onedp.methods.table import METHODS, build_method, recipe
from onedp.nets.build import build_denoiser
from onedp.nets.config import ActConfig, MlpConfig
from onedp.tasks import PUSHT_KEYPOINTS
from onedp.train.config import LoopConfig, StudentRun, TeacherRun
from onedp.train.processes import launch_made_one
from onedp.train.run import distill_student, train_teacher
from onedp.train.windows import random_crops

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--multi_gpu", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]  # gpu: torchrun
LOOP = LoopConfig(steps=6, batch_size=8, log_every=1, diagnose_every=6, checkpoint_every=3, cpu=True, threads=1)
NETWORK = MlpConfig(width=16, blocks=1, step_embed_dim=8)
ACT = ActConfig(width=16, heads=2, expansion=2, encoder_blocks=1, decoder_blocks=1, latent_dim=4)
SPEC = PUSHT_KEYPOINTS.spec


def train_both(data: Path, out: Path) -> None:
    """A teacher and its one-step student; what every process of the launch runs."""
    train_teacher(TeacherRun("pusht-keypoints", data, DenoisingConfig(), NETWORK, LOOP), out / "teacher")
    student = fitted(recipe("onedp-s"), LOOP.steps)
    distill_student(StudentRun(str(out / "teacher"), data, student, LOOP), out / "student")


def numbers(run: Path) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


@pytest.mark.slow
def test_two_processes_have_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state, action = (rng.uniform(100, 400, (60, n)).astype(np.float32) for n in (5, 2))
    data = tmp_path / "demonstrations.npz"
    np.savez(data, state=state, action=action, episode_ends=[30, 60])
    train_both(data, tmp_path / "one")
    command = [*LAUNCH, "-m", "onedp.train.processes_test", str(data), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CI": "true"})
    assert done.returncode == 0, done.stderr
    for run in ("teacher", "student"):
        one, two = tmp_path / "one" / run, tmp_path / "two" / run
        assert len(numbers(one)) > LOOP.steps
        for mine, theirs in zip(numbers(one), numbers(two), strict=True):
            assert theirs == pytest.approx(mine, rel=1e-3, abs=1e-6)
        weights = [load_file(folder / "policy" / "weights.safetensors") for folder in (one, two)]
        for name, value in weights[0].items():
            np.testing.assert_allclose(weights[1][name], value, rtol=0, atol=1e-5, err_msg=name)
        processes = [json.loads((each / "policy" / "provenance.json").read_text())["processes"] for each in (one, two)]
        assert processes == [1, 2]


def method_of(name: str) -> Method:
    """The method as a run builds it, over untrained small networks."""

    def untrained(schedule, parameterization):
        network = ACT if name == "act" else dataclasses.replace(NETWORK, **config.network_changes)
        return build_denoiser(network, SPEC, schedule, parameterization)

    config = fitted(recipe(name), LOOP.steps)
    if isinstance(config, ProgressiveConfig):
        config = dataclasses.replace(config, first_steps=4)
    torch.manual_seed(0)
    edm = name == "consistency-policy"
    schedule, parameterization = (Edm(), "edm") if edm else (CosineDdpm(), "eps")
    teacher = build_denoiser(NETWORK, SPEC, schedule, parameterization) if METHODS[name].teacher else None
    sampler = Heun(2) if edm else Ddim(2)
    method = build_method(config, Setting(LOOP.steps, 1.0, untrained, teacher, sampler))
    for network in method.networks.values():  # fresh heads are zeros, and give gradients to nothing before them
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return method


def gradients(method: Method, loss_name: str, batch: Batch, step: int, share: Share) -> tuple[dict, torch.Tensor]:
    """The loss and logged numbers, squared where they are roots, and the gradient of the network it moves, a vector."""
    network = method.networks[method.optimizers[loss_name].network]
    network.zero_grad(set_to_none=True)
    generator = keyed_generator(0, step, torch.device("cpu"), share=share)
    loss, logs = method.loss(loss_name, batch, step, generator)
    loss.backward()
    numbers = {name: value.item() ** (2 if name.endswith("_rms") else 1) for name, value in logs.items()}
    return {**numbers, "": loss.item()}, torch.cat(
        [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    ).double()


@pytest.mark.parametrize("name", list(METHODS))
def test_the_loss_of_every_method_is_the_mean_of_its_shares(name: str, tmp_path: Path) -> None:
    """Whatever a method draws or averages past ``diffusion.draws`` and rows, shows here."""
    method = method_of(name)
    generator = torch.Generator().manual_seed(0)
    nobs = {
        field.name: torch.randn(8, SPEC.n_obs_steps, *field.shape, generator=generator) for field in SPEC.observations
    }
    batch = Batch(nobs, torch.rand((8, SPEC.horizon, SPEC.action_dim), generator=generator) * 2 - 1)
    method.prepare(nobs, tmp_path, "key", torch.Generator().manual_seed(1))
    shares = [Share(rank, 2) for rank in range(2)]
    halves = [
        Batch({field: share.of(values) for field, values in nobs.items()}, share.of(batch.nactions))  # type: ignore[type-var]
        for share in shares
    ]
    seen = set()
    for step in range(LOOP.steps):
        method.begin_step(step)
        for loss_name in dict.fromkeys(method.updates(step)):
            seen.add(loss_name)
            whole, gradient = gradients(method, loss_name, batch, step, Share())
            parts = [gradients(method, loss_name, *each) for each in zip(halves, (step, step), shares, strict=True)]
            for key, number in whole.items():
                assert np.mean([part[key] for part, _ in parts]) == pytest.approx(number, rel=1e-4, abs=1e-5), key
            mean = torch.stack([part for _, part in parts]).mean(dim=0)
            assert (mean - gradient).norm() <= 1e-4 * gradient.norm()
            assert gradient.norm() > 0
    assert seen == set(method.optimizers)


@pytest.mark.parametrize(
    ("environment", "made_one"),
    [
        ({}, False),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, False),  # asked for one
        ({"MASTER_ADDR": "10.0.0.1"}, False),  # a cluster's own, no launcher
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, True),
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "0"}, False),  # one of several
    ],
)
def test_a_launch_that_made_one_process_is_known_by_its_environment(environment: dict, made_one: bool) -> None:
    assert launch_made_one(environment) is made_one


def test_crops_are_those_of_the_joint_batch() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (6, 2, 9, 8, 3)).astype(np.uint8)
    joint = random_crops(pictures, (4, 5), np.random.default_rng(1))
    for rank in range(3):
        share = Share(rank, 3)
        np.testing.assert_array_equal(
            random_crops(share.of(pictures), (4, 5), np.random.default_rng(1), share), share.of(joint)
        )


if __name__ == "__main__":
    train_both(Path(sys.argv[1]), Path(sys.argv[2]))
