"""A task made of a data set alone, for robots of one's own: what was recorded is the spec, there is no environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from onedp.data.actions import to_learned
from onedp.data.config import ActionConvention, ReadingConfig, RecordedConfig
from onedp.data.lazy import StepArray
from onedp.data.readers import open_recording
from onedp.data.recording import Recording
from onedp.data.summary import rate_from_timestamps
from onedp.errors import DataError, OneDPError
from onedp.tasks import get_task
from onedp.tasks.fields import recorded_keys
from onedp.tasks.task import Environment, Task
from onedp.typed_json import from_json
from onedp.types import FieldSpec, PolicySpec

RECORDED = "recorded"
"""The name of this task on the command line."""

NO_ENVIRONMENT = (
    "This policy was trained on recorded data alone, so there is no environment to run it in. Judge it on held-out "
    "observations (onedp compare --data), or give it an environment: --task my_module:my_task."
)

OBSERVATION_PREFIXES = ("observation.", "obs/")


def recorded_task(path: str | Path, reading: ReadingConfig, config: RecordedConfig) -> Task:
    """The task of the data set at ``path``; raises ``DataError`` when it has no observations, actions or rate.

    Action limits are the range of the learned actions in the data.
    """
    recording = open_recording(path, reading)
    keys = _observations(recording, config)
    action_key = recorded_keys(recording, ["action"], config.fields).get("action")
    if action_key is None:
        raise DataError(
            f"{recording.source} has no 'action'; it has {sorted(recording.headers)}. Name it: --fields action NAME"
        )
    recording = recording.usable([*keys.values(), action_key], reading.skip_bad_episodes)
    fields = [_field(name, key, recording) for name, key in keys.items()]
    observations = _with_quaternions(recording, fields, keys, config.quaternions)
    rate_hz = config.rate_hz or recording.rate_hz or rate_from_timestamps(recording)
    if not rate_hz:
        raise DataError(
            f"{recording.source} does not say at how many steps a second it was recorded. Give it: --rate-hz 10"
        )
    action = _learned_actions(recording, action_key, config)
    low, high = action.min(axis=0), action.max(axis=0)
    level = high - low < 1e-6
    spec = PolicySpec(
        observations=observations,
        action=FieldSpec("action", action.shape[1:], "1"),
        action_low=tuple(float(x) for x in np.where(level, low - 1e-3, low)),
        action_high=tuple(float(x) for x in np.where(level, high + 1e-3, high)),
        rate_hz=float(rate_hz),
    )

    return policy_task(spec, config)


def policy_task(spec: PolicySpec, config: RecordedConfig) -> Task:
    """The task of a policy that was trained on recorded data alone, for other data like it."""

    def features(arrays: Mapping[str, StepArray]) -> dict[str, StepArray]:
        result = {each.name: _shaped(arrays[each.name], each) for each in spec.observations}
        if spec.action.name in arrays:
            result[spec.action.name] = learned_actions(arrays, config.action)
        return result

    names = [each.name for each in spec.observations]
    return Task(
        name=RECORDED,
        spec=spec,
        make_env=_no_environment,
        features=features,
        raw_arrays=tuple(dict.fromkeys((*names, *([config.action.state] if config.action.state else ())))),
        max_steps=1,
        demonstrations="recordings of the same arrays",
        recorded_as=config.fields,
    )


def reading_task(name: str, spec: PolicySpec, provenance: Mapping[str, Any]) -> Task:
    """The task with which data is read for a policy: the one it was trained on, or one made of its own fields.

    ``name`` is empty for policies that were trained on recorded data alone, or imported without a task of ours.
    """
    return get_task(name) if name else policy_task(spec, recorded_config(provenance) or RecordedConfig())


def has_environment(task: Task) -> bool:
    """False for tasks that are data alone."""
    return task.make_env is not _no_environment


def recorded_config(provenance: Mapping[str, Any]) -> RecordedConfig | None:
    """How a policy's data was read, from its provenance; None when it was not trained on recorded data alone."""
    if "recorded" not in provenance:
        return None
    return from_json(RecordedConfig, provenance["recorded"], "'recorded' in provenance.json")


def learned_actions(arrays: Mapping[str, StepArray], convention: ActionConvention) -> ndarray:
    """``arrays["action"]`` (N, Da) in the convention that the policy learns, float32."""
    action = np.asarray(arrays["action"], dtype=np.float64)
    action = action.reshape(len(action), -1)
    if convention.changes_nothing:
        return action.astype(np.float32)
    state = np.asarray(arrays[convention.state], dtype=np.float64) if convention.state else None
    return to_learned(convention, action, state).astype(np.float32)


def _learned_actions(recording: Recording, action_key: str, config: RecordedConfig) -> ndarray:
    """All learned actions that are finite; what is not is somebody else's error."""
    keys = {"action": action_key}
    if state := config.action.state:
        keys |= recorded_keys(recording, [state], config.fields)
        if state not in keys:
            raise DataError(
                f"{recording.source} has no '{state}' to take differences from; it has {sorted(recording.headers)}."
            )
    actions = learned_actions({name: np.asarray(recording.read(key)) for name, key in keys.items()}, config.action)
    finite = np.isfinite(actions).all(axis=1)
    if not finite.any():
        raise DataError(f"{recording.source}: '{action_key}' has no step of finite numbers.")
    return actions[finite]


def _observations(recording: Recording, config: RecordedConfig) -> dict[str, str]:
    """Observed field to recorded array."""
    names = [name for name in config.fields if name != "action"]
    if names:
        return recorded_keys(recording, names, config.fields)
    keys = [name for name in recording.headers if name.startswith(OBSERVATION_PREFIXES)]
    usable = [name for name in keys if not recording.problem(name)]
    if not usable:
        raise DataError(
            f"{recording.source} has no arrays that are named as observations (observation.* or obs/*) and can be "
            f"read; it has {sorted(recording.headers)}.{recording.hint} Name them: --fields state NAME"
        )
    if unusable := [name for name in keys if name not in usable]:
        chosen = " ".join(f"{name.removeprefix('obs/')} {name}" for name in usable)
        raise DataError(
            f"{recording.source}: {recording.problem(unusable[0]).rstrip('.')}. A policy without it would be another "
            f"one; if that is meant, name what it sees: --fields {chosen} action action"
        )
    return {name.removeprefix("obs/"): name for name in usable}


def _field(name: str, key: str, recording: Recording) -> FieldSpec:
    header = recording.headers[key]
    is_image = len(header.shape) == 4 and header.shape[3] == 3
    shape = header.shape[1:] or (1,)
    if header.is_lazy and not is_image:
        raise DataError(
            f"{recording.source}: '{key}' has the shape {shape} in each step. Pictures are read as (height, width, 3), "
            "colours last; convert it, or name the observations without it: --fields NAME ARRAY ..."
        )
    return FieldSpec(name, shape, "1", "uint8" if is_image else "float32")


def _with_quaternions(
    recording: Recording, fields: Sequence[FieldSpec], keys: Mapping[str, str], quaternions: Sequence[str]
) -> tuple[FieldSpec, ...]:
    """The same fields, which know of the ``quaternions`` (FIELD:PLACE) in them; raises ``DataError`` where none is."""
    places: dict[str, list[int]] = {field.name: [] for field in fields}
    for text in quaternions:
        name, colon, place = text.rpartition(":")
        if not colon or not place.isdecimal() or name not in places:
            raise DataError(
                f"--quaternions {text}: expected FIELD:PLACE with the index of x, such as {fields[0].name}:3; the "
                f"observations are {', '.join(places)}."
            )
        places[name].append(int(place))
    found = tuple(dataclasses.replace(field, quaternions=tuple(sorted(places[field.name]))) for field in fields)
    for field in found:
        for start in field.quaternions:
            lengths = np.linalg.norm(np.asarray(recording.read(keys[field.name]))[:, start : start + 4], axis=1)
            lengths = lengths[np.isfinite(lengths)]
            if lengths.size == 0 or np.abs(lengths - 1).max() > 0.01:
                seen = f"{lengths.min():.3g} to {lengths.max():.3g}" if lengths.size else "not finite"
                raise DataError(
                    f"--quaternions {field.name}:{start}: the four numbers from there have lengths of {seen}, a unit "
                    f"quaternion (x, y, z, w) has 1. See the ranges with: onedp inspect DATA"
                )
    return found


def _shaped(array: StepArray, spec: FieldSpec) -> StepArray:
    """Single numbers (N,) as vectors (N, 1)."""
    return array.reshape(len(array), *spec.shape) if isinstance(array, ndarray) and array.ndim == 1 else array


def _no_environment() -> Environment:
    raise OneDPError(NO_ENVIRONMENT)
