"""The one training loop, for every method: steps, schedules, averages, logs, checkpoints."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from torch import Tensor
from tqdm import tqdm

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.draws import keyed_generator
from onedp.errors import OneDPError, TrainingError
from onedp.methods.config import OptimizerConfig
from onedp.methods.method import Batch, Method
from onedp.train.config import LoopConfig
from onedp.train.forecast import SHORTEST_RUN, forecast
from onedp.train.loader import BatchLoader, loader_numbers, loader_report
from onedp.train.metrics_log import MetricsLog
from onedp.train.processes import announce, share_of
from onedp.train.state import Ema, TrainState
from onedp.train.stopping import best_so_far
from onedp.train.windows import WindowTensors, batch_indices

DIAGNOSTIC_BATCH = 64


def make_accelerator(config: LoopConfig, out: Path) -> Accelerator:
    """Accelerate with the run's precision, device and tracker; `accelerate launch` makes it many processes."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trackers = None if config.tracker == "none" else config.tracker
    if trackers is not None and trackers not in {str(tracker) for tracker in get_available_trackers()}:
        raise OneDPError(f"The tracker '{trackers}' is not installed. Install it with: pip install {trackers}")
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, cpu=config.cpu, log_with=trackers, project_dir=str(out / "logs")
    )
    if accelerator.device.type == "mps":
        raise OneDPError("Training on Apple's mps is not supported (no float64 there). Use --cpu.")
    if config.batch_size % accelerator.num_processes:
        raise OneDPError(
            f"The batch size {config.batch_size} must be divisible by the {accelerator.num_processes} processes."
        )
    return accelerator


def run_training(
    method: Method,
    data: WindowTensors,
    config: LoopConfig,
    out: Path,
    run: Mapping[str, Any],
    accelerator: Accelerator,
    resume: bool = False,
    stop_after: int | None = None,
    at_milestone: Callable[[str, TrainState], None] | None = None,
) -> TrainState:
    """Train to ``config.steps`` (or ``stop_after``), writing ``metrics.jsonl`` and ``checkpoint/`` under ``out``.

    ``run`` identifies the run: a checkpoint with another one is refused. Raises ``TrainingError`` on a loss that is
    not finite.
    """
    state = initial_state(method, accelerator)
    state.best = best_so_far(method, config)
    checkpoint = out / "checkpoint"
    if resume:
        state.load(checkpoint, run)
    _prepare(method, state, data, config, out, run, accelerator)
    last = min(config.steps, stop_after or config.steps)
    log = MetricsLog(out / "metrics.jsonl", accelerator, run, state.step)
    bar = tqdm(
        initial=state.step,
        total=config.steps,
        desc=out.name,
        unit="step",
        dynamic_ncols=True,
        disable=None if accelerator.is_main_process else True,
    )
    start = time.perf_counter()
    before = state.seconds
    loader = make_loader(method, data, config, accelerator, range(state.step, last))
    with closing(loader):
        while state.step < last and not has_ended(state):
            logs = train_step(method, state, loader, config, accelerator)
            state.step += 1
            state.seconds = before + time.perf_counter() - start  # logs, diagnostics and checkpoints included
            bar.update()
            log.add(logs)
            if state.step % config.log_every == 0 or state.step == last:
                beside = loader_numbers(loader, state.seconds - before) if data.has_pictures else {}
                bar.set_postfix_str(log.write(state, beside))
            if diagnosis_due(state, config) or state.step == last:
                _look(method, state, data, config, accelerator, log)
            if at_milestone is not None and state.step in method.milestones:
                at_milestone(method.milestones[state.step], state)  # before a checkpoint says that it was done
            due = state.step % config.checkpoint_every == 0 or state.step == last or has_ended(state)
            if accelerator.is_main_process and due:
                state.save(checkpoint, run)
    bar.close()
    if state.best is not None and has_ended(state):
        accelerator.print(state.best.text())
    if data.has_pictures:
        accelerator.print(loader_report(loader, state.seconds - before))
    log.close()
    return state


def make_loader(
    method: Method, data: WindowTensors, config: LoopConfig, accelerator: Accelerator, steps: range
) -> BatchLoader:
    """The training batches of ``steps``, made ahead by threads where there are pictures.

    Each batch has its own order and crops, keyed by (seed, step, position); a process makes its share of it.
    """
    share = share_of(accelerator)

    def make(step: int, position: int) -> Batch:
        picks = batch_indices(len(data.training), config.batch_size, config.seed, step, position)
        crops = np.random.default_rng((config.seed, step, position, 0))
        return data.batch(data.training[share.of(picks)], accelerator.device, crops, share)

    keys = ((step, position) for step in steps for position in range(len(method.updates(step))))
    return BatchLoader(make, keys, config.loader_threads if data.has_pictures else 0)


def _prepare(
    method: Method,
    state: TrainState,
    data: WindowTensors,
    config: LoopConfig,
    out: Path,
    run: Mapping[str, Any],
    accelerator: Accelerator,
) -> None:
    """All before the first step: the method's own preparation, counted in the run's cost once, and the forecast."""
    generator = keyed_generator(config.seed, step=-2, device=accelerator.device)
    nobs = data.training_observations(accelerator.device)
    announce(accelerator, config.batch_size)
    foretold = config.steps - state.step >= SHORTEST_RUN
    if foretold and state.step == 0:
        with accelerator.main_process_first():  # it makes them alone, so it is timed alone
            expected = method.preparation_seconds(nobs, accelerator.device)
        accelerator.print(forecast(method, data, config, accelerator, preparation=expected).text())
    key = hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()
    with accelerator.main_process_first():
        seconds = method.prepare(nobs, out, key, generator)
    if state.step == 0:
        state.seconds += seconds
    elif foretold:
        accelerator.print(forecast(method, data, config, accelerator, state.step).text())


def diagnosis_due(state: TrainState, config: LoopConfig) -> bool:
    """Whether the result so far is to be diagnosed: for the log, or because the run stops by what is found."""
    return state.step % config.diagnose_every == 0 or (state.best is not None and state.best.wants(state.step))


def _look(
    method: Method,
    state: TrainState,
    data: WindowTensors,
    config: LoopConfig,
    accelerator: Accelerator,
    log: MetricsLog,
) -> None:
    """Diagnose the result so far, for the log and for a run that stops by what is found."""
    numbers = diagnose(method, state, data, config, accelerator)
    log.write_diagnostics(state, numbers)
    if state.best is not None and (state.best.wants(state.step) or state.step == config.steps):
        state.best.look(state.step, numbers, newest_weights(method, state), accelerator)


def has_ended(state: TrainState) -> bool:
    """Whether a run that stops by itself did so."""
    return state.best is not None and state.best.ended


def newest_weights(method: Method, state: TrainState) -> Mapping[str, Tensor]:
    """Those of the result so far: the moving average where one is kept."""
    average = state.averages.get(method.result)
    return method.networks[method.result].state_dict() if average is None else average.weights


def result_network(method: Method, state: TrainState) -> Denoiser:
    """The network to save, in evaluation mode: the best of a run that stops by itself, else the newest."""
    best = None if state.best is None else state.best.weights
    return _network_of(method, best or newest_weights(method, state))


def _network_of(method: Method, weights: Mapping[str, Tensor]) -> Denoiser:
    network = copy.deepcopy(method.networks[method.result]).requires_grad_(False).eval()
    network.load_state_dict(weights, strict=True)
    return method.finished(network)


def diagnose(
    method: Method, state: TrainState, data: WindowTensors, config: LoopConfig, accelerator: Accelerator
) -> dict[str, float]:
    """The method's diagnostics of the result so far on a fixed batch of held-out windows with fixed draws."""
    generator = keyed_generator(config.seed, step=-1, device=accelerator.device)
    spread = torch.linspace(0, len(data.heldout) - 1, min(DIAGNOSTIC_BATCH, len(data.heldout))).long()
    batch = data.batch(data.heldout[spread], accelerator.device)
    return method.diagnose(_network_of(method, newest_weights(method, state)), batch, generator)


def initial_state(method: Method, accelerator: Accelerator) -> TrainState:
    """Step 0 of a method's networks, moved to the device, with their optimizers and averages."""
    for network in method.networks.values():
        network.to(accelerator.device)
    optimizers = {}
    for loss, role in method.optimizers.items():
        optimizer = torch.optim.AdamW(
            role.parameter_groups(method.networks[role.network]),
            lr=role.config.lr,
            betas=role.config.betas,
            weight_decay=role.config.weight_decay,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        optimizers[loss] = optimizer
    averages = {name: Ema(method.networks[name], config) for name, config in method.averaged.items()}
    return TrainState(0, method.networks, averages, optimizers)


def train_step(
    method: Method, state: TrainState, loader: BatchLoader, config: LoopConfig, accelerator: Accelerator
) -> dict[str, Tensor]:
    """All updates of one step; each has its own batch and draws, keyed by (seed, step, position).

    Processes share both: each has its rows, and the mean of their gradients is that of the joint batch.
    """
    logs: dict[str, Tensor] = {}
    method.begin_step(state.step)
    for position, name in enumerate(method.updates(state.step)):
        role = method.optimizers[name]
        generator = keyed_generator(config.seed, state.step, accelerator.device, position, share_of(accelerator))
        batch = loader.get(state.step, position)
        optimizer = state.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        with accelerator.autocast():
            loss, numbers = method.loss(name, batch, state.step, generator)
        accelerator.backward(loss)
        parameters = [p for p in method.networks[role.network].parameters() if p.grad is not None]
        if accelerator.num_processes > 1:
            for parameter in parameters:
                parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
        limit = math.inf if role.config.clip_norm is None else role.config.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        _require_finite(norm, name, state.step)  # before the weights, their average or a checkpoint see it
        rate = learning_rate(role.config, state.step - role.first_step, role.last_step - role.first_step)
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * rate
        optimizer.step()
        logs |= numbers
        if role.network in state.averages:
            state.averages[role.network].update(method.networks[role.network])
    return logs


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Rate at ``step`` of ``steps``: linear warm-up, then constant or half a cosine down to zero."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.decay == "constant":
        return config.lr * warmup
    return config.lr * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


def _require_finite(norm: Tensor, name: str, step: int) -> None:
    if not torch.isfinite(norm):
        raise TrainingError(
            f"The gradient of the loss '{name}' is {norm.item()} at step {step}: training has diverged and was "
            "stopped. The newest checkpoint is from before. Lower its optimizer's learning rate, or set clip_norm; "
            "if it happens in the first steps, look at the data with: onedp inspect PATH"
        )
