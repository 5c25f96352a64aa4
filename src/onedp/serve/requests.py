"""From a decoded message to arrays that a policy may be given, or to an error that says what to send instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.errors import ServeError, SpecError, unknown_choice
from onedp.observations import check_observation
from onedp.types import Continuation, ContinuingPolicy, FieldSpec, Policy, PolicySpec, episode_noise

OPTIONS = ("policy", "seed", "chunk", "noise", "previous_actions", "previous_weights")
"""Keys of a request that are no observations."""


@dataclass(frozen=True)
class Request:
    """A checked request."""

    policy: str
    obs: Mapping[str, ndarray]
    """``(B, To, *shape)`` a field, in the field's dtype, finite."""
    noise: ndarray
    """``(B, *noise_shape)``, float32."""
    noise_key: tuple[int, int] | None
    """(seed, chunk) of ``episode_noise``, unless the client sent the noise itself."""
    single: bool
    """The client sent no batch axis and gets none back."""
    previous: Continuation | None = None
    """What the chunks should go on from, for real-time chunking."""


@dataclass
class ConnectionNoise:
    """Noise of a connection whose client names none: its own seed, and a chunk number that counts up."""

    seed: int
    next_chunk: int = 0

    def next_key(self) -> tuple[int, int]:
        """(seed, chunk), every one once."""
        self.next_chunk += 1
        return self.seed, self.next_chunk - 1


def read_request(
    message: Any, policies: Mapping[str, Policy], connection_noise: ConnectionNoise, max_rows: int
) -> Request:
    """Check a decoded message. The first of ``policies`` is the default one.

    Raises ``ServeError`` or ``SpecError`` unless it is a map of the policy's observations, and of options in
    ``OPTIONS``, with the right names, shapes and finite numbers.
    """
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise ServeError("A request is a map of names to numpy arrays: the observations, and options.")
    name = message.get("policy", next(iter(policies)))
    if not isinstance(name, str) or name not in policies:
        raise ServeError(unknown_choice("policy", str(name)[:100], policies))
    spec = policies[name].spec
    fields = {key: value for key, value in message.items() if key not in OPTIONS}
    obs, single = _read_observation(fields, spec)
    rows = check_observation(spec, obs)
    if not 1 <= rows <= max_rows:
        raise ServeError(f"The request has {rows} observations, expected 1 to {max_rows}; send several requests.")
    noise, key = _read_noise(message, rows, policies[name].noise_shape, connection_noise)
    previous = _read_previous(message, rows, name, policies[name])
    return Request(policy=name, obs=obs, noise=noise, noise_key=key, single=single, previous=previous)


def _read_observation(fields: Mapping[str, Any], spec: PolicySpec) -> tuple[dict[str, ndarray], bool]:
    """The fields in their dtypes with a batch axis, and whether the client left it out in all of them."""
    expected = {field.name: field for field in spec.observations}
    obs = {
        name: _read_field(value, expected[name]) if name in expected else np.zeros(())  # named by check_observation
        for name, value in fields.items()
    }
    single = set(obs) == set(expected) and all(
        obs[name].shape == (spec.n_obs_steps, *field.shape) for name, field in expected.items()
    )
    return ({name: value[None] for name, value in obs.items()} if single else obs), single


def _read_field(value: Any, field: FieldSpec) -> ndarray:
    if not isinstance(value, ndarray):
        raise SpecError(f"Observation '{field.name}' is a {type(value).__name__}, expected a numpy array of numbers.")
    return field.convert(value)


def _read_previous(message: Mapping[str, Any], rows: int, name: str, policy: Policy) -> Continuation | None:
    given = [key for key in ("previous_actions", "previous_weights") if key in message]
    if not given:
        return None
    if len(given) == 1:
        raise ServeError(f"The request has {given[0]} alone; send previous_actions and previous_weights, or neither.")
    if not isinstance(policy, ContinuingPolicy):
        raise ServeError(f"The policy '{name}' cannot go on from the chunk before: only PyTorch policies can.")
    spec = policy.spec
    actions = _read_array(message["previous_actions"], "previous_actions", (rows, spec.chunk_length, spec.action_dim))
    weights = _read_array(message["previous_weights"], "previous_weights", (rows, spec.chunk_length))
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    rounding = 1e-3 * (high - low)
    beyond = (actions < low - rounding) | (actions > high + rounding)
    if (beyond & (weights > 0)[..., None]).any():  # those without weight are of no account
        raise SpecError("previous_actions are beyond the policy's limits of actions, so no chunk of it held them.")
    if weights.min() < 0 or weights.max() > 1:
        raise SpecError("previous_weights must be between 0 (free) and 1 (will be executed whatever comes).")
    return Continuation(actions, weights)


def _read_array(array: Any, key: str, shape: tuple[int, ...]) -> ndarray:
    """Finite float32 of ``shape``; its batch axis may be missing where it is 1. ``key``: its name in errors."""
    shapes = [shape, shape[1:]] if shape[0] == 1 else [shape]
    if not isinstance(array, ndarray) or array.shape not in shapes:
        given = array.shape if isinstance(array, ndarray) else type(array).__name__
        raise SpecError(f"{key} has shape {given}, expected {shape}.")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        array = array.astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise SpecError(f"{key} has NaN or infinity.")
    return array


def _read_noise(
    message: Mapping[str, Any], rows: int, noise_shape: tuple[int, ...], connection_noise: ConnectionNoise
) -> tuple[ndarray, tuple[int, int] | None]:
    if "noise" in message:
        if "seed" in message or "chunk" in message:
            raise ServeError("The request has both noise and a seed or chunk; send one of them.")
        return _read_array(message["noise"], "Noise", (rows, *noise_shape)), None
    if "seed" not in message and "chunk" in message:
        raise ServeError("The request has a chunk but no seed; send both, or none.")
    seed, chunk = (message["seed"], message.get("chunk", 0)) if "seed" in message else connection_noise.next_key()
    if type(seed) is not int or type(chunk) is not int:
        raise ServeError(f"seed and chunk must be whole numbers, not {seed!r:.40} and {chunk!r:.40}.")
    draws, *rest = noise_shape  # rows one after the other, so the first row is what a single observation gets
    return episode_noise(seed, chunk, (rows * draws, *rest)).reshape(rows, *noise_shape), (seed, chunk)
