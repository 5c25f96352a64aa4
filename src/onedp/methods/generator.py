"""The network that a OneDP student begins with."""

from __future__ import annotations

from onedp.diffusion.denoiser import Denoiser
from onedp.errors import OneDPError
from onedp.methods.input_noise import add_gain
from onedp.methods.method import trainable_copy
from onedp.methods.onedp_config import OneDpConfig


def initial_generator(config: OneDpConfig, teacher: Denoiser, student: Denoiser | None) -> Denoiser:
    """The teacher's copy, or a ``student`` with a network of its own, with what the ``config`` changes about it.

    Raises ``OneDPError`` where its warm start cannot teach what it has to learn.
    """
    generator = trainable_copy(teacher) if student is None else student
    if config.parameterization != "teacher":
        _predict_otherwise(generator, config.parameterization, bool(config.regression_steps))
    if config.warm_start == "consistency" and generator.parameterization == "eps":
        raise OneDPError(
            "A consistency warm start teaches answers to pure noise. A student that predicts the noise, as its teacher "
            "does, has none there: its chunk is divided by next to nothing. Use parameterization x0."
        )
    if config.matching_noise == "learned":
        add_gain(generator)
    return generator


def _predict_otherwise(generator: Denoiser, parameterization: str, regression: bool) -> None:
    """Read the output of the ``generator``, in place, as another prediction than the one it was trained for.

    Only regression can teach it that: matching moves a student that already acts. Raises ``OneDPError`` without one.
    """
    if generator.parameterization != parameterization and not regression:
        raise OneDPError(
            f"The teacher predicts {generator.parameterization}; a student that predicts {parameterization} has to "
            "learn that in a regression phase, which this recipe lacks. Use --method onedp-s --preset small."
        )
    generator.parameterization = parameterization
