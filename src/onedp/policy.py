"""The torch policy: a denoiser, a sampler and a spec behind ``infer``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from onedp.artifact import (
    Manifest,
    artifact_name,
    check_keys,
    read_manifest,
    read_weights,
    resolve_artifact,
    save_artifact,
)
from onedp.data.normalize import Normalizer
from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.few_step_samplers import Consistency
from onedp.diffusion.inpainting import sample_continuing, warm_noise
from onedp.diffusion.sampler_table import check_sampler, parse_sampler, sampler_from_json, sampler_to_json
from onedp.diffusion.samplers import Ddim, OneStep, Sampler
from onedp.diffusion.schedule import schedule_from_json, schedule_to_json
from onedp.errors import ArtifactError, OneDPError
from onedp.nets.build import build_denoiser, encoder_from_json, network_from_json, network_to_json
from onedp.nets.config import ActConfig, EncoderConfig, NetworkConfig, StateEncoderConfig
from onedp.nets.image_encoder import ImageEncoder
from onedp.nets.prefix import PrefixBackbone, with_plan, without_plan
from onedp.observations import checked_inputs
from onedp.seen_frames import SeenFrames
from onedp.types import Continuation, PolicySpec


@dataclass(frozen=True)
class TorchPolicy:
    """A policy that runs in PyTorch. Implements the ``Policy`` protocol."""

    name: str
    spec: PolicySpec
    task: str
    denoiser: Denoiser
    sampler: Sampler
    normalizer: Normalizer
    network: NetworkConfig
    provenance: Mapping[str, Any]
    device: torch.device
    encoder: EncoderConfig = field(default_factory=StateEncoderConfig)
    seen: SeenFrames | None = field(default=None, repr=False, compare=False)
    """Features of pictures seen before; only for weights that never change."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(draws, Tp, Da): standard normal noise that one chunk consumes."""
        return (self.sampler.draws, self.spec.horizon, self.spec.action_dim)

    @property
    def nfe(self) -> int:
        """Network passes per chunk."""
        return self.sampler.nfe

    def with_sampler(self, text: str) -> TorchPolicy:
        """The same weights behind another sampler, e.g. ``ddim:10``; raises ``OneDPError`` if they do not fit."""
        schedule: Any = self.denoiser.schedule
        sampler = parse_sampler(text, schedule)
        check_sampler(sampler, schedule)
        if isinstance(self.sampler, OneStep) and not isinstance(sampler, OneStep):
            raise OneDPError(
                f"{self.name} is a one-step student, so it answers at one noise level only; {text} would ask it at "
                f"others. Leave the sampler out, or sample its teacher."
            )
        sampler = replace(sampler, clip=self.sampler.clip)  # it belongs to the normalisation
        if isinstance(sampler, Ddim) and isinstance(self.sampler, Ddim):
            sampler = replace(sampler, recompute_eps=self.sampler.recompute_eps)  # how the checkpoint's own tools do it
        if isinstance(sampler, Consistency) and isinstance(self.sampler, Consistency) and sampler.nfe == self.nfe:
            if text.count(":") < 2:
                return self  # it keeps its own levels and noise scale
            if not self.sampler.noise_scale and sampler.noise_scale:
                raise OneDPError(f"{self.name} was trained without noise; {text} would give it some. Leave it out.")
            sampler = replace(self.sampler, noise_scale=sampler.noise_scale)
        if isinstance(sampler, OneStep) and isinstance(self.sampler, OneStep):
            if ":" not in text:
                return self  # a student keeps its own level and noise scale
            sampler = replace(sampler, input_scale=self.sampler.input_scale)
        return replace(self, sampler=sampler)

    def infer(self, obs: Mapping[str, Any], noise: Any) -> Float32[ndarray, "b tc da"]:
        """Action chunk from now on, ``(B, Tp - To + 1, Da)``, physical units, inside the action limits.

        ``obs``: the last To observations, physical units, ``(B, To, *shape)`` a field. ``noise``: standard normal
        ``(B, *noise_shape)``. Any array-like is converted. Raises ``SpecError`` when names or shapes differ from the
        spec or an input is not finite.
        """
        nobs, z = self._network_inputs(obs, noise)
        with torch.inference_mode():
            return self._actions(self.sampler.sample(self.denoiser, self._encode(nobs), z))

    def infer_continuing(
        self, obs: Mapping[str, Any], noise: Any, previous: Continuation
    ) -> Float32[ndarray, "b tc da"]:
        """As ``infer``, drawn towards ``previous``: by the network, if it learned that, or ``sample_continuing``."""
        nobs, z = self._network_inputs(obs, noise)
        target, weights = self._network_target(previous)
        with torch.no_grad():  # not inference_mode: guidance differentiates inside
            cond = self._encode(nobs)
            if self.reads_plans:
                return self._actions(self.sampler.sample(self.denoiser, with_plan(cond, target, weights), z))
            return self._actions(sample_continuing(self.sampler, self.denoiser, cond, z, target, weights))

    @property
    def reads_plans(self) -> bool:
        """Whether the network itself goes on from the chunk before."""
        return isinstance(self.denoiser.backbone, PrefixBackbone)

    def plain(self) -> TorchPolicy:
        """The policy without what its network knows of plans: the same ``infer``, an ordinary network."""
        if isinstance(self.network, ActConfig) or not self.network.prefix:
            return self
        network = replace(self.network, prefix=False)
        schedule, parameterization = self.denoiser.schedule, self.denoiser.parameterization
        denoiser = build_denoiser(network, self.spec, schedule, parameterization, self.encoder).to(self.device)
        return replace(self, network=network, denoiser=without_plan(self.denoiser, denoiser))

    def warm_noise(self, noise: ndarray, previous: Continuation) -> Float32[ndarray, "b draws tp da"]:
        """Noise that already holds ``previous``, noised to the input level of a one-step sampler.

        Raises ``OneDPError`` for samplers of many steps and for deterministic ones.
        """
        if not isinstance(self.sampler, OneStep) or not self.sampler.draws:
            others = "fresh or held" if self.sampler.draws else "fresh"
            raise OneDPError(
                f"A warm start needs a one-step sampler that reads noise, not {self.sampler.label}. Use {others} noise."
            )
        target, weights = self._network_target(previous)
        z = torch.from_numpy(np.asarray(noise, dtype=np.float32)).to(self.device)
        return warm_noise(self.sampler, self.denoiser, z, target, weights).cpu().numpy()

    def _network_inputs(self, obs: Mapping[str, Any], noise: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        arrays, noise = checked_inputs(self.spec, obs, noise, self.noise_shape, self.sampler.label)
        nobs = {
            name: torch.from_numpy(self.normalizer.normalize(name, values)).to(self.device)
            for name, values in arrays.items()
        }
        return nobs, torch.from_numpy(noise).to(self.device)

    def _network_target(self, previous: Continuation) -> tuple[torch.Tensor, torch.Tensor]:
        """What was planned, normalised, and its weights, over the network's own chunk: its past steps are free."""
        past = self.spec.n_obs_steps - 1
        actions = self.normalizer.normalize(self.spec.action.name, previous.actions)
        actions = np.pad(actions, ((0, 0), (past, 0), (0, 0)), mode="edge")
        weights = np.pad(previous.weights, ((0, 0), (past, 0)))
        return torch.from_numpy(actions).to(self.device), torch.from_numpy(weights).to(self.device)

    def _actions(self, nactions: torch.Tensor) -> Float32[ndarray, "b tc da"]:
        actions = self.normalizer.unnormalize(self.spec.action.name, nactions.cpu().numpy())
        actions = actions[:, self.spec.n_obs_steps - 1 :]  # (B, Tp - To + 1, Da)
        return np.clip(
            actions,
            np.asarray(self.spec.action_low, dtype=np.float32),
            np.asarray(self.spec.action_high, dtype=np.float32),
        )

    def _encode(self, nobs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The condition; features of frames seen before are not computed again."""
        encoder = self.denoiser.encoder
        if self.seen is None or not isinstance(encoder, ImageEncoder):
            return self.denoiser.encode(nobs)
        features = {}
        for camera in encoder.cameras:

            def encode(pictures: ndarray, camera: str = camera) -> ndarray:
                return encoder.camera_features(camera, torch.from_numpy(pictures).to(self.device)).cpu().numpy()

            features[camera] = self.seen.features(camera, nobs[camera].cpu().numpy(), encode)
        on_device = {name: torch.from_numpy(values).to(self.device) for name, values in features.items()}
        return encoder.assemble(nobs, on_device)


def load_policy(name: str | Path, sampler: str | None = None, device: str = "cpu") -> TorchPolicy:
    """Load a policy folder, or a shipped one by name; ``sampler`` replaces the stored one (``ddim:10``).

    Raises ``ArtifactError`` when anything is missing, damaged or does not fit, ``OneDPError`` for an unknown sampler
    or a device that is not there.
    """
    path = resolve_artifact(name)
    manifest = read_manifest(path)
    weights = read_weights(path, manifest)
    try:
        network = network_from_json(dict(manifest.network))
        encoder = encoder_from_json(dict(manifest.encoder))
        schedule = schedule_from_json(dict(manifest.process))
        own_sampler = sampler_from_json(dict(manifest.sampler))
        check_sampler(own_sampler, schedule)
        denoiser = build_denoiser(network, manifest.spec, schedule, manifest.parameterization, encoder)
    except OneDPError as error:
        raise ArtifactError(f"{path / 'spec.json'}: {error} Restore the file.") from error
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ArtifactError(f"{path / 'spec.json'} is not readable: {error}. Restore the file.") from error
    check_keys(weights, {key: tuple(value.shape) for key, value in denoiser.state_dict().items()}, path)
    denoiser.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    denoiser.requires_grad_(False).eval()
    policy = TorchPolicy(
        name=artifact_name(path),
        spec=manifest.spec,
        task=manifest.task,
        denoiser=denoiser.to(torch_device(device)),
        sampler=own_sampler,
        normalizer=manifest.normalizer,
        network=network,
        provenance=manifest.provenance,
        device=torch_device(device),
        encoder=encoder,
        seen=SeenFrames() if isinstance(denoiser.encoder, ImageEncoder) else None,
    )
    return policy if sampler is None else policy.with_sampler(sampler)


def save_policy(path: Path, policy: TorchPolicy, dtype: str = "float32") -> str:
    """Write a policy as an artifact; ``dtype`` float16 halves the file. Returns the digest of the weights."""
    schedule: Any = policy.denoiser.schedule
    sampler: Any = policy.sampler
    manifest = Manifest(
        spec=policy.spec,
        task=policy.task,
        network=network_to_json(policy.network),
        process=schedule_to_json(schedule),
        parameterization=policy.denoiser.parameterization,
        sampler=sampler_to_json(sampler),
        normalizer=policy.normalizer,
        provenance={**policy.provenance, "weights_dtype": dtype},
        encoder=network_to_json(policy.encoder),
    )
    weights = {key: value.cpu().numpy().astype(dtype) for key, value in policy.denoiser.state_dict().items()}
    return save_artifact(path, manifest, weights)


def torch_device(name: str) -> torch.device:
    """The device ``name`` (``cpu``, ``cuda``, ``cuda:1``, ``mps``); raises ``OneDPError`` when it is not there."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        if device.type == "mps":
            raise OneDPError("Apple's mps has no float64, which the samplers need. Use --device cpu.")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OneDPError(
            f"The device '{name}' cannot be used: {reason}. Use --device cpu or mend the driver."
        ) from error
    return device
