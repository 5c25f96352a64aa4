"""Normalisation whose statistics travel inside the artifact. numpy only: the robot needs it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from onedp.data.config import NormalizationMode
from onedp.data.lazy import StepArray
from onedp.data.statistics import RunningStatistics
from onedp.errors import ArtifactError, DataError
from onedp.types import PolicySpec

CONSTANT_RANGE = 1e-6
"""A dimension that varies less than this is treated as constant: it maps to 0 and back to its value."""

STATISTICS = ("min", "max", "mean", "std")
BLOCK_STEPS = 65536


@dataclass(frozen=True)
class FieldStats:
    """Statistics of one field over the training data; arrays have the field's ``stats_shape``."""

    min: Float32[ndarray, ...]
    max: Float32[ndarray, ...]
    mean: Float32[ndarray, ...]
    std: Float32[ndarray, ...]

    @classmethod
    def of(cls, values: ndarray, shape: tuple[int, ...] | None = None) -> FieldStats:
        """Statistics over the first axis (steps) of ``(N, *shape)``; the values must be finite.

        With ``shape`` (1, 1, C): over the pixels of pictures ``(N, H, W, C)`` too.
        """
        shape = values.shape[1:] if shape is None else shape
        running = RunningStatistics(int(np.prod(shape, dtype=np.int64)))
        block = max(1, BLOCK_STEPS * len(running.count) // max(1, int(np.prod(values.shape[1:], dtype=np.int64))))
        for start in range(0, len(values), block):
            running.update(values[start : start + block])
        return cls(*(getattr(running, part).reshape(shape).astype(np.float32) for part in STATISTICS))


@dataclass(frozen=True)
class Normalizer:
    """Maps physical units to the network's and back, field by field.

    min_max: ``2 (x - min) / (max - min) - 1``, so training data lies in [-1, 1]; mean_std: ``(x - mean) / std``.
    """

    stats: Mapping[str, FieldStats]
    modes: Mapping[str, NormalizationMode]

    def constant_dimensions(self, name: str) -> list[int]:
        """Flat indices of dimensions that do not vary in the training data."""
        return np.flatnonzero(_is_constant(self.stats[name]).reshape(-1)).tolist()

    def scale_offset(self, name: str) -> tuple[ndarray, ndarray]:
        """Scale and offset with ``normalised = x * scale + offset``, float32; a constant dimension maps to 0."""
        centre, width = self.centre_width(name)
        return (1 / width).astype(np.float32), (-centre / width).astype(np.float32)

    def normalize(self, name: str, values: ndarray) -> ndarray:
        """Physical units to network units, float32 (computed in float64: ranges may be small beside their centre)."""
        centre, width = self.centre_width(name)
        return ((values - centre) / width).astype(np.float32)

    def unnormalize(self, name: str, values: ndarray) -> ndarray:
        """Network units to physical units, float32; inverts ``normalize``."""
        centre, width = self.centre_width(name)
        return (values * width + centre).astype(np.float32)

    def centre_width(self, name: str) -> tuple[ndarray, ndarray]:
        """float64 pair with ``normalised = (x - centre) / width``."""
        stats, mode = self.stats[name], self.modes[name]
        low, high, mean, std = (getattr(stats, part).astype(np.float64) for part in STATISTICS)
        if mode == "identity":
            return np.zeros_like(low), np.ones_like(low)
        centre, width = ((high + low) / 2, (high - low) / 2) if mode == "min_max" else (mean, std)
        return centre, np.where(_is_constant(stats), 1.0, width)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``norm_stats.json``."""
        return {
            name: {"mode": self.modes[name]} | {part: getattr(stats, part).tolist() for part in STATISTICS}
            for name, stats in self.stats.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], spec: PolicySpec) -> Normalizer:
        """Rebuild from ``to_json``; raises ``ArtifactError`` unless exactly the fields of ``spec`` have statistics."""
        fields = (*spec.observations, spec.action)
        names = {field.name for field in fields}
        if missing := sorted(names - set(data)):
            raise ArtifactError(
                f"norm_stats.json has no statistics for {missing}; it has {sorted(data)}. Without them the policy "
                "would see numbers in the wrong units. Restore the file or train again."
            )
        if unknown := sorted(set(data) - names):
            raise ArtifactError(
                f"norm_stats.json has statistics for {unknown}, which the policy does not use; it uses "
                f"{sorted(names)}. The file belongs to another policy; restore it or train again."
            )
        stats = {field.name: _read_stats(data[field.name], field.name, field.stats_shape) for field in fields}
        return cls(stats, {field.name: data[field.name]["mode"] for field in fields})


def _is_constant(stats: FieldStats) -> ndarray:
    return (stats.max.astype(np.float64) - stats.min) < CONSTANT_RANGE


def _read_stats(entry: Any, name: str, shape: tuple[int, ...]) -> FieldStats:
    if not isinstance(entry, Mapping):
        raise ArtifactError(f"norm_stats.json: '{name}' is not an object. Restore the file or train again.")
    if entry.get("mode") not in get_args(NormalizationMode):
        raise ArtifactError(
            f"norm_stats.json: '{name}' has the mode {entry.get('mode')!r}, expected one of "
            f"{', '.join(get_args(NormalizationMode))}. Restore the file or train again."
        )
    stats = FieldStats(**{part: _read_part(entry, name, part, shape) for part in STATISTICS})
    if (stats.min > stats.max).any() or (stats.std < 0).any():
        raise ArtifactError(
            f"norm_stats.json: '{name}' has a minimum above its maximum or a negative deviation. Restore the file or "
            "train again."
        )
    return stats


def _read_part(entry: Mapping[str, Any], name: str, part: str, shape: tuple[int, ...]) -> ndarray:
    if part not in entry:
        raise ArtifactError(f"norm_stats.json: '{name}' has no '{part}'. Restore the file or train again.")
    try:
        values = np.asarray(entry[part], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"norm_stats.json: '{part}' of '{name}' is not a list of numbers. Restore the file or train again."
        ) from error
    if values.shape == shape and not np.isfinite(values).all():
        raise ArtifactError(
            f"norm_stats.json: '{part}' of '{name}' holds NaN or infinity. Restore the file or train again."
        )
    if values.shape != shape:
        raise ArtifactError(
            f"norm_stats.json: '{part}' of '{name}' has shape {values.shape}, expected "
            f"{shape}. Restore the file or train again."
        )
    return values


PICTURE_RANGE = FieldStats(*(np.float32(value).reshape(1) for value in (0.0, 255.0, 127.5, 255 / 12**0.5)))
"""What all pictures are scaled by: bytes, evenly spread. Their own statistics would cost a pass over every video."""


def _with_unit_quaternions(stats: FieldStats, starts: Sequence[int]) -> FieldStats:
    """The same, but quaternions keep their values: scaled one by one, four numbers are no rotation any more."""
    places = np.add.outer(np.array(starts, dtype=np.int64), np.arange(4)).ravel()
    parts = {part: getattr(stats, part).copy() for part in STATISTICS}
    for part, value in zip(STATISTICS, (-1.0, 1.0, 0.0, 1.0), strict=True):
        parts[part][places] = value
    return FieldStats(**parts)


def fit_normalizer(
    arrays: Mapping[str, StepArray], spec: PolicySpec, mode: NormalizationMode = "min_max"
) -> Normalizer:
    """Statistics of every field of ``spec`` over all recorded steps; pictures are mapped from 0..255 to [-1, 1],
    an index and a quaternion are left as they are, a goal is scaled as what it is the goal of.

    Raises ``DataError`` when a field is missing, empty, of another shape or not finite.
    """
    stats: dict[str, FieldStats] = {}
    modes: dict[str, NormalizationMode] = {}
    for field in (*spec.observations, spec.action):
        values = arrays.get(field.goal_of or field.name)
        if values is None or values.shape[1:] != field.shape or len(values) == 0:
            found = "it is missing" if values is None else f"it has the shape {values.shape}"
            raise DataError(
                f"No statistics for '{field.name}': {found}; expected (steps, {', '.join(map(str, field.shape))})."
            )
        if field.is_image:
            parts = (np.broadcast_to(getattr(PICTURE_RANGE, part), field.stats_shape) for part in STATISTICS)
            stats[field.name], modes[field.name] = FieldStats(*(part.copy() for part in parts)), "min_max"
            continue
        values = np.asarray(values)
        stats[field.name] = _with_unit_quaternions(FieldStats.of(values, field.stats_shape), field.quaternions)
        modes[field.name] = mode if field.classes is None else "identity"
        if not np.isfinite(values).all():
            raise DataError(
                f"No statistics for '{field.name}': it has NaN or infinity. Look for the place with: onedp inspect DATA"
            )
    return Normalizer(stats, modes)
