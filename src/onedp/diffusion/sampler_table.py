"""Samplers by name: the table, the stored form and the command line's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from onedp.diffusion.few_step_samplers import Consistency, Euler
from onedp.diffusion.samplers import DEFAULT_LEVELS, Ddim, Ddpm, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm, Schedule
from onedp.errors import OneDPError, unknown_choice
from onedp.typed_json import kind_from_json

AnySampler = Ddim | Heun | Euler | Consistency | OneStep

SAMPLERS: dict[str, type[Ddim] | type[Heun] | type[Euler] | type[Consistency] | type[OneStep]] = {
    "ddpm": Ddpm,
    "ddim": Ddim,
    "heun": Heun,
    "euler": Euler,
    "consistency": Consistency,
    "one-step": OneStep,
}


def sampler_to_json(sampler: AnySampler) -> dict[str, Any]:
    """Plain data for ``spec.json``."""
    return {"kind": sampler.kind, **asdict(sampler)}


def sampler_from_json(data: dict[str, Any]) -> AnySampler:
    """Inverts ``sampler_to_json``; raises ``ArtifactError`` on an unknown kind or entry, or one of a wrong type."""
    return kind_from_json(SAMPLERS, data, "sampler")


def check_sampler(sampler: AnySampler, schedule: Schedule) -> None:
    """Raise ``OneDPError`` when the sampler cannot run on a policy of this noise process."""
    if isinstance(sampler, OneStep):
        if isinstance(schedule, CosineDdpm) and not sampler.level == int(sampler.level) < schedule.steps:
            raise OneDPError(f"one-step:{sampler.level:g} is no step of a DDPM process with {schedule.steps} steps.")
    elif isinstance(sampler, Consistency):
        highest = {"ddpm": getattr(schedule, "steps", 0) - 1, "flow": 1.0}.get(schedule.kind, float("inf"))
        if sampler.levels[0] > highest:
            raise OneDPError(
                f"{sampler.label} starts at the level {sampler.levels[0]:g}; the process ends at {highest:g}."
            )
    elif isinstance(sampler, Euler):
        if len(set(sampler.times(schedule).tolist())) < sampler.steps:
            raise OneDPError(f"{sampler.label} has more steps than the process.")
    elif schedule.kind == "flow":
        raise OneDPError(
            f"The sampler '{sampler.label}' does not fit a policy of the process 'flow'. Valid: euler:N, one-step, "
            "consistency:N."
        )
    elif isinstance(sampler, Heun) != isinstance(schedule, Edm):
        valid = "heun:N" if isinstance(schedule, Edm) else "ddpm:N, ddim:N"
        raise OneDPError(
            f"The sampler '{sampler.label}' does not fit a policy of the process '{schedule.kind}'. Valid: {valid}, "
            "one-step, euler:N, consistency:N."
        )
    elif isinstance(sampler, Ddim) and isinstance(schedule, CosineDdpm):
        sampler.grid(schedule)


EXAMPLES = (
    "Examples: ddpm:100, ddim:10, ddim:10:leading, ddim:10:0.75, heun:18, euler:10:0.75, consistency:3, "
    "one-step, one-step:65:0.5."
)
MOST_PARTS = {"ddpm": 3, "ddim": 3, "heun": 2, "euler": 2, "consistency": 2, "one-step": 2}


def parse_sampler(text: str, schedule: Schedule) -> AnySampler:
    """Read ``ddpm:N``, ``ddim:N`` (also ``ddim:N:SPACING``), ``heun:N``, ``euler:N``, ``consistency:N`` or
    ``one-step:LEVEL:NOISE``; behind the others a factor on the noise may stand too. N levels of ``consistency`` lie
    evenly on the way from noise to data, as the three of Consistency Policy (arXiv 2405.07503) do.

    Each number may be left out. Raises ``OneDPError``.
    """
    kind, *parts = text.split(":")
    if kind not in SAMPLERS:
        raise OneDPError(unknown_choice("sampler", kind, SAMPLERS) + f" {EXAMPLES}")
    if len(parts) > MOST_PARTS[kind]:
        raise OneDPError(f"The sampler '{text}' has too many parts. {EXAMPLES}")
    if kind == "consistency":
        count = _number(text, parts[0], int) if parts else 1
        if count < 1:
            raise OneDPError(f"The sampler {text} is not possible: the number of levels must be 1 or more.")
        levels = tuple(float(t) for t in schedule.ode_times(torch.arange(count) / count))
        return Consistency(levels, _number(text, parts[1], float) if len(parts) > 1 else 1.0)
    if kind != "one-step":
        return sampler_from_json({"kind": kind, **_stepwise(text, kind, parts)})
    level = _number(text, parts[0], float) if parts else DEFAULT_LEVELS[schedule.kind]
    return OneStep(level=level, noise_scale=_number(text, parts[1], float) if len(parts) > 1 else 1.0)


def _stepwise(text: str, kind: str, parts: list[str]) -> dict[str, Any]:
    """Number of steps, spacing and noise scale of a sampler of many steps; a name is a spacing, a number the scale."""
    found: dict[str, Any] = {"steps": _number(text, parts[0], int)} if parts else {}
    rest = parts[1:]
    if rest and kind in ("ddpm", "ddim") and rest[0][:1].isalpha():
        found["spacing"] = rest.pop(0)
    if rest:
        found["noise_scale"] = _number(text, rest.pop(0), float)
    if rest:
        raise OneDPError(f"The sampler '{text}' has too many parts. {EXAMPLES}")
    return found


def _number(text: str, part: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(part)
    except ValueError as error:
        raise OneDPError(f"The sampler '{text}' has no valid number after the colon: '{part}'. {EXAMPLES}") from error
