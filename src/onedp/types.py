"""Core types. This module imports nothing of ours but errors and JSON, and no torch: a robot can import it.

Letters: B batch, T time, To observation steps, Tp predicted steps, Ta executed steps, Da action dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped
from numpy import ndarray

from onedp import typed_json
from onedp.errors import SpecError, unknown_choice

FIELD_DTYPES = ("float32", "float64", "uint8", "int32", "int64")


@dataclass(frozen=True)
class FieldSpec:
    """One named array of an observation, or the action, at one time step."""

    name: str
    shape: tuple[int, ...]
    unit: str
    """Physical unit in brackets-free form: "px", "rad", "m", "1" for none."""
    dtype: str = "float32"
    classes: int | None = None
    """Number of values 0, 1, ... of an index, such as the task of a multi-task policy (an integer dtype); None: a
    quantity."""
    goal_of: str | None = None
    """The observation whose wished future value this field is; None: it is no goal. Goals are constant over a chunk."""
    quaternions: tuple[int, ...] = dataclasses.field(default=(), compare=False)
    """Where in a vector unit quaternions (x, y, z, w) begin. A network reads their rotation, whose sign is no matter;
    the robot's numbers are the same with and without, so fields are equal."""

    def __post_init__(self) -> None:
        if self.dtype not in FIELD_DTYPES:
            raise SpecError(unknown_choice(f"dtype of the field '{self.name}'", self.dtype, FIELD_DTYPES))
        if not all(n >= 1 for n in self.shape):
            raise SpecError(f"The field '{self.name}' has the shape {self.shape}, expected sizes of at least 1.")
        if self.classes is not None and (self.classes < 1 or not np.issubdtype(self.dtype, np.integer)):
            raise SpecError(
                f"'{self.name}' has {self.classes} classes and the dtype {self.dtype}; an index has at least one class "
                "and a dtype of integers, such as int64."
            )
        room = np.diff([-4, *self.quaternions, self.size])
        if self.quaternions and (len(self.shape) != 1 or room.min() < 4):
            raise SpecError(f"'{self.name}' of shape {self.shape} has no room for quaternions at {self.quaternions}.")

    @property
    def size(self) -> int:
        """Number of scalars in one time step."""
        return int(np.prod(self.shape, dtype=np.int64))

    def convert(self, value: ndarray) -> ndarray:
        """Numbers from outside in the field's dtype, contiguous, any shape.

        Raises ``SpecError`` for NaN, infinity and what becomes it, and for another dtype where the field is not of
        floats: a picture of floats in [0, 1] cut down to bytes would be black.
        """
        if value.dtype != self.dtype and not (self.dtype.startswith("float") and value.dtype.kind in "bfiu"):
            raise SpecError(f"Observation '{self.name}' has dtype {value.dtype}, expected {self.dtype}.")
        with np.errstate(over="ignore"):  # too large for the dtype is infinity, which the next line names
            value = np.ascontiguousarray(value, dtype=self.dtype).reshape(value.shape)
        if not np.isfinite(value).all():
            raise SpecError(f"Observation '{self.name}' has NaN or infinity; the policy does not act on it.")
        if self.classes is not None and ((value < 0) | (value >= self.classes)).any():
            found = sorted({int(value.min()), int(value.max())})
            raise SpecError(
                f"Observation '{self.name}' has indices from {found[0]} to {found[-1]}, expected 0 to "
                f"{self.classes - 1}."
            )
        return value

    def nearest(self, value: ndarray) -> ndarray:
        """The values of the field's dtype and range next to ``value``, any shape."""
        if not np.issubdtype(self.dtype, np.integer):
            return value.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        low, high = (limits.min, limits.max) if self.classes is None else (0, self.classes - 1)
        return np.clip(np.rint(value), low, high).astype(self.dtype)

    def fake(self, shape: tuple[int, ...], rng: np.random.Generator) -> ndarray:
        """Random values of the field's dtype: any index, all of an integer's range, standard normal floats."""
        if self.classes is not None:
            return rng.integers(0, self.classes, shape, dtype=np.dtype(self.dtype))
        if np.issubdtype(self.dtype, np.integer):
            return rng.integers(0, np.iinfo(self.dtype).max, shape, dtype=np.dtype(self.dtype), endpoint=True)
        return rng.standard_normal(shape, dtype=np.float32).astype(self.dtype)

    @property
    def is_image(self) -> bool:
        """Whether this is a camera picture: uint8 of shape (height, width, channels), values 0 to 255."""
        return self.dtype == "uint8" and len(self.shape) == 3

    @property
    def is_point_cloud(self) -> bool:
        """Whether this is a set of points: floats of shape (points, 3 or 6), positions without or with colours.

        Keypoints that each mean something of their own belong in a flat vector.
        """
        return len(self.shape) == 2 and self.shape[1] in (3, 6) and self.dtype.startswith("float")

    @property
    def stats_shape(self) -> tuple[int, ...]:
        """Shape of its normalisation statistics: the field's own, or one number a channel for pictures and points."""
        if self.is_image or self.is_point_cloud:
            return (1,) * (len(self.shape) - 1) + self.shape[-1:]
        return self.shape


RESERVED_NAMES = ("noise", "chunk", "policy", "seed", "previous_actions", "previous_weights")
"""What the inputs and outputs of exported graphs and the options of requests are called."""
FASTEST_HZ = 1e6
LONGEST_HORIZON = 10_000


@dataclass(frozen=True)
class PolicySpec:
    """What goes into a policy and what comes out; the only source for sizes, names, units and timing."""

    observations: tuple[FieldSpec, ...]
    action: FieldSpec
    action_low: tuple[float, ...]
    """Lower action limits, physical units, one per action dimension."""
    action_high: tuple[float, ...]
    rate_hz: float
    """Control rate [Hz]."""
    horizon: int = 16
    """Tp: steps the network predicts, starting at the oldest observation."""
    n_obs_steps: int = 2
    """To: newest observations the policy sees."""
    n_action_steps: int = 8
    """Ta: steps executed before the policy is asked again."""

    def __post_init__(self) -> None:
        if self.n_obs_steps < 1 or self.n_action_steps < 1:
            raise SpecError(
                f"n_obs_steps ({self.n_obs_steps}) and n_action_steps ({self.n_action_steps}) must be at least 1."
            )
        if self.n_action_steps > self.chunk_length:
            raise SpecError(
                f"n_action_steps ({self.n_action_steps}) must be at most horizon - n_obs_steps + 1 = "
                f"{self.horizon} - {self.n_obs_steps} + 1 = {self.chunk_length}: the rest would never be predicted."
            )
        if not len(self.action_low) == len(self.action_high) == self.action_dim:
            raise SpecError(
                f"action limits have {len(self.action_low)} and {len(self.action_high)} entries, the action has "
                f"{self.action_dim}."
            )
        if not all(low < high for low, high in zip(self.action_low, self.action_high, strict=True)):
            raise SpecError(f"action limits {self.action_low} must lie below {self.action_high} in every dimension.")
        if not 0 < self.rate_hz <= FASTEST_HZ:
            raise SpecError(f"rate_hz is {self.rate_hz}, expected a control rate above 0 and up to {FASTEST_HZ:g} Hz.")
        if self.horizon > LONGEST_HORIZON:
            raise SpecError(f"horizon is {self.horizon:,}, expected at most {LONGEST_HORIZON:,} steps.")
        if reserved := sorted({field.name for field in self.observations} & set(RESERVED_NAMES)):
            raise SpecError(
                f"Observations cannot be named {reserved}: graphs and servers call their own inputs so. Rename them."
            )
        names = [field.name for field in (*self.observations, self.action)]
        if not self.observations or len(set(names)) != len(names) or len(self.action.shape) != 1:
            raise SpecError(
                f"The fields {names} must be at least one observation and one action, with names of their own, and the "
                f"action a vector (it has the shape {self.action.shape})."
            )

        for field in self.observations:
            self._check_goal(field)

    def _check_goal(self, field: FieldSpec) -> None:
        if field.goal_of is None:
            return
        wished = [each for each in self.observations if each.name == field.goal_of and each.goal_of is None]
        if not wished or (wished[0].shape, wished[0].dtype, wished[0].quaternions) != (
            field.shape, field.dtype, field.quaternions
        ):  # fmt: skip
            raise SpecError(
                f"'{field.name}' is the goal of '{field.goal_of}', which must be another observation of its shape "
                f"{field.shape}, dtype {field.dtype} and quaternions, and no goal itself; the observations are "
                f"{[each.name for each in self.observations]}."
            )

    @property
    def action_dim(self) -> int:
        """Da."""
        return self.action.size

    @property
    def chunk_length(self) -> int:
        """Steps of the chunk that ``infer`` returns: from the newest observation to the end of the prediction."""
        return self.horizon - self.n_obs_steps + 1

    @property
    def executed_steps(self) -> range:
        """Steps of a whole prediction (of ``horizon`` steps) that are executed before the next one."""
        return range(self.n_obs_steps - 1, self.n_obs_steps - 1 + self.n_action_steps)

    def fake_observation(self, batch: int, rng: np.random.Generator) -> dict[str, ndarray]:
        """Random observations of the right names, shapes and dtypes, for tests and warm-up; of no meaning."""
        return {field.name: field.fake((batch, self.n_obs_steps, *field.shape), rng) for field in self.observations}

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``spec.json``; ``from_json`` inverts it."""
        data = dataclasses.asdict(self)
        fields = [_field_to_json(field) for field in self.observations]
        return {**data, "observations": fields, "action": _field_to_json(self.action)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicySpec:
        """Rebuild a spec from ``to_json``; raises ``SpecError`` on unknown, missing and ill-typed entries."""
        return typed_json.from_json(cls, data, "The policy spec", SpecError)


def _field_to_json(field: FieldSpec) -> dict[str, Any]:
    """Without what a plain quantity lacks, so that its entry is as it always was."""
    plain = {"classes": None, "goal_of": None, "quaternions": ()}
    return {key: value for key, value in dataclasses.asdict(field).items() if key not in plain or value != plain[key]}


@runtime_checkable
class Policy(Protocol):
    """Everything that evaluation, export, serving and the robot know of a policy."""

    @property
    def spec(self) -> PolicySpec:
        """What goes in and what comes out."""
        ...

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise that one chunk consumes: (draws, Tp, Da)."""
        ...

    @property
    def nfe(self) -> int:
        """Network passes per chunk."""
        ...

    def infer(
        self, obs: Mapping[str, Shaped[ndarray, "b to ..."]], noise: Float32[ndarray, "b draws tp da"]
    ) -> Float32[ndarray, "b tc da"]:
        """Action chunk that starts now (the tick of the newest observation), physical units, inside the limits.

        Pure and batched: no queues, no hidden state. ``noise`` is standard normal of shape ``(B, *noise_shape)``.
        """
        ...


@dataclass(frozen=True)
class Continuation:
    """What was planned before, from now on, and how much of it a new chunk should keep."""

    actions: Float32[ndarray, "b tc da"]
    """One for each step of a chunk, physical units; of no account where the weight is 0."""
    weights: Float32[ndarray, "b tc"]
    """1: will be executed whatever comes; between: the nearer, the better; 0: free."""

    @classmethod
    def free(cls, spec: PolicySpec) -> Continuation:
        """One of a batch of one that keeps nothing."""
        actions = np.zeros((1, spec.chunk_length, spec.action_dim), dtype=np.float32)
        return cls(actions, np.zeros((1, spec.chunk_length), dtype=np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Continuation]) -> Continuation:
        """Those of several batches as one, in their order."""
        return cls(np.concatenate([part.actions for part in parts]), np.concatenate([part.weights for part in parts]))


@runtime_checkable
class ContinuingPolicy(Policy, Protocol):
    """A policy whose chunks can be made to go on from the one before. Pure and batched too."""

    def infer_continuing(
        self,
        obs: Mapping[str, Shaped[ndarray, "b to ..."]],
        noise: Float32[ndarray, "b draws tp da"],
        previous: Continuation,
    ) -> Float32[ndarray, "b tc da"]:
        """As ``infer``, drawn towards ``previous``."""
        ...


def episode_noise(seed: int, chunk: int, noise_shape: tuple[int, ...]) -> Float32[ndarray, "draws tp da"]:
    """Standard normal noise of one chunk of one episode, keyed by (seed, chunk number).

    From numpy's Philox, so every backend and every degree of parallelism replays the same noise. Raises ``SpecError``
    when seed or chunk is negative.
    """
    if not (0 <= seed < 2**64 and 0 <= chunk < 2**64):
        raise SpecError(f"The noise of seed {seed}, chunk {chunk} does not exist; both must be 0 to 2**64 - 1.")
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, chunk], dtype=np.uint64)))
    return generator.standard_normal(noise_shape, dtype=np.float32)
