"""Evaluate a policy: episodes in worker processes, latency and network passes in this one."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from onedp.errors import OneDPError
from onedp.evaluate.groups import GroupExecutor, WorkerSetup, executor_for
from onedp.evaluate.opening import EvaluatedExport, open_policy, parameters_of, policy_path, task_to_run
from onedp.evaluate.results import EvaluationResult
from onedp.evaluate.rollout import Rollout, groups_of
from onedp.evaluate.timing import Timing
from onedp.machine import command_line, cpu_name, usable_cores
from onedp.policy import TorchPolicy
from onedp.runtime.execution import Execution
from onedp.runtime.executor import EXECUTORS
from onedp.runtime.latency import parse_latency
from onedp.runtime.requests import ChunkRequests, infer_chunks
from onedp.runtime.resampled import at_control_rate
from onedp.tasks import Task
from onedp.threads import one_thread
from onedp.types import Continuation, episode_noise

LATENCY_SECONDS = 4.0
"""Time budget of the latency measurement; between 20 and 300 calls are made."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, on which starts."""

    policy: str
    """Folder of a policy or of an export, or name of a shipped policy."""
    sampler: str | None
    """None: the one stored in the artifact."""
    task: str | None
    """None: the one the policy was trained on."""
    episodes: int
    first_seed: int
    workers: int | None = None
    """Processes, or actors on a cluster; None: one per core."""
    device: str = "cpu"
    latency: str = "0"
    """Charged for every chunk: seconds, ``measured``, ``paper`` or a file (``onedp.runtime.latency``)."""
    executor: str = "sync"
    """A name of ``onedp.runtime.executor.EXECUTORS``."""
    replan_steps: int | None = None
    """Policy steps from one observation that a chunk is made of to the next; None: the policy's Ta."""
    noise: str = "fresh"
    """A name of ``onedp.runtime.requests.NOISES``."""
    ray: str | None = None
    """Address of a Ray cluster that runs the episodes (``onedp.evaluate.ray_groups``); None: this machine."""

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise OneDPError(f"episodes must be at least 2, or there is no interval; it is {self.episodes}.")
        if self.first_seed < 0:
            raise OneDPError(f"first-seed must not be negative, it is {self.first_seed}.")
        if self.workers is not None and self.workers < 1:
            raise OneDPError(f"workers must be at least 1, it is {self.workers}.")
        Execution(executor=self.executor, replan_steps=self.replan_steps, noise=self.noise)  # refuses what it must


def evaluate(request: EvaluationRequest) -> EvaluationResult:
    """Run the episodes and measure latency; the scores do not depend on ``workers`` nor on ``ray``.

    Raises ``OneDPError`` when the policy cannot be loaded or does not fit the task, or there is no such cluster.
    """
    policy = open_policy(request.policy, request.sampler, request.device)
    task = task_to_run(policy, request.task)
    _require_executable(request, policy, task)
    groups = groups_of(request.first_seed, request.episodes)
    executor = executor_for(policy, task, len(groups), request.workers, request.ray)
    passes = count_passes(policy)
    if passes not in (None, policy.nfe):
        raise OneDPError(f"{policy.sampler.label} declares {policy.nfe} network passes, a hook counted {passes}.")
    latencies_ms = latency_ms(policy)
    execution = execution_of(request, policy)
    start = time.perf_counter()
    rollouts = run_episodes(request, policy, executor, execution)
    seconds = time.perf_counter() - start
    rows = [rollout.result for rollout in rollouts]
    return EvaluationResult.from_episodes(
        rows,
        timing=Timing.of(
            execution,
            policy.spec,
            task.control_hz,
            [rollout.counters for rollout in rollouts],
            [rollout.seams for rollout in rollouts],
            [row.steps for row in rows if row.success],
        ),
        policy=policy.name,
        task=request.task or policy.task,
        sampler=policy.sampler.label,
        nfe=policy.nfe,
        latency_ms_p50=float(np.percentile(latencies_ms, 50)),
        latency_ms_p95=float(np.percentile(latencies_ms, 95)),
        weights_digest=str(policy.provenance["weights_digest"]),
        package_version=importlib.metadata.version("onedp"),
        hardware=hardware(request.device),
        command=command_line(),
        date=datetime.date.today().isoformat(),
        environment_steps_per_s=sum(row.steps for row in rows) / seconds,
        wall_clock_s=seconds,
        passes_counted=passes,
        parameters=parameters_of(policy),
        training_seconds=policy.provenance.get("training_seconds"),
        teacher_training_seconds=policy.provenance.get("teacher", {}).get("training_seconds"),
    )


def _require_executable(request: EvaluationRequest, policy: TorchPolicy | EvaluatedExport, task: Task) -> None:
    """Raise ``OneDPError`` for chunks that the policy cannot give, before the first one is timed."""
    control = at_control_rate(policy, task.control_hz)
    execution = Execution(executor=request.executor, replan_steps=request.replan_steps, noise=request.noise)
    executor = execution.make_executor(control.spec, round(task.control_hz / policy.spec.rate_hz), task.hold_action)
    ChunkRequests(control, executor, request.first_seed, request.noise).make(0)


def execution_of(request: EvaluationRequest, policy: TorchPolicy | EvaluatedExport) -> Execution:
    """The request's timing for this policy; ``measured`` measures what the executor will really ask for."""

    def measure() -> list[float]:
        return [each / 1000 for each in latency_ms(policy, continuing=EXECUTORS[request.executor].continues)]

    latency = parse_latency(request.latency, policy.nfe, measure)
    return Execution(latency, request.executor, request.replan_steps, request.noise)


def run_episodes(
    request: EvaluationRequest, policy: TorchPolicy | EvaluatedExport, executor: GroupExecutor, execution: Execution
) -> list[Rollout]:
    """All episodes in the order of their seeds, with a progress bar."""
    task = request.task or policy.task
    setup = WorkerSetup(policy_path(request.policy), request.sampler, request.device, task, execution)
    groups = groups_of(request.first_seed, request.episodes)
    bar = tqdm(total=request.episodes, desc=f"{policy.name} {policy.sampler.label}", unit="episode", disable=None)
    rollouts: list[Rollout] = []
    for done in executor.run(setup, groups):
        rollouts += done
        bar.update(len(done))
        bar.set_postfix_str(f"score {np.mean([rollout.result.score for rollout in rollouts]):.3f}")
    bar.close()
    return sorted(rollouts, key=lambda rollout: rollout.result.seed)


def latency_ms(
    policy: TorchPolicy | EvaluatedExport,
    seconds: float = LATENCY_SECONDS,
    continuing: bool = False,
    fewest_calls: int = 20,
) -> list[float]:
    """Milliseconds of single chunks: batch 1, one thread, after warm-up, device synchronised; every picture is new.

    ``continuing``: of chunks that go on from the one before, which cost more. ``fewest_calls``: so many, even if they
    take more than ``seconds``.
    """
    rng = np.random.default_rng(0)
    noise = episode_noise(0, 0, policy.noise_shape)[None]
    steps = policy.spec.chunk_length
    actions = np.zeros((1, steps, policy.spec.action_dim), dtype=np.float32)
    previous = Continuation(actions, np.ones((1, steps), dtype=np.float32)) if continuing else None

    def answer() -> float:
        obs = policy.spec.fake_observation(1, rng)  # new ones: pictures seen before would not be encoded again
        return _timed(policy, lambda: infer_chunks(policy, obs, noise, previous))

    with one_thread():
        each = sum(answer() for _ in range(3)) / 3
        calls = int(np.clip(seconds / each, fewest_calls, 300))
        return [1000 * answer() for _ in range(calls)]


def _timed(policy: TorchPolicy | EvaluatedExport, call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if policy.device.type == "cuda":
        torch.cuda.synchronize(policy.device)
    return time.perf_counter() - start


def count_passes(policy: TorchPolicy | EvaluatedExport) -> int | None:
    """Network passes of one chunk, counted by a hook on the network; None for an export, which has no hooks."""
    if isinstance(policy, EvaluatedExport):
        return None
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    hook = policy.denoiser.backbone.register_forward_hook(count)
    try:
        obs = policy.spec.fake_observation(1, np.random.default_rng(0))
        policy.infer(obs, episode_noise(0, 0, policy.noise_shape)[None])
    finally:
        hook.remove()
    return passes


def hardware(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "threads": 1,
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts
