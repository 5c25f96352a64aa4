"""What ``onedp inspect`` prints of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from onedp.cli.console import make_console, make_table
from onedp.data.config import NormalizationMode, ReadingConfig, RecordedConfig
from onedp.data.episodes import Episodes
from onedp.data.frame_cache import decode_all
from onedp.data.lazy import LazyArray
from onedp.data.normalize import Normalizer, fit_normalizer
from onedp.data.readers import open_recording
from onedp.data.recording import Recording, bad_sentences
from onedp.data.summary import (
    ArraySummary,
    StuckRun,
    find_quaternions,
    is_pictures,
    rate_from_timestamps,
    stuck_runs,
    summarize,
    summarize_recording,
)
from onedp.data.windows import window_index
from onedp.tasks import TASKS, get_task
from onedp.tasks.demonstrations import demonstration_warnings, load_demonstrations, load_observations
from onedp.tasks.fields import recorded_keys
from onedp.tasks.recorded import OBSERVATION_PREFIXES, RECORDED, recorded_task
from onedp.tasks.task import Task
from onedp.timing_table import timing_table


def inspect_data(
    path: Path,
    task_name: str | None,
    pictures: bool,
    reading: ReadingConfig,
    normalization: NormalizationMode,
    recorded: RecordedConfig,
) -> None:
    """Print the data set at ``path``, and how the task reads it when one is named.

    Episodes that cannot be used are listed and left out.
    """
    console = make_console()
    reading = replace(reading, skip_bad_episodes=True)
    task = _task(path, task_name, reading, recorded)
    recording = open_recording(path, reading)
    readable = [name for name in recording.headers if not recording.problem(name)]
    names = [name for name in readable if pictures or not is_pictures(recording.headers[name])]
    with console.status("decoding ..."):
        recording = _without_undecodable(recording, names)
    usable = recording.usable(names, skip=True)
    with console.status("reading ..."):
        summaries, digest = summarize_recording(usable, names)
        stuck: dict[str, list[StuckRun]] = {}
        turning: list[str] = []
        for name in names:
            if name in summaries and not is_pictures(recording.headers[name]):
                values = np.asarray(usable.read(name))
                stuck[name] = stuck_runs(values, usable.ends)
                turning += _quaternions(name, values, usable)
    _print_overview(console, usable, task)
    if task is None and (fitting := _fitting_tasks(recording)):
        console.print(f"Arrays and shapes fit {', '.join(fitting)}; for units and windows: --task {fitting[0]}\n")
    _print_arrays(console, recording, summaries, task)
    _print_ranges(console, summaries)
    for sentence in (*_stuck_warnings(stuck, usable), *usable.skipped, *_camera_warnings(recording, readable, names)):
        console.print(f"warning: {sentence}", style="yellow")
    for name, header in recording.headers.items():
        if name not in readable:
            console.print(f"warning: {recording.problem(name)}", style="yellow")
        if header.doubt:
            console.print(f"warning: '{name}' {header.doubt}", style="yellow")
    if task is None or task.name == RECORDED:
        for sentence in turning:
            console.print(f"note: {sentence}")
    left_out = sorted(set(recording.headers) - set(names))
    console.print(f"digest  {digest}" + (f"  (without {', '.join(left_out)})" if left_out else ""))
    if task is not None:
        _print_task(console, path, recording, task, reading, normalization)


def _without_undecodable(recording: Recording, names: list[str]) -> Recording:
    """Episodes whose pictures ``names`` cannot be decoded become bad ones; takes as long as decoding all."""
    bad = dict(recording.bad_episodes)
    for name in names:
        if recording.headers[name].is_lazy and isinstance(array := recording.read(name), LazyArray):
            known = {**bad, **recording.check_array(name)}
            bad |= {each: why for each, why in decode_all(array, recording, name).items() if each not in known}
    return replace(recording, bad_episodes=bad)


def _task(path: Path, name: str | None, reading: ReadingConfig, recorded: RecordedConfig) -> Task | None:
    if name == RECORDED:
        return recorded_task(path, reading, recorded)
    return get_task(name) if name else None


STUCK_STEPS = 20
"""A dimension that keeps one value for so long is worth a word, unless it often does."""


def _stuck_warnings(stuck: Mapping[str, list[StuckRun]], recording: Recording) -> list[str]:
    """One sentence for each array with dimensions that freeze for whole episodes or for long."""
    found = []
    for name, runs in stuck.items():
        frozen = [run for run in runs if run.whole_episodes or run.steps >= STUCK_STEPS]
        if not frozen or name in ROW_NUMBERS:
            continue
        worst = max(frozen, key=lambda run: run.steps)
        whole = max(run.whole_episodes for run in frozen)
        text = (
            f"'{name}' is stuck at times in the dimensions {[run.dimension for run in frozen]}: dimension "
            f"{worst.dimension} keeps one value for {worst.steps} steps from episode {worst.at.episode}, step "
            f"{worst.at.step} on"
        )
        found.append(
            text + (f"; up to {whole} of {len(recording.ends)} episodes are stuck throughout." if whole else ".")
        )
    return found


ROW_NUMBERS = ("episode_index", "task_index", "next.done", "next.success", "dones", "rewards", "next.reward")
"""Arrays that keep a value for whole episodes by their nature."""


def _quaternions(name: str, values: np.ndarray, recording: Recording) -> list[str]:
    """Where in observations quaternions look to be, and what to do about their signs."""
    field = name.removeprefix("obs/")
    return [
        f"'{name}' looks to hold a unit quaternion from {found.start} on, whose sign changes in "
        f"{found.sign_changes:.1%} of the steps. Networks read it as a rotation, whatever its sign, with "
        f"--task {RECORDED} --quaternions {field}:{found.start}"
        for found in find_quaternions(values, recording.ends)
        if name.startswith(OBSERVATION_PREFIXES)
    ]


def _camera_warnings(recording: Recording, readable: list[str], checked: list[str]) -> list[str]:
    """What is wrong with arrays whose rows were not read: missing frames of videos."""
    found = []
    for name in readable:
        if name in checked:
            continue
        found += bad_sentences(recording.check_array(name))
    return found


def _print_overview(console: Console, recording: Recording, task: Task | None) -> None:
    lengths = np.diff(recording.ends, prepend=0)
    stamped_hz = rate_from_timestamps(recording)
    if recording.rate_hz and stamped_hz:
        rate = f"{recording.rate_hz:.4g} Hz, as the data set says; {stamped_hz:.4g} Hz from the timestamps"
    elif recording.rate_hz:
        rate = f"{recording.rate_hz:.4g} Hz, as the data set says"
    else:
        rate = f"{stamped_hz:.4g} Hz, from the timestamps" if stamped_hz else "not recorded in the data"
    if task is not None:
        rate += f"; {task.name} runs at {task.spec.rate_hz:g} Hz"
    console.print(recording.source, style="bold")
    console.print(f"format    {recording.format}")
    console.print(f"episodes  {len(lengths):,}")
    console.print(f"steps     {int(lengths.sum()):,}")
    console.print(f"lengths   {lengths.min()} to {lengths.max()} steps, mean {lengths.mean():.1f}")
    console.print(f"rate      {rate}")
    for split, members in recording.splits.items():
        console.print(f"split     {split}: {len(members):,} episodes")
    for note in recording.notes:
        console.print(f"note      {note}")
    console.print()


def _fitting_tasks(recording: Recording) -> list[str]:
    """Tasks of the table whose raw arrays are there with the right shapes."""
    found = []
    for task in TASKS.values():
        names = (*task.raw_arrays, task.spec.action.name)
        keys = recorded_keys(recording, names)
        shapes = {name: recording.headers[key].shape[1:] for name, key in keys.items() if not recording.problem(key)}
        if (
            set(task.raw_arrays) <= set(shapes)
            and all(shapes[field.name] == field.shape for field in task.raw_fields)
            and shapes.get(task.spec.action.name, task.spec.action.shape) == task.spec.action.shape
        ):
            found.append(task.name)
    return found


def _units(task: Task | None) -> dict[tuple[str, tuple[int, ...]], str]:
    """(array, shape) to unit, as the given task has it; the data sets themselves do not say."""
    fields = () if task is None else (*task.raw_fields, *task.spec.observations, task.spec.action)
    return {(field.name, field.shape): field.unit for field in fields}


def _print_arrays(
    console: Console, recording: Recording, summaries: Mapping[str, ArraySummary], task: Task | None
) -> None:
    units = _units(task)
    table = make_table("Arrays", "name", ">each step", "type", "unit", ">NaN or inf", "constant dimensions", "note")
    for name, header in recording.headers.items():
        summary = summaries.get(name)
        note = ""
        if summary is None:
            note = "not readable, see below" if recording.problem(name) else "not read; to read it: --pictures"
        elif summary.first_not_finite is not None:
            place = summary.first_not_finite
            note = f"first NaN or inf in episode {place.episode}, step {place.step}"
        table.add_row(
            name,
            str(header.shape[1:]),
            header.dtype,
            units.get((name, header.shape[1:]), "unknown"),
            f"{summary.n_not_finite:,}" if summary else "?",
            (", ".join(map(str, summary.constant)) or "none") if summary else "?",
            note,
        )
    console.print(table)


def _print_ranges(console: Console, summaries: Mapping[str, ArraySummary]) -> None:
    table = make_table(
        "Ranges", "array", ">dimension", ">min", ">max", ">mean", ">std", ">largest jump", "to (episode, step)"
    )
    for name, summary in summaries.items():
        for index in range(len(summary.min)):
            numbers = (summary.min[index], summary.max[index], summary.mean[index], summary.std[index])
            jump, place = "", ""
            if summary.jump is not None:
                jump = f"{summary.jump[index]:.5g}"
                at = summary.jump_at[index]
                place = f"{at.episode}, {at.step}" if summary.jump[index] > 0 else ""
            dimension = str(index) if summary.jump is not None else "all"
            table.add_row(name if index == 0 else "", dimension, *(f"{x:.5g}" for x in numbers), jump, place)
        table.add_section()
    console.print(table)


def _print_task(
    console: Console,
    path: Path,
    recording: Recording,
    task: Task,
    reading: ReadingConfig,
    normalization: NormalizationMode,
) -> None:
    spec = task.spec
    with_actions = bool(recorded_keys(recording, [spec.action.name]))
    load = load_demonstrations if with_actions else load_observations
    episodes: Episodes = load(path, task, reading=reading)
    console.print(f"\nAs the task '{task.name}' reads it", style="bold")
    if not with_actions:
        console.print(f"No '{spec.action.name}': good for distillation, not for training a teacher.", style="yellow")
    fields = [field for field in (*spec.observations, spec.action) if field.name in episodes.arrays]
    table = make_table("Fields", "field", ">each step", "unit")
    for field in fields:
        table.add_row(field.name, str(field.shape), field.unit)
    console.print(table)
    summaries = {
        field.name: summarize([episodes.dense(field.name)], episodes.ends, field.size)
        for field in fields
        if not field.is_image
    }
    _print_ranges(console, summaries)
    if with_actions:
        _print_normalization(console, fit_normalizer(episodes.arrays, spec, normalization))
    console.print(window_index(episodes.ends, spec).summary())
    console.print(f"digest  {episodes.digest()}  (of these fields)")
    console.print(f"timing at {spec.rate_hz:g} Hz (step 0 is the newest observation)")
    console.print(timing_table(spec), soft_wrap=True)
    for warning in demonstration_warnings(episodes, spec):
        console.print(f"warning: {warning}", style="yellow")


def _print_normalization(console: Console, normalizer: Normalizer) -> None:
    table = make_table(
        "Normalisation: network = (value - centre) / width", "field", "mode", ">dimension", ">centre", ">width", "note"
    )
    for name in normalizer.stats:
        centre, width = (part.reshape(-1) for part in normalizer.centre_width(name))
        constant = normalizer.constant_dimensions(name)
        for index in range(len(centre)):
            first = (name, normalizer.modes[name]) if index == 0 else ("", "")
            note = "constant: always 0" if index in constant else ""
            table.add_row(*first, str(index), f"{centre[index]:.5g}", f"{width[index]:.5g}", note)
        table.add_section()
    console.print(table)
