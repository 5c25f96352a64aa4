"""Which sampler of a teacher makes the solutions that a student learns from."""

from __future__ import annotations

from onedp.diffusion.samplers import Sampler
from onedp.methods.config import MethodConfig
from onedp.methods.student_config import FINE_SAMPLERS
from onedp.policy import TorchPolicy


def solver(teacher: TorchPolicy, config: MethodConfig) -> Sampler:
    """The sampler that ``config.regression_sampler`` names; the teacher's own where the method names none.

    Raises ``OneDPError`` when the teacher cannot be sampled so.
    """
    name = getattr(config, "regression_sampler", None)
    if name == "fine":
        name = FINE_SAMPLERS[teacher.denoiser.schedule.kind]
    return (teacher if name is None else teacher.with_sampler(name)).sampler
