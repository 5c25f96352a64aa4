"""How much of its noise a OneDP-S student reads while it is matched to its teacher: all, less and less, or what it
learns to need.

The paper matches a student under all of its noise, whatever it acts with. An annealed or a learned factor is 1 when
matching begins, and in the end the one that the student acts with.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn, zeros

from onedp.diffusion.denoiser import Denoiser

LOG_GAIN = "log_noise_gain"
"""Name of the learned factor's logarithm among the generator's parameters: it is averaged and saved with them."""


def annealed_noise(step: int, first: int, last: int, final: float) -> float:
    """Factor on the noise at ``step``: 1 up to ``first``, from there linearly to ``final`` at ``last``."""
    progress = min(1.0, max(0.0, (step - first) / max(1, last - first)))
    return 1 + progress * (final - 1)


def add_gain(generator: Denoiser) -> None:
    """Give the ``generator``, in place, a trainable factor on its noise, 1 at first."""
    generator.register_parameter(LOG_GAIN, nn.Parameter(zeros(())))


def gain_of(generator: Denoiser) -> Tensor:
    """The factor, a scalar above 0; differentiable."""
    return generator.get_parameter(LOG_GAIN).exp()


def without_gain(generator: Denoiser) -> Denoiser:
    """A copy with the keys of a generator that never had a factor, for a sampler whose ``noise_scale`` it is now."""
    plain = copy.deepcopy(generator)
    delattr(plain, LOG_GAIN)
    return plain
