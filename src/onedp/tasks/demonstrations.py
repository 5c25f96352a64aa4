"""From a data set on disk to the fields of a task's spec, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy import ndarray

from onedp.data.config import ReadingConfig
from onedp.data.episodes import Episodes, locate, steps_not_finite
from onedp.data.frame_cache import with_frame_cache
from onedp.data.goals import with_goals
from onedp.data.lazy import LazyArray, StepArray, mapped
from onedp.data.normalize import CONSTANT_RANGE
from onedp.data.readers import open_recording
from onedp.data.recording import Recording
from onedp.data.windows import window_index
from onedp.errors import DataError, OneDPError
from onedp.tasks.fields import recorded_keys
from onedp.tasks.task import Task
from onedp.types import FieldSpec, PolicySpec


def load_demonstrations(
    path: str | Path,
    task: Task,
    mirrored: bool = False,
    reading: ReadingConfig | None = None,
    fields: Mapping[str, str] | None = None,
) -> Episodes:
    """Observations and actions of a data set as exactly the fields of ``task.spec``, float32 and finite.

    Reads ``task.raw_arrays`` and the action only. A data set that lacks the raw arrays but holds the spec's own
    fields (recorded through the task's environment) is taken as it is. ``mirrored`` gives the same episodes in the
    task's mirror. ``fields`` names the recorded array of a raw array or field where the usual names do not find it
    (``tasks.fields``). Raises ``DataError``.
    """
    if mirrored and task.mirror is None:
        raise OneDPError(f"The task '{task.name}' has no mirror image of itself; train without --mirror.")
    return _load(path, task, (*task.spec.observations, task.spec.action), mirrored, reading, fields)


def load_observations(
    path: str | Path, task: Task, reading: ReadingConfig | None = None, fields: Mapping[str, str] | None = None
) -> Episodes:
    """As ``load_demonstrations`` without the action, which need not be there: distillation reads observations only."""
    return _load(path, task, task.spec.observations, False, reading, fields)


def load_own_observations(path: str | Path, spec: PolicySpec, reading: ReadingConfig | None = None) -> Episodes:
    """Observations of a data set that holds the fields of ``spec`` under their names; raises ``DataError``.

    For policies without a task of ours (imported ones).
    """
    reading = reading or ReadingConfig()
    recording = open_recording(path, reading)
    fields = _recorded(spec.observations, recording)
    names = tuple(field.name for field in fields)
    keys = recorded_keys(recording, names)
    recording.require(
        [keys.get(name, name) for name in names], f" The policy needs its own observations {list(names)}."
    )
    recording = _usable(recording, tuple(keys.values()), reading)
    found = recording.episodes(dict.fromkeys(keys.values())).arrays
    arrays: dict[str, StepArray] = {}
    for field in fields:
        values = found[keys[field.name]]
        if isinstance(values, ndarray) and values.ndim == 1:
            values = values[:, None]  # single numbers
        if values.shape[1:] != field.shape:
            raise DataError(
                f"{recording.source}: '{field.name}' has the shape {values.shape[1:]} in each step, the policy expects "
                f"{field.shape}."
            )
        arrays[field.name] = _typed(field, values, recording.source)
    episodes = Episodes(arrays, recording.ends, recording.source, recording.skipped)
    episodes.require_finite(names)
    return with_goals(episodes, spec)


def demonstration_warnings(episodes: Episodes, spec: PolicySpec) -> list[str]:
    """What is odd about loaded data but no reason to stop, one sentence each: for the caller to print.

    Constant dimensions, actions outside the limits, short episodes.
    """
    found: list[str] = []
    if episodes.skipped:
        found.append(f"{len(episodes.skipped)} episodes were left out. {' '.join(episodes.skipped)}")
    fields = [field for field in (*spec.observations, spec.action) if field.name in episodes.arrays]
    for field in fields:
        if field.is_image:
            continue
        flat = episodes.dense(field.name).reshape(episodes.n_steps, -1)
        constant = np.flatnonzero(flat.max(axis=0) - flat.min(axis=0) < CONSTANT_RANGE)
        if len(constant):
            found.append(
                f"'{field.name}' is constant in the dimensions {constant.tolist()} (value {flat[0, constant[0]]:g}): "
                "the policy cannot learn to use or move them. Leave them out if they mean nothing."
            )
    if spec.action.name in episodes.arrays:
        action = episodes.dense(spec.action.name)
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


def _load(
    path: str | Path,
    task: Task,
    fields: tuple[FieldSpec, ...],
    mirrored: bool = False,
    reading: ReadingConfig | None = None,
    chosen: Mapping[str, str] | None = None,
) -> Episodes:
    reading = reading or ReadingConfig()
    recording = open_recording(path, reading)
    chosen = {**task.recorded_as, **(chosen or {})}
    fields = _recorded(fields, recording, chosen)
    names = tuple(field.name for field in fields)
    raw_names = task.raw_arrays + ((task.spec.action.name,) if task.spec.action.name in names else ())
    raw_keys, own_keys = (recorded_keys(recording, each, chosen) for each in (raw_names, names))
    as_raw, as_own = set(raw_keys) == set(raw_names), set(own_keys) == set(names)
    if as_raw and as_own:
        as_raw = _fits(recording, raw_keys, task.raw_fields) or not _fits(recording, own_keys, fields)
    if as_own and not as_raw:
        if mirrored:
            raise DataError(
                f"{recording.source}: --mirror needs {list(task.raw_arrays)}, the data set has the fields of "
                f"'{task.name}' only. Train without --mirror."
            )
        recording = _usable(recording, tuple(own_keys.values()), reading)
        found = recording.episodes(dict.fromkeys(own_keys.values())).arrays
        arrays: Mapping[str, StepArray] = {name: found[key] for name, key in own_keys.items()}
    else:
        keys = {name: raw_keys.get(name, name) for name in raw_names}
        _check_raw(recording, task, keys)
        recording = _usable(recording, tuple(keys.values()), reading)
        found = recording.episodes(dict.fromkeys(keys.values())).arrays
        raw = Episodes({name: found[key] for name, key in keys.items()}, recording.ends, recording.source)
        raw.require_finite(raw_names)
        arrays = _features(task, raw, mirrored)
    episodes = Episodes(
        {field.name: _checked(field, arrays, recording, task) for field in fields},
        recording.ends,
        recording.source,
        recording.skipped,
    )
    episodes.require_finite(names)
    return with_goals(episodes, task.spec)


def _recorded(
    fields: tuple[FieldSpec, ...], recording: Recording, chosen: Mapping[str, str] | None = None
) -> tuple[FieldSpec, ...]:
    """Without the goals that were not recorded, which are made of what was."""
    goals = recorded_keys(recording, [field.name for field in fields if field.goal_of is not None], chosen)
    return tuple(field for field in fields if field.goal_of is None or field.name in goals)


def _fits(recording: Recording, keys: Mapping[str, str], fields: Iterable[FieldSpec]) -> bool:
    """Whether the arrays of ``fields`` have their shapes."""
    shapes = {name: recording.headers[key].shape[1:] for name, key in keys.items()}
    return all(shapes[field.name] == field.shape for field in fields if field.name in shapes)


def _usable(recording: Recording, keys: tuple[str, ...], reading: ReadingConfig) -> Recording:
    """The episodes whose arrays ``keys`` can be used, with their pictures in the cache when there is one.

    Raises ``DataError`` at the first that cannot, unless they may be skipped.
    """
    skip = reading.skip_bad_episodes
    recording.require(keys)
    recording = recording.usable(keys, skip)
    if reading.frame_cache is not None:
        recording = with_frame_cache(recording, keys, reading.frame_cache).without_bad_episodes(skip)
    if not skip:
        return recording
    bad: dict[int, str] = {}
    for key in keys:
        for step in steps_not_finite(recording.read(key)).tolist():
            episode, step_in_episode = locate(recording.ends, step)
            bad.setdefault(episode, f"has NaN or infinity in '{key}', first at step {step_in_episode}")
    return replace(recording, bad_episodes=bad).without_bad_episodes(skip)


def _check_raw(recording: Recording, task: Task, keys: Mapping[str, str]) -> None:
    own = [field.name for field in task.spec.observations]
    recording.require(keys.values(), f" The task '{task.name}' needs {list(keys)}, or its own fields {own}.")
    for name in keys.values():
        if doubt := recording.headers[name].doubt:
            raise DataError(f"{recording.source}: '{name}' {doubt}")
    for field in task.raw_fields:
        shape = recording.headers[keys[field.name]].shape[1:]
        if shape != field.shape:
            raise DataError(_wrong_shape(recording.source, field, shape, task))


def _wrong_shape(source: str, field: FieldSpec, shape: tuple[int, ...], task: Task) -> str:
    return (
        f"{source}: '{field.name}' has the shape {shape} in each step, the task '{task.name}' expects {field.shape} "
        f"[{field.unit}]. Is this the data set of another task? Expected: {task.demonstrations}."
    )


def _features(task: Task, raw: Episodes, mirrored: bool) -> Mapping[str, StepArray]:
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


def _checked(field: FieldSpec, arrays: Mapping[str, StepArray], recording: Recording, task: Task) -> StepArray:
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


def _typed(field: FieldSpec, values: StepArray, source: str) -> StepArray:
    """In the field's type; pictures must be 0 to 255, since a silent cast would wrap or blacken them,
    and indices in range."""
    if field.classes is not None:
        _check_indices(np.asarray(values), field.classes, field.name, source)
    if field.is_image:
        if values.dtype == np.uint8:
            return values
        _as_bytes(values[:: max(1, len(values) // 8)], field.name, source)  # say it now, not at some batch
        if isinstance(values, LazyArray):
            return mapped(
                values, lambda rows: _as_bytes(rows, field.name, source, may_be_black=True), np.dtype(np.uint8)
            )
        return _as_bytes(values, field.name, source)
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=field.dtype)


def _check_indices(values: ndarray, classes: int, name: str, source: str) -> None:
    low, high = float(values.min()), float(values.max())
    if (values != np.rint(values)).any() or not (low >= 0 and high < classes):
        raise DataError(
            f"{source}: the indices '{name}' have values from {low:g} to {high:g}, expected whole numbers 0 to "
            f"{classes - 1}."
        )


def _as_bytes(values: ndarray, name: str, source: str, may_be_black: bool = False) -> ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and (may_be_black or high > 1) and high <= 255):
        raise DataError(
            f"{source}: the pictures '{name}' have values from {low:g} to {high:g}, expected 0 to 255 (uint8)."
        )
    return np.rint(values).astype(np.uint8)
