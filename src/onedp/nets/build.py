"""From a network config and a policy spec to a denoiser's modules: one line per network."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from torch import nn

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.schedule import NoiseSchedule
from onedp.errors import OneDPError
from onedp.nets.act import Act
from onedp.nets.config import (
    ENCODERS,
    NETWORKS,
    ActConfig,
    DitConfig,
    EncoderConfig,
    ImageEncoderConfig,
    MlpConfig,
    NetworkConfig,
    PointEncoderConfig,
    StateEncoderConfig,
    UnetConfig,
)
from onedp.nets.dit import Dit
from onedp.nets.fields_encoder import FieldsEncoder
from onedp.nets.gaussian import GaussianHead
from onedp.nets.image_encoder import ImageEncoder
from onedp.nets.mlp import Mlp
from onedp.nets.point_encoder import PointEncoder
from onedp.nets.prefix import PrefixBackbone, plan_size
from onedp.nets.state_encoder import StateEncoder
from onedp.nets.unet1d import Unet1d
from onedp.typed_json import kind_from_json
from onedp.types import PolicySpec


def build_backbone(config: NetworkConfig, spec: PolicySpec, cond_dim: int) -> nn.Module:
    """Untrained backbone; raises ``OneDPError`` when the horizon does not fit the U-Net's depth."""
    if not isinstance(config, ActConfig) and config.gaussian:
        action = replace(spec.action, shape=(2 * spec.action_dim,))
        wide = replace(spec, action=action, action_low=2 * spec.action_low, action_high=2 * spec.action_high)
        return GaussianHead(build_backbone(replace(config, gaussian=False), wide, cond_dim))
    if not isinstance(config, ActConfig) and config.prefix:
        plan = plan_size(spec)
        return PrefixBackbone(build_backbone(replace(config, prefix=False), spec, cond_dim + plan), cond_dim, plan)
    return _network(config, spec, cond_dim)


def _network(config: NetworkConfig, spec: PolicySpec, cond_dim: int) -> nn.Module:
    """The network itself, without what ``build_backbone`` puts around it."""
    if isinstance(config, UnetConfig):
        factor = 2 ** (len(config.channels) - 1)
        if spec.horizon % factor:
            raise OneDPError(
                f"The U-Net halves the chunk {len(config.channels) - 1} times, so the horizon must be divisible by "
                f"{factor}; it is {spec.horizon}."
            )
        return Unet1d(
            spec.action_dim,
            cond_dim,
            config.channels,
            config.step_embed_dim,
            config.kernel_size,
            config.n_groups,
            config.film_scale,
            config.final_groups,
        )
    if isinstance(config, MlpConfig):
        return Mlp(
            spec.horizon,
            spec.action_dim,
            cond_dim,
            config.width,
            config.blocks,
            config.expansion,
            config.step_embed_dim,
        )
    if isinstance(config, DitConfig):
        return Dit(
            spec.horizon,
            spec.action_dim,
            cond_dim,
            config.width,
            config.blocks,
            config.heads,
            config.expansion,
            config.step_embed_dim,
        )
    if isinstance(config, ActConfig):
        return Act(
            spec.horizon,
            spec.action_dim,
            cond_dim,
            spec.n_obs_steps,
            config.width,
            config.heads,
            config.expansion,
            config.encoder_blocks,
            config.decoder_blocks,
            config.latent_dim,
        )
    raise OneDPError(f"No builder for the network config {type(config).__name__}.")


def build_encoder(config: EncoderConfig, spec: PolicySpec) -> FieldsEncoder:
    """Untrained encoder; raises ``OneDPError`` when it cannot read the spec's observations."""
    if isinstance(config, ImageEncoderConfig):
        return ImageEncoder(config, spec)
    if isinstance(config, PointEncoderConfig):
        return PointEncoder(config, spec)
    return StateEncoder(spec)


def build_denoiser(
    config: NetworkConfig,
    spec: PolicySpec,
    schedule: NoiseSchedule,
    parameterization: str,
    encoder_config: EncoderConfig | None = None,
) -> Denoiser:
    """Untrained denoiser; without ``encoder_config`` the observations must be low-dimensional."""
    encoder = build_encoder(encoder_config or StateEncoderConfig(), spec)
    backbone = build_backbone(config, spec, encoder.output_dim)
    return Denoiser(encoder, backbone, schedule, parameterization, (spec.horizon, spec.action_dim))


def network_to_json(config: NetworkConfig | EncoderConfig) -> dict[str, Any]:
    """Plain data for ``spec.json``; without ``prefix`` where it is off, which older packages do not know."""
    data = {"kind": config.kind, **asdict(config)}
    return {name: value for name, value in data.items() if name != "prefix" or value}


def network_from_json(data: dict[str, Any]) -> NetworkConfig:
    """Inverts ``network_to_json``; raises ``ArtifactError`` on an unknown kind or entry, or one of a wrong type."""
    return kind_from_json(NETWORKS, data, "network")


def encoder_from_json(data: dict[str, Any]) -> EncoderConfig:
    """As ``network_from_json``, for encoders."""
    return kind_from_json(ENCODERS, data, "encoder")
