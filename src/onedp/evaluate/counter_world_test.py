"""A tiny task and policy for tests of roll-outs; the task can be told to kill the worker that runs a certain start."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from onedp.data.normalize import fit_normalizer
from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.nets.build import build_denoiser
from onedp.nets.config import MlpConfig
from onedp.policy import save_policy
from onedp.policy_test import make_policy
from onedp.tasks import StepResult, Task
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec(
    observations=(FieldSpec("x", (1,), "m"),),
    action=FieldSpec("action", (1,), "m"),
    action_low=(-9.0,),
    action_high=(9.0,),
    rate_hz=10.0,
    horizon=4,
    n_obs_steps=2,
    n_action_steps=2,
)
FATAL_SEED = 230
KILLS = "ONEDP_TEST_KILLS"
"""Environment variable: a folder where every death leaves a file."""
MOST_KILLS = "ONEDP_TEST_MOST_KILLS"
"""Environment variable: how many workers die of the fatal start."""


class Counter:
    """Reward is the sum of actions; ends after ``seed % 7 + 3`` steps."""

    def reset(self, seed):
        if seed == FATAL_SEED and KILLS in os.environ:
            deaths = Path(os.environ[KILLS])
            if len(list(deaths.iterdir())) < int(os.environ[MOST_KILLS]):
                (deaths / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        self.seed, self.t, self.total = seed, 0, 0.0
        return {"x": np.array([seed % 10], dtype=np.float32)}

    def step(self, action):
        self.t += 1
        self.total += float(action[0])
        done = self.t >= self.seed % 7 + 3
        return StepResult({"x": np.array([self.t + self.total], dtype=np.float32)}, self.total, done, done)

    def render(self, size):
        return np.full((size, size, 3), self.t, dtype=np.uint8)


TASK = Task(
    name="onedp.evaluate.counter_world_test:TASK",
    spec=SPEC,
    make_env=Counter,
    features=lambda arrays: dict(arrays),
    raw_arrays=("x",),
    max_steps=8,
    demonstrations="none",
)


def save_counter_policy(folder: Path) -> Path:
    """An untrained one-step policy for the task."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(-5, 5, (100, 1)).astype(np.float32) for name in ("x", "action")}
    network = MlpConfig(width=16, blocks=1, step_embed_dim=8)
    denoiser = build_denoiser(network, SPEC, CosineDdpm(), "eps").requires_grad_(False).eval()
    for parameter in denoiser.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    policy = replace(
        make_policy(OneStep(30.0)),
        spec=SPEC,
        task=TASK.name,
        denoiser=denoiser,
        network=network,
        normalizer=fit_normalizer(arrays, SPEC),
    )
    save_policy(folder, policy)
    return folder


def test_starts_and_actions_matter(tmp_path):
    """Otherwise equal numbers would prove nothing."""
    from onedp.evaluate.rollout import run_group
    from onedp.policy import load_policy

    policy = load_policy(save_counter_policy(tmp_path / "policy"))
    rows = [each.result for each in run_group(policy, TASK, [Counter() for _ in range(8)], list(range(8)))]
    assert len({row.score for row in rows}) == 8
    assert len({row.steps for row in rows}) > 3
