"""Checks of what a policy is given: observations and noise against its spec. Torch-free: a robot imports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import SpecError
from onedp.types import PolicySpec


def check_observation(spec: PolicySpec, obs: Mapping[str, ndarray]) -> int:
    """Return the batch size of ``obs``; raise ``SpecError`` unless names and shapes ``(B, To, *shape)`` fit."""
    expected = {field.name: (spec.n_obs_steps, *field.shape) for field in spec.observations}
    if set(obs) != set(expected):
        raise SpecError(
            f"Observation has the fields {sorted(obs)}, expected {sorted(expected)} "
            f"(missing {sorted(set(expected) - set(obs))}, unknown {sorted(set(obs) - set(expected))})."
        )
    batch_sizes = {name: np.shape(value)[0] if np.ndim(value) else -1 for name, value in obs.items()}
    for name, shape in expected.items():
        if np.shape(obs[name])[1:] != shape:
            hint = " Add the batch axis: value[None]." if np.shape(obs[name]) == shape else ""
            raise SpecError(
                f"Observation '{name}' has shape {np.shape(obs[name])}, expected (B, "
                f"{', '.join(map(str, shape))}): batch, {spec.n_obs_steps} observation steps, then the field.{hint}"
            )
    if len(set(batch_sizes.values())) != 1:
        raise SpecError(f"Observation fields disagree about the batch size: {batch_sizes}.")
    batch = next(iter(batch_sizes.values()))
    if batch < 1:
        raise SpecError("The observation has no rows (batch size 0), expected at least 1.")
    return batch


def checked_inputs(
    spec: PolicySpec, obs: Any, noise: Any, noise_shape: tuple[int, ...], sampler: str
) -> tuple[dict[str, ndarray], ndarray]:
    """What ``Policy.infer`` is given as arrays of the spec's dtypes; raise ``SpecError`` where they do not fit.

    ``noise_shape`` (draws, Tp, Da) is the policy's, ``sampler`` the label of its sampler, for the message.
    """
    if not isinstance(obs, Mapping):
        expected = sorted(field.name for field in spec.observations)
        raise SpecError(f"The observation is a {type(obs).__name__}, expected a mapping with the fields {expected}.")
    batch = check_observation(spec, obs)
    arrays = {field.name: field.convert(np.asarray(obs[field.name])) for field in spec.observations}
    noise = np.asarray(noise)
    if noise.dtype.kind not in "fiu":
        raise SpecError(f"Noise has dtype {noise.dtype}, expected float32.")
    if noise.shape != (batch, *noise_shape):
        raise SpecError(
            f"Noise has shape {noise.shape}, expected {(batch, *noise_shape)}: batch, draws of the "
            f"sampler {sampler}, horizon, action dimension."
        )
    with np.errstate(over="ignore"):
        noise = np.asarray(noise, dtype=np.float32)
    if not np.isfinite(noise).all():
        raise SpecError("Noise has NaN or infinity; the policy does not act on it.")
    return arrays, noise
