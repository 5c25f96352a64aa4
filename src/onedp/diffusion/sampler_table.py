"""Samplers by name: the table, the stored form and the command line's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from onedp.diffusion.samplers import DEFAULT_LEVELS, Ddim, Ddpm, Heun, OneStep
from onedp.diffusion.schedule import CosineDdpm, Edm
from onedp.errors import OneDPError, unknown_choice
from onedp.typed_json import kind_from_json

SAMPLERS: dict[str, type[Ddim] | type[Heun] | type[OneStep]] = {
    "ddpm": Ddpm,
    "ddim": Ddim,
    "heun": Heun,
    "one-step": OneStep,
}


def sampler_to_json(sampler: Ddim | Heun | OneStep) -> dict[str, Any]:
    """Plain data for ``spec.json``."""
    return {"kind": sampler.kind, **asdict(sampler)}


def sampler_from_json(data: dict[str, Any]) -> Ddim | Heun | OneStep:
    """Inverts ``sampler_to_json``; raises ``ArtifactError`` on an unknown kind or entry, or one of a wrong type."""
    return kind_from_json(SAMPLERS, data, "sampler")


def check_sampler(sampler: Ddim | Heun | OneStep, schedule: CosineDdpm | Edm) -> None:
    """Raise ``OneDPError`` when the sampler cannot run on a policy of this noise process."""
    if isinstance(sampler, OneStep):
        if isinstance(schedule, CosineDdpm) and not sampler.level == int(sampler.level) < schedule.steps:
            raise OneDPError(f"one-step:{sampler.level:g} is no step of a DDPM process with {schedule.steps} steps.")
    elif isinstance(sampler, Heun) != isinstance(schedule, Edm):
        valid = "heun:N, one-step" if isinstance(schedule, Edm) else "ddpm:N, ddim:N, one-step"
        raise OneDPError(
            f"The sampler '{sampler.label}' does not fit a policy of the process '{schedule.kind}'. Valid: {valid}."
        )
    elif isinstance(sampler, Ddim) and isinstance(schedule, CosineDdpm):
        sampler.grid(schedule)


EXAMPLES = "Examples: ddpm:100, ddim:10, ddim:10:leading, heun:18, one-step, one-step:65:0.5."


def parse_sampler(text: str, schedule: CosineDdpm | Edm) -> Ddim | Heun | OneStep:
    """Read ``ddpm:N``, ``ddim:N`` (also ``ddim:N:SPACING``), ``heun:N`` or ``one-step:LEVEL:NOISE``.

    Each number may be left out. Raises ``OneDPError``.
    """
    kind, *parts = text.split(":")
    if kind not in SAMPLERS:
        raise OneDPError(unknown_choice("sampler", kind, SAMPLERS) + f" {EXAMPLES}")
    if len(parts) > (1 if kind == "heun" else 2):
        raise OneDPError(f"The sampler '{text}' has too many parts. {EXAMPLES}")
    if kind != "one-step":
        steps = {"steps": _number(text, parts[0], int)} if parts else {}
        return sampler_from_json({"kind": kind, **steps, **({"spacing": parts[1]} if len(parts) > 1 else {})})
    level = _number(text, parts[0], float) if parts else DEFAULT_LEVELS[schedule.kind]
    return OneStep(level=level, noise_scale=_number(text, parts[1], float) if len(parts) > 1 else 1.0)


def _number(text: str, part: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(part)
    except ValueError as error:
        raise OneDPError(f"The sampler '{text}' has no valid number after the colon: '{part}'. {EXAMPLES}") from error
