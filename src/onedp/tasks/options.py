"""Tasks with options: a family's name, and behind ``@`` numbers of its dataclass, as in ``pusht-drift@speed=20``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

from onedp.errors import OneDPError, unknown_choice
from onedp.tasks.task import Task


class TaskOptions(Protocol):
    """A frozen dataclass of numbers, each with a default; it refuses what makes no sense when it is made."""

    def task(self, name: str) -> Task:
        """The task of these options, called ``name``."""
        ...


Families = Mapping[str, Any]
"""Name of a family to its class, which is a dataclass and makes ``TaskOptions``."""


def family_of(name: str) -> str:
    """``pusht-drift`` of ``pusht-drift@speed=20``; a name without options as it is."""
    return name.partition("@")[0]


def task_with_options(name: str, families: Families) -> Task:
    """``pusht-drift``, or with options: ``pusht-drift@speed=20,nudge=30``. Raises ``OneDPError``."""
    family, _, text = name.partition("@")
    if family not in families:
        raise OneDPError(unknown_choice("task with options", family, families))
    valid = [field.name for field in dataclasses.fields(families[family])]
    values: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key not in valid:
            raise OneDPError(unknown_choice(f"option of {family}", key, valid))
        if key in values:
            raise OneDPError(f"The option '{key}' of {family} is given twice, in '{name}'.")
        values[key] = _number(value)
        if not math.isfinite(values[key]):
            raise OneDPError(f"The option '{part}' of {family} is no number: expected {key}=NUMBER.")
    options: TaskOptions = families[family](**values)
    task = options.task(name)
    if task.max_steps < 1:
        raise OneDPError(f"'{name}' would be over before its first control tick of {1 / task.control_hz:g} s.")
    return task


def _number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
