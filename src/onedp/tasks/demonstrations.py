"""From a data set on disk to the fields of a task's spec, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray

from onedp.data.episodes import Episodes
from onedp.data.goals import with_goals
from onedp.data.normalize import CONSTANT_RANGE
from onedp.data.readers import open_recording
from onedp.data.recording import Recording
from onedp.data.windows import window_index
from onedp.errors import DataError, OneDPError
from onedp.tasks.task import Task
from onedp.types import FieldSpec, PolicySpec


def load_demonstrations(path: str | Path, task: Task, mirrored: bool = False) -> Episodes:
    """Observations and actions of a data set as exactly the fields of ``task.spec``, float32 and finite.

    Reads ``task.raw_arrays`` and the action only. A data set that lacks the raw arrays but holds the spec's own
    fields (recorded through the task's environment) is taken as it is. ``mirrored`` gives the same episodes in the
    task's mirror. Raises ``DataError``.
    """
    if mirrored and task.mirror is None:
        raise OneDPError(f"The task '{task.name}' has no mirror image of itself; train without --mirror.")
    return _load(path, task, (*task.spec.observations, task.spec.action), mirrored)


def load_observations(path: str | Path, task: Task) -> Episodes:
    """As ``load_demonstrations`` without the action, which need not be there: distillation reads observations only."""
    return _load(path, task, task.spec.observations)


def load_own_observations(path: str | Path, spec: PolicySpec) -> Episodes:
    """Observations of a data set that holds the fields of ``spec`` under their names; raises ``DataError``.

    For policies without a task of ours (imported ones).
    """
    recording = open_recording(path)
    fields = _recorded(spec.observations, recording)
    names = tuple(field.name for field in fields)
    recording.require(names, f" The policy needs its own observations {list(names)}.")
    arrays = {}
    for field, values in zip(fields, recording.episodes(names).arrays.values(), strict=True):
        if values.shape[1:] != field.shape:
            raise DataError(
                f"{recording.source}: '{field.name}' has the shape {values.shape[1:]} in each step, the policy expects "
                f"{field.shape}."
            )
        arrays[field.name] = _typed(field, values, recording.source)
    episodes = Episodes(arrays, recording.ends, recording.source)
    episodes.require_finite(names)
    return with_goals(episodes, spec)


def demonstration_warnings(episodes: Episodes, spec: PolicySpec) -> list[str]:
    """What is odd about loaded data but no reason to stop, one sentence each: for the caller to print.

    Constant dimensions, actions outside the limits, short episodes.
    """
    found: list[str] = []
    fields = [field for field in (*spec.observations, spec.action) if field.name in episodes.arrays]
    for field in fields:
        flat = episodes.arrays[field.name].reshape(episodes.n_steps, -1)
        constant = np.flatnonzero(flat.max(axis=0) - flat.min(axis=0) < CONSTANT_RANGE)
        if len(constant):
            found.append(
                f"'{field.name}' is constant in the dimensions {constant.tolist()} (value {flat[0, constant[0]]:g}): "
                "the policy cannot learn to use or move them."
            )
    if spec.action.name in episodes.arrays:
        action = episodes.arrays[spec.action.name]
        outside = np.flatnonzero(((action < spec.action_low) | (action > spec.action_high)).any(axis=1))
        if len(outside):
            episode, step = episodes.locate(int(outside[0]))
            found.append(
                f"'{spec.action.name}' is outside the limits {spec.action_low} to {spec.action_high} in {len(outside)} "
                f"steps, first in episode {episode}, step {step}: the policy clips to them. Check the unit."
            )
    short = int((episodes.lengths < spec.horizon).sum())
    if short:
        found.append(f"{short} of {len(episodes)} episodes are short. {window_index(episodes.ends, spec).summary()}")
    return found


def _load(path: str | Path, task: Task, fields: tuple[FieldSpec, ...], mirrored: bool = False) -> Episodes:
    recording = open_recording(path)
    fields = _recorded(fields, recording)
    names = tuple(field.name for field in fields)
    raw_names = task.raw_arrays + ((task.spec.action.name,) if task.spec.action.name in names else ())
    if not set(raw_names) <= set(recording.headers) and set(names) <= set(recording.headers):
        if mirrored:
            raise DataError(
                f"{recording.source}: --mirror needs {list(task.raw_arrays)}, the data set has the fields of "
                f"'{task.name}' only. Train without --mirror."
            )
        arrays: Mapping[str, ndarray] = recording.episodes(names).arrays
    else:
        _check_raw(recording, task, raw_names)
        raw = recording.episodes(raw_names)
        raw.require_finite(raw_names)
        arrays = _features(task, raw, mirrored)
    episodes = Episodes(
        {field.name: _checked(field, arrays, recording, task) for field in fields}, recording.ends, recording.source
    )
    episodes.require_finite(names)
    return with_goals(episodes, task.spec)


def _recorded(fields: tuple[FieldSpec, ...], recording: Recording) -> tuple[FieldSpec, ...]:
    """Without the goals that were not recorded, which are made of what was."""
    return tuple(field for field in fields if field.goal_of is None or field.name in recording.headers)


def _check_raw(recording: Recording, task: Task, raw_names: tuple[str, ...]) -> None:
    own = [field.name for field in task.spec.observations]
    recording.require(raw_names, f" The task '{task.name}' needs {list(raw_names)}, or its own fields {own}.")
    for name in raw_names:
        if doubt := recording.headers[name].doubt:
            raise DataError(f"{recording.source}: '{name}' {doubt}")
    for field in task.raw_fields:
        shape = recording.headers[field.name].shape[1:]
        if shape != field.shape:
            raise DataError(_wrong_shape(recording.source, field, shape, task))


def _wrong_shape(source: str, field: FieldSpec, shape: tuple[int, ...], task: Task) -> str:
    return (
        f"{source}: '{field.name}' has the shape {shape} in each step, the task '{task.name}' expects {field.shape} "
        f"[{field.unit}]. Is this the data set of another task? Expected: {task.demonstrations}."
    )


def _features(task: Task, raw: Episodes, mirrored: bool) -> dict[str, ndarray]:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity and is reported as such
            return task.features(task.mirror(raw.arrays) if mirrored and task.mirror else raw.arrays)
    except OneDPError:
        raise
    except Exception as error:  # a task from outside the package may raise anything
        shapes = {name: array.shape for name, array in raw.arrays.items()}
        raise DataError(
            f"{raw.source}: the task '{task.name}' cannot make its fields from {shapes} "
            f"({type(error).__name__}: {error}). Expected: {task.demonstrations}."
        ) from error


def _checked(field: FieldSpec, arrays: Mapping[str, ndarray], recording: Recording, task: Task) -> ndarray:
    """The field as float32, if it is there and has the right shape."""
    values = arrays.get(field.name)
    if values is None:
        raise DataError(
            f"{recording.source}: the features of the task '{task.name}' give {sorted(arrays)}, but its spec also has "
            f"'{field.name}'. Mend the task's features."
        )
    if values.shape[1:] != field.shape:
        raise DataError(_wrong_shape(recording.source, field, values.shape[1:], task))
    return _typed(field, values, recording.source)


def _typed(field: FieldSpec, values: ndarray, source: str) -> ndarray:
    """In the field's type; pictures must be 0 to 255 and indices in range, since a silent cast would change them."""
    if field.classes is not None:
        low, high = float(values.min()), float(values.max())
        if (values != np.rint(values)).any() or not (low >= 0 and high < field.classes):
            raise DataError(
                f"{source}: the indices '{field.name}' have values from {low:g} to {high:g}, expected whole numbers 0 "
                f"to {field.classes - 1}."
            )
    if field.is_image and values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and 1 < high <= 255):
            raise DataError(
                f"{source}: the pictures '{field.name}' have values from {low:g} to {high:g}, expected 0 to 255 "
                "(uint8)."
            )
        return np.rint(values).astype(np.uint8)
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=field.dtype)
