"""What counting and timing the trainings of a task's policies needs: methods as the runs build them, and windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from onedp.bench.cost import seconds_of_a_step
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import NoiseSchedule
from onedp.methods.config import DenoisingConfig, MethodConfig
from onedp.methods.method import Method, Setting
from onedp.methods.table import build_method
from onedp.nets.build import build_denoiser
from onedp.nets.config import NetworkConfig
from onedp.policy import TorchPolicy
from onedp.tasks import get_task
from onedp.tasks.demonstrations import load_observations
from onedp.train.config import LoopConfig
from onedp.train.run import network_for
from onedp.train.solver import solver
from onedp.train.windows import WindowTensors, window_tensors


def builder(
    teacher: TorchPolicy,
    config_for: Callable[[int], MethodConfig],
    needs_teacher: bool,
    network: NetworkConfig | None = None,
) -> Callable[[int], Method]:
    """Number of steps to the method that a run of so many steps would have; ``network``: its own, None: the teacher's.

    Raises ``OneDPError`` when the method cannot train the network.
    """

    def build(steps: int) -> Method:
        config = config_for(steps)
        built = network_for(config, network or teacher.network)
        sampler = solver(teacher, config)
        setting = Setting(
            steps,
            sampler.clip,
            _untrained(teacher, built),
            teacher.denoiser if needs_teacher else None,
            sampler if needs_teacher else None,
            same_network=built == network_for(config, teacher.network) if needs_teacher else True,
            executed=teacher.spec.executed_steps,
        )
        torch.manual_seed(0)
        return build_method(config, setting)

    return build


def placeholder_windows(policy: TorchPolicy, observations: Path, task: str) -> WindowTensors:
    """Windows of recorded observations with actions of no meaning: for counting and timing only."""
    episodes = load_observations(observations, get_task(task))
    windows = window_tensors(episodes, policy.spec, policy.normalizer)
    return dataclasses.replace(windows, actions=torch.zeros((episodes.n_steps, policy.spec.action_dim)))


def time_teacher_step(
    policy: TorchPolicy, process: str, observations: Path, task: str, loop: LoopConfig
) -> dict[str, float]:
    """Processor seconds of a step of denoising training of the policy's network on this machine, and its weights."""

    def build(steps: int) -> Method:
        config = DenoisingConfig(process=process)  # type: ignore[arg-type]
        return build_method(config, Setting(steps, 1.0, _untrained(policy, policy.network)))

    seconds = seconds_of_a_step(build, placeholder_windows(policy, observations, task), loop)
    return {"cpu_seconds": seconds, "weights": sum(p.numel() for p in policy.denoiser.parameters())}


def _untrained(policy: TorchPolicy, network: NetworkConfig) -> Callable[[NoiseSchedule, str], Denoiser]:
    def untrained(schedule: NoiseSchedule, parameterization: str) -> Denoiser:
        return build_denoiser(network, policy.spec, schedule, parameterization, policy.encoder)

    return untrained
