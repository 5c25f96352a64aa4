"""From a run's options to the windows it trains on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onedp.data.config import ReadingConfig, RecordedConfig
from onedp.data.episodes import Episodes, joined_episodes
from onedp.data.lazy import concatenated
from onedp.data.normalize import CONSTANT_RANGE, Normalizer, fit_normalizer
from onedp.data.readers import open_recording
from onedp.errors import DataError, TrainingError
from onedp.nets.config import EncoderConfig
from onedp.nets.encoder_choice import named_encoder, usual_encoder
from onedp.policy import TorchPolicy
from onedp.tasks import Task, get_task
from onedp.tasks.demonstrations import load_demonstrations, load_observations, load_own_observations
from onedp.tasks.recorded import RECORDED, policy_task, recorded_config, recorded_task
from onedp.train.config import StudentRun, TeacherRun
from onedp.train.windows import WindowTensors, joined, window_tensors
from onedp.types import PolicySpec


@dataclass(frozen=True)
class TeacherData:
    """What a teacher is trained on."""

    task: Task
    episodes: Episodes
    normalizer: Normalizer
    windows: WindowTensors
    encoder: EncoderConfig
    """As asked for, or the usual one for these observations."""


def teacher_data(run: TeacherRun) -> TeacherData:
    """Task, demonstrations, their statistics and the training windows; raises ``DataError``."""
    if run.task == RECORDED:
        task = recorded_task(run.data, run.reading, run.recorded)
    else:
        task = get_task(run.task)
        if not run.recorded.action.changes_nothing:
            raise TrainingError(
                f"The task '{run.task}' has actions of its own; other conventions of actions are for --task {RECORDED}."
            )
        if run.recorded.quaternions:
            raise TrainingError(
                f"The task '{run.task}' says itself where quaternions are; --quaternions is for --task {RECORDED}."
            )
    _require_demonstrations(run.data, run.reading)
    fields = dict(run.recorded.fields)
    episodes = load_demonstrations(run.data, task, False, run.reading, fields)
    recordings = [episodes]
    if run.mirror:
        recordings.append(load_demonstrations(run.data, task, True, run.reading, fields))
    arrays = {name: concatenated([each.arrays[name] for each in recordings]) for name in episodes.arrays}
    _require_movement(episodes, task.spec)
    normalizer = fit_normalizer(arrays, task.spec, run.normalization)
    encoder = chosen_encoder(run, task.spec)
    windows = joined([window_tensors(each, task.spec, normalizer, encoder.training_crop) for each in recordings])
    return TeacherData(task, episodes, normalizer, windows, encoder)


def _require_demonstrations(path: Path, reading: ReadingConfig) -> None:
    recording = open_recording(path, reading)
    if recording.policy:
        raise DataError(
            f"{recording.source} holds roll-outs of {recording.policy}, its failures among them, and a teacher would "
            "learn these. Expected demonstrations. Roll-outs are observations to distil on: onedp distill TEACHER "
            f"--beside {recording.source}"
        )


def _require_movement(episodes: Episodes, spec: PolicySpec) -> None:
    actions = episodes.dense(spec.action.name)
    if np.ptp(actions, axis=0).max() < CONSTANT_RANGE:
        raise DataError(
            f"'{spec.action.name}' is the same in all {len(actions)} steps, so there is nothing to learn. Expected "
            "demonstrations that move; check which array holds the actions (onedp inspect DATA)."
        )


def chosen_encoder(run: TeacherRun, spec: PolicySpec) -> EncoderConfig:
    """The run's encoder; one that is given by its name, or not at all, is made for the observations."""
    if run.encoder is not None and not isinstance(run.encoder, str):
        return run.encoder
    return named_encoder(run.encoder, spec, run.crop) if run.encoder else usual_encoder(spec, run.crop)


def student_observations(run: StudentRun, teacher: TorchPolicy) -> Episodes:
    """Observations to distil ``teacher`` on, of all recordings of ``run``; raises ``DataError``."""
    whole = dataclasses.replace(run.reading, split=None)
    beside = [_observations(path, whole, teacher) for path in run.beside]
    return joined_episodes([_observations(run.data, run.reading, teacher), *beside])


def _observations(data: Path, reading: ReadingConfig, teacher: TorchPolicy) -> Episodes:
    """Found as the teacher's were."""
    recorded = recorded_config(teacher.provenance)
    if teacher.task:
        fields = {} if recorded is None else recorded.fields
        return load_observations(data, get_task(teacher.task), reading, fields)
    if recorded is not None:
        return load_observations(data, policy_task(teacher.spec, recorded), reading)
    return load_own_observations(data, teacher.spec, reading)  # an imported policy without a task of ours


def data_provenance(episodes: Episodes, recorded: RecordedConfig | None) -> dict[str, Any]:
    """What a policy keeps about the data it was trained on."""
    found: dict[str, Any] = {
        "data_digest": episodes.digest(),
        "data_episodes": len(episodes),
        "data_steps": episodes.n_steps,
    }
    if episodes.skipped:
        found["data_skipped"] = list(episodes.skipped)
    if recorded is not None:
        found["recorded"] = dataclasses.asdict(recorded)
    return found
