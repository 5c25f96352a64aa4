"""A one-step policy as the question that diffusers' schedulers ask: one pass at t = 0, of noise of unit variance.

LeRobot's ``diffusion`` policies know no noise level to start from, no factor on the noise and no preconditioning. All
of that is folded into the weights; the network then answers at t = 0 what ours answers at its own level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onedp.diffusion.samplers import OneStep
from onedp.diffusion.schedule import CosineDdpm
from onedp.errors import OneDPError
from onedp.nets.config import UnetConfig
from onedp.nets.unet1d import Unet1d
from onedp.policy import TorchPolicy

LARGEST_SKIP = 10.0
"""A scheduler that adds more than so many times the noise amplifies float32's rounding of its network by as much."""


@dataclass(frozen=True)
class OneStepForm:
    """``x0 = skip z + gain F(scale z)``: the chunk a one-step policy makes of its noise z, before clipping."""

    skip: float
    gain: float
    scale: float


@dataclass(frozen=True)
class Scheduler:
    """Options of LeRobot's config.json that make its one step compute ``x0 = skip z + out F'(z)``."""

    options: Mapping[str, Any]
    out: float
    """What F' is in units of F, ``F' = out F``: goes into the last convolution."""


def one_step_form(policy: TorchPolicy) -> OneStepForm:
    """The form of ``policy``; raises ``OneDPError`` when it makes more than one pass."""
    sampler, denoiser = policy.sampler, policy.denoiser
    if not isinstance(sampler, OneStep):
        raise OneDPError(
            f"{policy.name} is sampled with {sampler.label}; an export to LeRobot holds a one-step student. Distil "
            f"one: onedp distill {policy.name} --parameterization x0 --out DIR"
        )
    t = level(policy)
    z_scale = sampler.noise_scale * sampler.input_scale * float(denoiser.schedule.prior_scale(t))
    c_skip, c_out, c_in = (float(part) for part in denoiser.coefficients(torch.zeros(1), t))
    return OneStepForm(c_skip * z_scale, c_out, c_in * z_scale)


def level(policy: TorchPolicy) -> Tensor:
    """The level that a one-step policy asks at, as its network's time (1,)."""
    assert isinstance(policy.sampler, OneStep)  # one_step_form
    dtype = torch.int64 if isinstance(policy.denoiser.schedule, CosineDdpm) else torch.float32
    return torch.tensor([policy.sampler.level], dtype=dtype)


def scheduler_for(form: OneStepForm, name: str) -> Scheduler:
    """Options for ``form``; raises ``OneDPError`` when no scheduler computes it, saying what to distil instead.

    Without a skip the network predicts the sample. With one of more than 1, a schedule of a single step has it:
    ``x0 = (z - sigma eps) / alpha`` with alpha = 1 / skip.
    """
    common = {"noise_scheduler_type": "DDIM", "num_inference_steps": 1}
    if form.skip == 0:
        cosine = {
            "num_train_timesteps": 100,
            "beta_schedule": "squaredcos_cap_v2",
            "beta_start": 1e-4,
            "beta_end": 0.02,
        }
        return Scheduler({**common, **cosine, "prediction_type": "sample"}, form.gain)
    if not 1 < form.skip <= LARGEST_SKIP:
        raise OneDPError(
            f"{name} cannot be written as a LeRobot policy: its actions are {form.skip:.3g} times the input noise plus "
            "what the network says, and a scheduler there adds either none of the noise (networks that predict "
            f"actions) or 1 to {LARGEST_SKIP:g} times it (networks that predict noise). Distil a student that predicts "
            "actions: onedp distill TEACHER --parameterization x0 --out DIR"
        )
    alpha, variance = 1 / form.skip, 1 - 1 / form.skip**2
    single = {"num_train_timesteps": 1, "beta_schedule": "linear", "beta_start": variance, "beta_end": variance}
    return Scheduler({**common, **single, "prediction_type": "epsilon"}, -form.gain * alpha / variance**0.5)


@torch.no_grad()
def folded_unet(policy: TorchPolicy, form: OneStepForm, out: float) -> dict[str, Tensor]:
    """The U-Net's weights, by our names, such that ``F'(z, t = 0) = out F(scale z, level)``; float32.

    Raises ``OneDPError`` when the network is no U-Net or has a skip connection past the first convolutions, which would
    pass on the noise without their factor.
    """
    unet = policy.denoiser.backbone
    if not isinstance(policy.network, UnetConfig) or not isinstance(unet, Unet1d):
        raise OneDPError(
            f"{policy.name} has the network '{policy.network.kind}'; LeRobot's diffusion policy is the U-Net. Train a "
            "teacher with --network unet and distil that."
        )
    weights = {key: value.detach().double() for key, value in unet.state_dict().items()}
    embedding, first = unet.diffusion_step_encoder[0], "diffusion_step_encoder.1"
    times = torch.cat([policy.denoiser.schedule.network_time(level(policy)).float(), torch.zeros(1)])
    here, zero = embedding(times).double()
    weights[f"{first}.bias"] += weights[f"{first}.weight"] @ (here - zero)
    reading = ["down_modules.0.0.conv1.block.0.weight", "down_modules.0.0.residual_conv.weight"]
    if reading[1] not in weights and form.scale != 1:
        raise OneDPError(
            f"{policy.name} has as many channels in its first level as numbers in an action; its noise cannot be "
            "scaled there. Use a wider network."
        )
    for key in reading:
        if key in weights:
            weights[key] *= form.scale
    for key in ("final_conv.1.weight", "final_conv.1.bias"):
        weights[key] *= out
    return {key: value.float() for key, value in weights.items()}
