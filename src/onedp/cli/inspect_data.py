"""What ``onedp inspect`` prints of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from onedp.cli.console import make_console, make_table
from onedp.data.episodes import Episodes
from onedp.data.readers import open_recording
from onedp.data.recording import Recording
from onedp.data.summary import ArraySummary, is_pictures, rate_from_timestamps, summarize, summarize_recording
from onedp.data.windows import window_index
from onedp.tasks import TASKS, get_task
from onedp.tasks.demonstrations import demonstration_warnings, load_demonstrations, load_observations
from onedp.tasks.task import Task


def inspect_data(path: Path, task_name: str | None, pictures: bool) -> None:
    """Print the data set at ``path``, and how the task reads it when one is named."""
    console = make_console()
    task = get_task(task_name) if task_name else None
    recording = open_recording(path)
    readable = [name for name in recording.headers if not recording.problem(name)]
    names = [name for name in readable if pictures or not is_pictures(recording.headers[name])]
    with console.status("reading ..."):
        summaries, digest = summarize_recording(recording, names)
        rate_hz = rate_from_timestamps(recording)
    _print_overview(console, recording, rate_hz, task)
    if task is None and (fitting := _fitting_tasks(recording)):
        console.print(f"Arrays and shapes fit {', '.join(fitting)}; for units and windows: --task {fitting[0]}\n")
    _print_arrays(console, recording, summaries, task)
    _print_ranges(console, summaries, recording.ends)
    for name, header in recording.headers.items():
        if name not in readable:
            console.print(f"warning: {recording.problem(name)}", style="yellow")
        if header.doubt:
            console.print(f"warning: '{name}' {header.doubt}", style="yellow")
    left_out = sorted(set(recording.headers) - set(names))
    console.print(f"digest  {digest}" + (f"  (without {', '.join(left_out)})" if left_out else ""))
    if task is not None:
        _print_task(console, path, recording, task)


def _print_overview(console: Console, recording: Recording, rate_hz: float | None, task: Task | None) -> None:
    lengths = np.diff(recording.ends, prepend=0)
    rate = f"{rate_hz:.4g} Hz, from the timestamps" if rate_hz else "not recorded in the data"
    if task is not None:
        rate += f"; {task.name} runs at {task.spec.rate_hz:g} Hz"
    console.print(recording.source, style="bold")
    console.print(f"format    {recording.format}")
    console.print(f"episodes  {len(lengths):,}")
    console.print(f"steps     {int(lengths.sum()):,}")
    console.print(f"lengths   {lengths.min()} to {lengths.max()} steps, mean {lengths.mean():.1f}")
    console.print(f"rate      {rate}\n")


def _fitting_tasks(recording: Recording) -> list[str]:
    """Tasks of the table whose raw arrays are there with the right shapes."""
    shapes = {name: header.shape[1:] for name, header in recording.headers.items()}
    return [
        task.name
        for task in TASKS.values()
        if set(task.raw_arrays) <= set(shapes)
        and all(shapes[field.name] == field.shape for field in task.raw_fields)
        and shapes.get(task.spec.action.name, task.spec.action.shape) == task.spec.action.shape
    ]


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


def _print_ranges(console: Console, summaries: Mapping[str, ArraySummary], ends: np.ndarray) -> None:
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


def _print_task(console: Console, path: Path, recording: Recording, task: Task) -> None:
    spec = task.spec
    with_actions = spec.action.name in recording.headers
    episodes: Episodes = (load_demonstrations if with_actions else load_observations)(path, task)
    console.print(f"\nAs the task '{task.name}' reads it", style="bold")
    if not with_actions:
        console.print(f"No '{spec.action.name}': good for distillation, not for training a teacher.", style="yellow")
    table = make_table("Fields", "field", ">each step", "unit")
    for field in (*spec.observations, spec.action):
        if field.name in episodes.arrays:
            table.add_row(field.name, str(field.shape), field.unit)
    console.print(table)
    summaries = {
        field.name: summarize([episodes.arrays[field.name]], episodes.ends, field.size)
        for field in (*spec.observations, spec.action)
        if field.name in episodes.arrays
    }
    _print_ranges(console, summaries, episodes.ends)
    console.print(window_index(episodes.ends, spec).summary())
    console.print(f"digest  {episodes.digest()}  (of these fields)")
    console.print(f"timing at {spec.rate_hz:g} Hz (step 0 is the newest observation)")
    console.print(spec.timing_table(), soft_wrap=True)
    for warning in demonstration_warnings(episodes, spec):
        console.print(f"warning: {warning}", style="yellow")
