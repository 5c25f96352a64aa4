"""What distillations beside OneDP share: a teacher, its solutions, a student, and diagnostics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser, x0_to_eps
from onedp.diffusion.schedule import Edm, NoiseSchedule, ddim_step, expand_like
from onedp.errors import OneDPError, TrainingError
from onedp.methods.diagnostics import student_diagnostics
from onedp.methods.method import Batch, Method, OptimizerRole, Setting, trainable_copy
from onedp.methods.pairs import PairPool, Rows, forecast_pairs, kept_pairs, make_pairs
from onedp.methods.student_config import PairsConfig


class FromPairs(Method):
    """Distil a teacher with the help of its own solutions; the student is the network ``student``."""

    def __init__(self, config: PairsConfig, setting: Setting, student: Denoiser):
        self.teacher, self.teacher_sampler = setting.source()
        self.teacher.requires_grad_(False).eval()
        require_deterministic(self.teacher_sampler.draws, self.teacher_sampler.label)
        self.pair_count = config.pairs
        self.clip = setting.clip
        self.steps = setting.steps
        self.networks = {"student": student}
        self.optimizers = {"student": OptimizerRole("student", config.optimizer, 0, setting.steps)}
        self.averaged = {"student": config.ema} if config.ema else {}
        self.result = "student"
        self.measure = "energy_distance"
        self._pairs: PairPool | None = None

    def make_pairs(self, nobs: Mapping[str, Tensor | Rows], count: int, generator: torch.Generator) -> PairPool:
        """``count`` of the teacher's solutions."""
        return make_pairs(self.teacher, self.teacher_sampler, nobs, count, 1.0, generator)

    def prepare(self, nobs: Mapping[str, Tensor | Rows], folder: Path, key: str, generator: torch.Generator) -> float:
        """Make the teacher's solutions, or find them from before a resume."""
        make = partial(self.make_pairs, nobs, self.pair_count, generator)
        self._pairs = kept_pairs(make, nobs, folder, key, generator.device)
        return self._pairs.seconds

    def preparation_seconds(
        self,
        nobs: Mapping[str, Tensor | Rows],
        device: torch.device,
        clock: Callable[[], float] = time.perf_counter,
    ) -> float:
        """Of the teacher's solutions."""
        seconds, self._pairs = forecast_pairs(partial(self.make_pairs, nobs), self.pair_count, device, clock)
        return seconds

    def updates(self, step: int) -> tuple[str, ...]:
        """One update a step."""
        return ("student",)

    @property
    def pairs(self) -> PairPool:
        """The teacher's solutions; raises ``TrainingError`` before ``prepare``."""
        if self._pairs is None:
            raise TrainingError("prepare() must run before the first step.")
        return self._pairs

    def diagnose(self, network: Denoiser, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Brief 9.3: the student against the teacher."""
        sampler = self.sampler()
        return student_diagnostics(network, self.teacher, None, sampler, self.teacher_sampler, batch, generator)


def require_deterministic(draws: int, label: str) -> None:
    """Raise ``OneDPError`` unless a teacher's sampler has a solution for each noise."""
    if draws != 1:
        raise OneDPError(
            f"Regression needs a deterministic sampler that reads noise (ddim:N or heun:N), not {label}: a solution "
            "must belong to one noise."
        )


def student_from_pure_noise(setting: Setting) -> Denoiser:
    """Trainable student for methods that start from pure noise.

    It starts from the teacher's weights where the network is the same. A teacher that predicts the noise cannot be
    asked at pure noise (its clean estimate is divided by alpha), so its student predicts v, and has to learn that first
    (as arXiv 2202.00512, section 4, changes the parameterisation).
    """
    teacher, _ = setting.source()
    parameterization = "v" if teacher.parameterization == "eps" else teacher.parameterization
    if not setting.same_network:
        return setting.untrained(teacher.schedule, parameterization)
    student = trainable_copy(teacher)
    student.parameterization = parameterization
    return student


def ode_step(
    teacher: Denoiser, x_t: Float[Tensor, "b tp da"], t: Tensor, s: Tensor, cond: Tensor
) -> Float[Tensor, "b tp da"]:
    """One step of the teacher's ODE from times t to s (B,): Heun for EDM, DDIM for the others."""
    schedule = teacher.schedule
    x0 = teacher.x0(x_t, t, cond)
    x_s = ddim_step(schedule, x_t, x0, t, s)
    if not isinstance(schedule, Edm):
        return x_s
    slope = (x0_to_eps(schedule, x0, x_t, t) + teacher.eps(x_s, s, cond)) / 2
    return x_t + expand_like(s - t, x_t) * slope


SOLVER_STEPS = 16
"""Fewest steps from noise to data: with fewer, Heun's error on narrow data is as large as the data."""


def follow_ode(
    teacher: Denoiser, x_t: Float[Tensor, "b tp da"], bins: int, index: Tensor, cond: Tensor
) -> Float[Tensor, "b tp da"]:
    """Along the teacher's ODE through bin ``index`` (B,) of ``bins``, in several steps where bins are wide."""
    parts = -(-SOLVER_STEPS // bins)
    for part in range(parts):
        first = index * parts + part
        t, s = (bin_times(teacher.schedule, bins * parts, edge) for edge in (first, first + 1))
        x_t = ode_step(teacher, x_t, t, s, cond)
    return x_t


def bin_times(schedule: NoiseSchedule, bins: int, index: Tensor) -> Tensor:
    """Time of the ``index``-th of ``bins`` + 1 edges, 0 being noise and ``bins`` data."""
    return schedule.ode_times(index.float() / bins)


def pseudo_huber(
    error: Float[Tensor, "b tp da"], scale: float | None, weights: Float[Tensor, " tp"] | None = None
) -> Float[Tensor, " b"]:
    """Each chunk's mean squared error, or ``sqrt(it + scale^2) - scale``; ``weights``: of its steps, 1 on average."""
    squared = error.square().mean(dim=2)
    squared = (squared if weights is None else weights * squared).mean(dim=1)
    return squared if scale is None else (squared + scale**2).sqrt() - scale


def step_weights(chunk: int, executed: range | None, unexecuted: float) -> Float[Tensor, " tp"] | None:
    """Weights of a chunk's steps, 1 on average: ``unexecuted`` beside 1 of the ``executed`` ones; None: all the same.

    Raises ``OneDPError`` where the run does not say which are executed.
    """
    if unexecuted == 1:
        return None
    if executed is None:
        raise OneDPError("unexecuted_weight needs to know which actions of a chunk are executed; leave it at 1.")
    weights = torch.full((chunk,), float(unexecuted))
    weights[executed.start : executed.stop] = 1.0
    return weights / weights.mean()


_AT_INPUT = ContextVar("at_input", default=False)


def gradient_at(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of ``loss(x)`` at x alone: whatever networks the loss asks get none. Works under ``no_grad``."""
    token = _AT_INPUT.set(True)
    try:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(x), x)
    finally:
        _AT_INPUT.reset(token)
    return gradient


def weights_are_held() -> bool:
    """Whether this is inside ``gradient_at``, whose backward passes make no gradients of weights."""
    return _AT_INPUT.get()
