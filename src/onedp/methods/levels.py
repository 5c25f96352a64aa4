"""Noise levels at which one-step students ask their network, and at which they are compared with the teacher."""

from __future__ import annotations

import torch

from onedp.diffusion.samplers import DEFAULT_LEVELS
from onedp.diffusion.schedule import CosineDdpm, Edm, Flow, NoiseSchedule
from onedp.errors import OneDPError


def default_levels(schedule: NoiseSchedule) -> tuple[float | None, float, float | None]:
    """Lowest level of matching, the generator's level and the highest.

    Steps 2, 65 and 95 of a hundred (arXiv 2410.21257); EDM's without bounds; for flows, times with the noise-to-signal
    ratios of the same.
    """
    if isinstance(schedule, Edm):
        return None, DEFAULT_LEVELS["edm"], None
    if isinstance(schedule, Flow):
        return 0.055, DEFAULT_LEVELS["flow"], 0.94
    assert isinstance(schedule, CosineDdpm)
    low, level, high = (max(1, round(share * schedule.steps)) for share in (0.02, 0.65, 0.95))
    return float(low), float(min(level, schedule.steps - 1)), float(min(high, schedule.steps - 1))


def pure_noise_level(schedule: NoiseSchedule) -> float:
    """Level at which an ODE of the process starts: nothing of the signal is left there, or next to nothing."""
    return float(schedule.ode_times(torch.zeros(1))[0])


def annealed_levels(schedule: NoiseSchedule) -> tuple[float, float]:
    """Highest level of matching at the first and at the last step of an annealed run: steps 95 and 40 of a hundred."""
    if isinstance(schedule, Edm):
        return 16.0, 0.74
    if isinstance(schedule, Flow):
        return 0.94, 0.425
    assert isinstance(schedule, CosineDdpm)
    return float(round(0.95 * schedule.steps)), float(round(0.4 * schedule.steps))


def given_or(level: float | None, default: float | None) -> float | None:
    """``level``, unless it is None."""
    return default if level is None else level


def check_levels(levels: tuple[float | None, float | None], final_high: float | None, schedule: NoiseSchedule) -> None:
    """Raise ``OneDPError`` unless the levels of matching, defaults filled in, are a range."""
    low, high = levels
    for end in (high, final_high):
        if low is not None and end is not None and low > end:
            raise OneDPError(f"The levels of distribution matching end ({end:g}) below their start ({low:g}).")
    if isinstance(schedule, CosineDdpm):
        if any(level is not None and not 0 <= level < schedule.steps for level in (low, high, final_high)):
            raise OneDPError(
                f"The levels of distribution matching ({low}, {high}, {final_high}) must be steps of the process: 0 to "
                f"{schedule.steps - 1}."
            )
    elif any(level is not None and not level > 0 for level in (low, high, final_high)):
        raise OneDPError(f"The levels of distribution matching ({low}, {high}, {final_high}) must be positive.")
