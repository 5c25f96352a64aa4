"""A policy as one torch module of tensors only, shaped for a fast graph: physical units in, physical units out.

What ``TorchPolicy.infer`` does, in the same order: normalise, encode, sample, un-normalise, cut to the steps from now
on, clip to the action limits. The samplers are the package's own; only the denoiser under them is another one, which
knows beforehand at which noise levels it will be asked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from onedp.data.normalize import Normalizer
from onedp.diffusion.denoiser import Denoiser
from onedp.export.layers import reshape_layers
from onedp.nets.dit import Dit
from onedp.nets.mlp import Mlp
from onedp.nets.unet1d import Unet1d
from onedp.policy import TorchPolicy


class PolicyGraph(nn.Module):
    """Observation fields in the spec's order and noise (if it draws any) to ``chunk`` (B, Tp - To + 1, Da)."""

    action_centre: Tensor
    action_width: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(self, policy: TorchPolicy, fast_mish: bool = True):
        super().__init__()
        self.spec = policy.spec
        self.draws = policy.sampler.draws
        self.sampler = policy.sampler
        self.encoder = copy.deepcopy(policy.denoiser.encoder)
        self.denoiser = FixedLevelDenoiser(policy)
        self.scalers = nn.ModuleList(_Normalize(policy.normalizer, field.name) for field in self.spec.observations)
        centre, width = _centre_width(policy.normalizer, self.spec.action.name)
        self.register_buffer("action_centre", torch.from_numpy(centre.astype(np.float32)))
        self.register_buffer("action_width", torch.from_numpy(width.astype(np.float32)))
        self.register_buffer("action_low", torch.tensor(self.spec.action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.tensor(self.spec.action_high, dtype=torch.float32))
        reshape_layers(self, fast_mish)
        self.requires_grad_(False).eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        fields = inputs[: len(self.spec.observations)]
        nobs = {
            field.name: scale(value)
            for field, scale, value in zip(self.spec.observations, self.scalers, fields, strict=True)
        }
        cond = self.encoder(nobs)
        noise = inputs[-1] if self.draws else cond.new_zeros(1, 0, *self._chunk_shape())
        self.denoiser.begin(cond)
        nactions = self.sampler.sample(self.denoiser, cond, noise)
        actions = nactions[:, self.spec.n_obs_steps - 1 :] * self.action_width + self.action_centre
        return torch.minimum(torch.maximum(actions, self.action_low), self.action_high)

    def _chunk_shape(self) -> tuple[int, int]:
        return self.spec.horizon, self.spec.action_dim


class _Normalize(nn.Module):
    """``(x - centre) / width`` as the normaliser does it in float64, here in float32 with the centre in two parts.

    A range may be narrow beside its centre, where one float32 centre would cost digits.
    """

    centre_high: Tensor
    centre_low: Tensor
    gain: Tensor

    def __init__(self, normalizer: Normalizer, name: str):
        super().__init__()
        centre, width = _centre_width(normalizer, name)
        high = centre.astype(np.float32)
        self.register_buffer("centre_high", torch.from_numpy(high))
        self.register_buffer("centre_low", torch.from_numpy((centre - high).astype(np.float32)))
        self.register_buffer("gain", torch.from_numpy((1 / width).astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.centre_high) - self.centre_low) * self.gain


def _centre_width(normalizer: Normalizer, name: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 centre and width with ``normalised = (x - centre) / width``."""
    centre, width = normalizer.centre_width(name)
    return np.asarray(centre, dtype=np.float64), np.asarray(width, dtype=np.float64)


class FixedLevelDenoiser(Denoiser):
    """A denoiser that is always asked at the same levels in the same order, as every sampler of ours does.

    What depends on the level alone is a constant; what depends on the observation alone is computed once a chunk.
    ``begin`` starts a chunk, then ``x0`` answers call after call; the time it is given is the recorded one and ignored.
    """

    def __init__(self, policy: TorchPolicy):
        source = policy.denoiser
        levels = record_levels(policy)
        network_times = torch.stack([source.schedule.network_time(t) for t in levels])
        backbone = copy.deepcopy(source.backbone)
        adapter = ADAPTERS.get(type(backbone), AnyBackbone)(backbone, network_times)
        super().__init__(nn.Identity(), adapter, source.schedule, source.parameterization, source.chunk_shape)
        probe = torch.zeros(1, 1, 1)
        self.level_coefficients = [[float(c) for c in source.coefficients(probe, t[None])] for t in levels]
        self.noiseless = policy.sampler.draws == 0
        self.calls = 0
        self.prepared: list[Tensor] = []

    def begin(self, cond: Tensor) -> None:
        """Start a chunk with the encoded observation (B, C)."""
        self.calls = 0
        self.prepared = self.backbone.prepare(cond)  # type: ignore[operator]

    def x0(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Estimate of the clean chunk at the next recorded level."""
        c_skip, c_out, c_in = self.level_coefficients[self.calls]
        if self.noiseless:  # the sampler starts from one row of zeros, whatever the batch
            x_t = x_t + 0 * cond[:, :1, None]
        raw = self.backbone(c_in * x_t, self.calls, self.prepared)
        self.calls += 1
        return c_skip * x_t + c_out * raw


def record_levels(policy: TorchPolicy) -> list[Tensor]:
    """The times (0-d tensors) at which the policy's sampler asks its denoiser, in order."""
    probe = _Recorder(policy.denoiser)
    shape = (1, policy.sampler.draws, policy.spec.horizon, policy.spec.action_dim)
    policy.sampler.sample(probe, torch.zeros(1, 1), torch.zeros(shape))
    return probe.times


class _Recorder(Denoiser):
    def __init__(self, source: Denoiser):
        super().__init__(nn.Identity(), nn.Identity(), source.schedule, source.parameterization, source.chunk_shape)
        self.times: list[Tensor] = []

    def x0(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.times.append(t[0])
        return x_t


class UnetAtLevels(nn.Module):
    """The U-Net at fixed levels: the step embedding's share of every FiLM layer is a constant row for each level.

    The FiLM layers read the same vector, so they are one matrix product.
    """

    level_part: Tensor
    cond_weight: Tensor

    def __init__(self, unet: Unet1d, network_times: Tensor):
        super().__init__()
        blocks = unet.residual_blocks()
        step = unet.diffusion_step_encoder(network_times)  # (levels, E)
        activation, linears = blocks[0].cond_encoder[0], [cast(nn.Linear, block.cond_encoder[1]) for block in blocks]
        weight = torch.cat([layer.weight for layer in linears])  # (sum of 2 C_out, E + C)
        bias = torch.cat([layer.bias for layer in linears])
        self.sizes = [layer.out_features for layer in linears]
        size = step.shape[1]
        self.register_buffer("level_part", (activation(step) @ weight[:, :size].T + bias).detach())
        self.register_buffer("cond_weight", weight[:, size:].T.contiguous().detach())
        self.activation = activation
        self.unet = unet
        for block in blocks:
            block.cond_encoder = nn.Sequential()
        unet.diffusion_step_encoder = nn.Identity()  # type: ignore[assignment]

    def prepare(self, cond: Tensor) -> list[Tensor]:
        """What depends on the observation alone."""
        return [self.activation(cond) @ self.cond_weight]

    def forward(self, x: Tensor, level: int, prepared: list[Tensor]) -> Tensor:
        film = prepared[0] + self.level_part[level]
        return self.unet.modulated(x, list(film.split(self.sizes, dim=-1)))


class EncodedConditionAtLevels(nn.Module):
    """An MLP or DiT at fixed levels: the step embedding's share of its first condition layer is a constant."""

    level_part: Tensor
    cond_weight: Tensor

    def __init__(self, network: Mlp | Dit, network_times: Tensor):
        super().__init__()
        first = cast(nn.Linear, network.cond_encoder[0])
        step = network.step_encoder(network_times)
        size = step.shape[1]
        self.register_buffer("level_part", (step @ first.weight[:, :size].T + first.bias).detach())
        self.register_buffer("cond_weight", first.weight[:, size:].T.contiguous().detach())
        self.rest = network.cond_encoder[1:]
        network.cond_encoder = nn.Sequential()
        self.network = network

    def prepare(self, cond: Tensor) -> list[Tensor]:
        """What depends on the observation alone."""
        return [cond @ self.cond_weight]

    def forward(self, x: Tensor, level: int, prepared: list[Tensor]) -> Tensor:
        return self.network.modulated(x, self.rest(prepared[0] + self.level_part[level]))


class AnyBackbone(nn.Module):
    """A backbone without a special form: asked as it is, the level as a constant."""

    times: Tensor

    def __init__(self, backbone: nn.Module, network_times: Tensor):
        super().__init__()
        self.backbone = backbone
        self.register_buffer("times", network_times)

    def prepare(self, cond: Tensor) -> list[Tensor]:
        """The condition itself."""
        return [cond]

    def forward(self, x: Tensor, level: int, prepared: list[Tensor]) -> Tensor:
        cond = prepared[0]
        return self.backbone(x, self.times[level] + 0 * cond[:, 0], cond)


ADAPTERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Unet1d: UnetAtLevels,
    Mlp: EncodedConditionAtLevels,
    Dit: EncodedConditionAtLevels,
}
"""Backbone to its form at fixed levels; others go through ``AnyBackbone``."""
