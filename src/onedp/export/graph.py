"""A policy as one torch module of tensors only, shaped for a fast graph: physical units in, physical units out.

What ``TorchPolicy.infer`` does, in the same order: normalise, encode, sample, un-normalise, cut to the steps from now
on, clip to the action limits. The samplers are the package's own, as tables where they take several passes; only the
denoiser under them is another one, which knows beforehand at which noise levels it will be asked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from onedp.backends.policy import FEATURES
from onedp.diffusion.denoiser import Denoiser
from onedp.export.inputs import Normalize, centre_width
from onedp.export.layers import FOR_ONNXRUNTIME, Form, reshape_layers
from onedp.export.linear_sampler import read_off
from onedp.nets.dit import Dit
from onedp.nets.image_encoder import ImageEncoder
from onedp.nets.mlp import Mlp
from onedp.nets.unet1d import Unet1d
from onedp.policy import TorchPolicy


class PolicyGraph(nn.Module):
    """Observation fields in the spec's order and noise (if it draws any) to ``chunk`` (B, Tp - To + 1, Da).

    In place of pictures it takes their features (B, To, F), which ``CameraGraph`` makes once a frame.

    One pass is written out. Several are a loop: ``prepare``, then ``step`` once a pass, then ``finish``. What a pass
    needs of the earlier ones is in the history (B, draws + 2 passes, Tp, Da): noise, clipped answers, answers.
    """

    action_centre: Tensor
    action_width: Tensor
    action_low: Tensor
    action_high: Tensor
    weights: Tensor
    clipped_place: Tensor
    answer_place: Tensor

    def __init__(self, policy: TorchPolicy, form: Form = FOR_ONNXRUNTIME):
        super().__init__()
        self.spec = policy.spec
        self.draws = policy.sampler.draws
        self.passes = policy.sampler.nfe
        self.sampler = policy.sampler
        self.encoder = copy.deepcopy(policy.denoiser.encoder)
        table = read_off(policy.sampler, policy.denoiser)
        self.denoiser = FixedLevelDenoiser(policy, table.times)
        self.cameras = self.encoder.cameras if isinstance(self.encoder, ImageEncoder) else []
        self.scalers = nn.ModuleList(
            nn.Identity() if field.name in self.cameras else Normalize(policy.normalizer, field.name)
            for field in self.spec.observations
        )
        centre, width = centre_width(policy.normalizer, self.spec.action.name)
        self.register_buffer("action_centre", torch.from_numpy(centre.astype(np.float32)))
        self.register_buffer("action_width", torch.from_numpy(width.astype(np.float32)))
        self.register_buffer("action_low", torch.tensor(self.spec.action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.tensor(self.spec.action_high, dtype=torch.float32))
        self.register_buffer("weights", table.weights.float())
        places = torch.eye(self.draws + 2 * self.passes)[self.draws :, :, None, None]
        self.register_buffer("clipped_place", places[: self.passes].clone())
        self.register_buffer("answer_place", places[self.passes :].clone())
        reshape_layers(self, form)
        self.requires_grad_(False).eval()

    def example_inputs(self) -> dict[str, Tensor]:
        """Zeros under the names of the graph's inputs, batch 1."""
        inputs = {}
        for field in self.spec.observations:
            if isinstance(self.encoder, ImageEncoder) and field.name in self.cameras:
                inputs[FEATURES + field.name] = torch.zeros(1, self.spec.n_obs_steps, self.encoder.feature_dim)
            else:
                inputs[field.name] = torch.zeros(1, self.spec.n_obs_steps, *field.shape)
        if self.draws:
            inputs["noise"] = torch.zeros(1, self.draws, *self._chunk_shape())
        return inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.passes == 1:
            cond = self._encode(*inputs)
            noise = inputs[-1] if self.draws else cond.new_zeros(1, 0, *self._chunk_shape())
            self.denoiser.begin(cond)
            return self._actions(self.sampler.sample(self.denoiser, cond, noise))
        history, *prepared = self.prepare(*inputs)
        for level in range(self.passes):
            history = self.step(torch.tensor(level), history, *prepared)
        return self.finish(history)

    def prepare(self, *inputs: Tensor) -> list[Tensor]:
        """Empty history, and what passes need of the observation."""
        cond = self._encode(*inputs)
        empty = (0 * cond[:, :1, None, None]).expand(-1, 2 * self.passes, *self._chunk_shape())
        history = torch.cat([inputs[-1], empty], dim=1) if self.draws else empty
        return [history, *self.denoiser.backbone.prepare(cond)]  # type: ignore[operator]

    def step(self, level: Tensor, history: Tensor, *prepared: Tensor) -> Tensor:
        """The history after pass number ``level`` (0-d)."""
        answer = self.denoiser.answer(self._mix(level, history), level, list(prepared))
        clip = self.sampler.clip
        clipped = answer if clip is None else answer.clamp(-clip, clip)
        return history + self.clipped_place[level] * clipped[:, None] + self.answer_place[level] * answer[:, None]

    def finish(self, history: Tensor) -> Tensor:
        """Actions from the full history."""
        clip = self.sampler.clip
        nactions = self._mix(torch.tensor(self.passes), history)
        return self._actions(nactions if clip is None else nactions.clamp(-clip, clip))

    def _encode(self, *inputs: Tensor) -> Tensor:
        fields = inputs[: len(self.spec.observations)]
        nobs = {
            field.name: scale(value)
            for field, scale, value in zip(self.spec.observations, self.scalers, fields, strict=True)
        }
        if isinstance(self.encoder, ImageEncoder):
            return self.encoder.assemble(nobs, {name: nobs[name] for name in self.cameras})
        return self.encoder(nobs)

    def _mix(self, row: Tensor, history: Tensor) -> Tensor:
        return (self.weights[row] @ history.flatten(2)).unflatten(1, self._chunk_shape())

    def _actions(self, nactions: Tensor) -> Tensor:
        actions = nactions[:, self.spec.n_obs_steps - 1 :] * self.action_width + self.action_centre
        return torch.minimum(torch.maximum(actions, self.action_low), self.action_high)

    def _chunk_shape(self) -> tuple[int, int]:
        return self.spec.horizon, self.spec.action_dim


class FixedLevelDenoiser(Denoiser):
    """A denoiser that is always asked at the same levels in the same order, as every sampler of ours does.

    What depends on the level alone is a constant; what depends on the observation alone is computed once a chunk.
    A sampler of one pass calls ``begin``, then ``x0``, whose time is known and ignored; a loop calls ``answer``.
    """

    level_coefficients: Tensor

    def __init__(self, policy: TorchPolicy, times: list[Tensor]):
        source = policy.denoiser
        network_times = torch.stack([source.schedule.network_time(t) for t in times])
        backbone = copy.deepcopy(source.backbone)
        adapter = ADAPTERS.get(type(backbone), AnyBackbone)(backbone, network_times)
        super().__init__(nn.Identity(), adapter, source.schedule, source.parameterization, source.chunk_shape)
        probe = torch.zeros(1, 1, 1)
        rows = [torch.cat(source.coefficients(probe, t[None])).flatten() for t in times]
        self.register_buffer("level_coefficients", torch.stack(rows))  # c_skip, c_out, c_in
        self.noiseless = policy.sampler.draws == 0
        self.prepared: list[Tensor] = []

    def begin(self, cond: Tensor) -> None:
        """Start a chunk with the encoded observation (B, C)."""
        self.prepared = self.backbone.prepare(cond)  # type: ignore[operator]
        self.like = 0 * cond[:, :1, None]

    def x0(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Estimate of the clean chunk at the only level."""
        if self.noiseless:  # the sampler starts from one row of zeros, whatever the batch
            x_t = x_t + self.like
        return self.answer(x_t, torch.tensor(0), self.prepared)

    def answer(self, x_t: Tensor, level: Tensor, prepared: list[Tensor]) -> Tensor:
        """Estimate of the clean chunk at the level of that number (0-d)."""
        c_skip, c_out, c_in = self.level_coefficients[level].unbind()
        return c_skip * x_t + c_out * self.backbone(c_in * x_t, level, prepared)


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

    def forward(self, x: Tensor, level: Tensor, prepared: list[Tensor]) -> Tensor:
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

    def forward(self, x: Tensor, level: Tensor, prepared: list[Tensor]) -> Tensor:
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

    def forward(self, x: Tensor, level: Tensor, prepared: list[Tensor]) -> Tensor:
        cond = prepared[0]
        return self.backbone(x, self.times[level] + 0 * cond[:, 0], cond)


ADAPTERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Unet1d: UnetAtLevels,
    Mlp: EncodedConditionAtLevels,
    Dit: EncodedConditionAtLevels,
}
"""Backbone to its form at fixed levels; others go through ``AnyBackbone``."""
