"""What to watch while a student is distilled: the loss value of a distribution-matching method says nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.distances import energy_distances, sliced_wasserstein_distances
from onedp.diffusion.draws import normal
from onedp.diffusion.samplers import Sampler
from onedp.diffusion.schedule import diffuse, expand_like
from onedp.methods.method import Batch

NOISE_BANDS = ((0.0, 0.2), (0.2, 1.0), (1.0, 5.0), (5.0, float("inf")))
"""Bands of the noise-to-signal ratio sigma / alpha."""

DRAWS = 8
"""Samples per observation for spreads and distances."""


@torch.no_grad()
def student_diagnostics(
    student: Denoiser,
    teacher: Denoiser,
    tracker: Denoiser | None,
    student_sampler: Sampler,
    teacher_sampler: Sampler,
    batch: Batch,
    generator: torch.Generator,
) -> dict[str, float]:
    """Brief 9.3 on a held-out batch; all in normalised action units.

    Per noise band: gap between tracker and teacher, tracker loss, gradient norm. Over noise: spread of student and
    teacher, energy distance and sliced Wasserstein distance between them, share of actions out of [-1, 1], and how far
    the student moved from the undistilled teacher asked once.
    """
    numbers = _band_numbers(student, teacher, tracker, student_sampler, batch, generator)
    teacher_cond, student_cond = (  # encoded once for all draws: pictures cost more than all the rest
        network.encode(batch.nobs).repeat_interleave(DRAWS, dim=0) for network in (teacher, student)
    )
    shape = (len(teacher_cond), *teacher.chunk_shape)
    z = _noise(student_sampler, shape, generator)
    draws = torch.randn(
        (len(teacher_cond), teacher_sampler.draws, *teacher.chunk_shape), generator=generator, device=generator.device
    )
    truth = teacher_sampler.sample(teacher, teacher_cond, draws).unflatten(0, (-1, DRAWS)).flatten(2)
    unclipped = replace(student_sampler, clip=None)  # type: ignore[type-var]
    raw = unclipped.sample(student, student_cond, z)
    before = unclipped.sample(teacher, teacher_cond, z)
    mine = raw.unflatten(0, (-1, DRAWS)).flatten(2)  # (B, draws, Tp * Da)
    return numbers | {
        "student_spread": float(mine.std(dim=1).mean()),
        "teacher_spread": float(truth.std(dim=1).mean()),
        "energy_distance": float(energy_distances(mine, truth).mean()),
        "sliced_wasserstein": float(sliced_wasserstein_distances(mine, truth, generator).mean()),
        "out_of_range": float((raw.abs() > 1).float().mean()),
        "moved": float((raw - before).square().mean().sqrt()),
    }


def _noise(sampler: Sampler, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """What the sampler eats for chunks of ``shape`` (B, Tp, Da); at least one draw is taken, so that what is drawn
    after it does not depend on the sampler being deterministic."""
    drawn = (shape[0], max(1, sampler.draws), *shape[1:])
    return normal(drawn, generator)[:, : sampler.draws]


def _band_numbers(
    student: Denoiser,
    teacher: Denoiser,
    tracker: Denoiser | None,
    sampler: Sampler,
    batch: Batch,
    generator: torch.Generator,
) -> dict[str, float]:
    n = len(batch)
    z = _noise(sampler, (n, *teacher.chunk_shape), generator)
    actions = replace(sampler, clip=None).sample(student, student.encode(batch.nobs), z)  # type: ignore[type-var]
    t = teacher.schedule.training_times(n, generator)
    x_t = diffuse(teacher.schedule, actions, t, normal(actions.shape, generator))
    alpha, sigma = teacher.schedule.alpha(t), teacher.schedule.sigma(t)
    teacher_x0 = teacher.x0(x_t, t, teacher.encode(batch.nobs))
    student_x0 = actions if tracker is None else tracker.x0(x_t, t, tracker.encode(batch.nobs))
    gap = (student_x0 - teacher_x0).square().mean(dim=(1, 2)).sqrt()
    norm = (expand_like(alpha, x_t) ** 2 * (student_x0 - teacher_x0)).flatten(1).norm(dim=1)
    error = (student_x0 - actions).square().mean(dim=(1, 2)).sqrt()
    numbers: dict[str, float] = {}
    for band, (low, high) in enumerate(NOISE_BANDS):
        inside = (sigma / alpha >= low) & (sigma / alpha < high)
        if inside.any():
            numbers[f"gap_band{band}"] = float(gap[inside].mean())
            numbers[f"gradient_band{band}"] = float(norm[inside].mean())
            if tracker is not None:
                numbers[f"tracker_error_band{band}"] = float(error[inside].mean())
    return numbers
