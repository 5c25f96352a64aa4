"""Samplers: frozen dataclasses that turn noise into a clean chunk by calling a denoiser.

Each says how many noise draws it eats (``draws``) and how many network passes it makes (``nfe``); the noise is an
argument, ``(B, draws, Tp, Da)`` standard normal, so every call can be replayed. Sums run in float64.

Their table, names on the command line and stored form: ``onedp.diffusion.sampler_table``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.denoiser import Denoiser
from onedp.diffusion.sampler_parts import (
    check_clip,
    check_noise_scale,
    check_steps,
    clipped,
    scaled,
    scaled_draws,
    x0_at,
)
from onedp.diffusion.schedule import CosineDdpm, Edm, level_times
from onedp.errors import OneDPError, unknown_choice


@runtime_checkable
class Sampler(Protocol):
    """What a policy needs of a sampler."""

    @property
    def kind(self) -> str:
        """Name in the table."""
        ...

    @property
    def draws(self) -> int:
        """Standard normal draws per chunk."""
        ...

    @property
    def nfe(self) -> int:
        """Network passes per chunk."""
        ...

    @property
    def noise_scale(self) -> float:
        """Factor on all noise when acting."""
        ...

    @property
    def clip(self) -> float | None:
        """Limit of the normalised clean chunk; None where data is not scaled to [-1, 1]."""
        ...

    @property
    def label(self) -> str:
        """As written on the command line, e.g. ``ddim:10``."""
        ...

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """Normalised clean chunk (B, Tp, Da)."""
        ...


SPACINGS = ("linspace", "leading", "trailing")


@dataclass(frozen=True)
class Ddim:
    """DDIM (Song et al., arXiv 2010.02502, eq. 12) with ``eta`` = 0: deterministic given the first draw."""

    steps: int = 10
    """Network passes."""
    clip: float | None = 1.0
    """Clip the clean estimate to [-clip, clip]; None for data that is not scaled to that range."""
    spacing: str = "linspace"
    """Which of the process's steps are visited: a name of ``SPACINGS``, see ``grid``."""
    recompute_eps: bool = True
    """Derive the noise from the clipped clean estimate; False keeps the network's own, as diffusers' DDIM does (and so
    LeRobot's). Ancestral sampling always uses the clipped estimate."""
    noise_scale: float = 1.0
    """Factor on every draw: below 1 the policy keeps nearer to what it likes best, as a one-step student may; 0 makes
    the policy deterministic."""

    kind = "ddim"

    def __post_init__(self) -> None:
        check_steps(self.kind, self.steps)
        check_clip(self.clip)
        check_noise_scale(self.noise_scale)
        if self.spacing not in SPACINGS:
            raise OneDPError(unknown_choice("spacing", self.spacing, SPACINGS))

    @property
    def draws(self) -> int:
        """One, or none when the noise scale is 0."""
        return 1 if self.noise_scale > 0 else 0

    @property
    def nfe(self) -> int:
        """One a step."""
        return self.steps

    @property
    def label(self) -> str:
        """ddim:N, with spacing and noise scale where they are not the default."""
        spacing = "" if self.spacing == "linspace" else f":{self.spacing}"
        return scaled(f"{self.kind}:{self.steps}{spacing}", self.noise_scale)

    def grid(self, schedule: CosineDdpm) -> list[int]:
        """Step indices of the ``schedule``, descending.

        DDIM-10 of 100 is 99, 88, ..., 0 with "linspace", 90, 80, ..., 0 with "leading" (diffusers' default, and so
        LeRobot's and Diffusion Policy's) and 99, 89, ..., 9 with "trailing", whose last step far above 0 costs
        precision: on Push-T it finishes a tenth fewer episodes.
        """
        steps, total = self.steps, schedule.steps
        if not 1 <= steps <= total:
            raise OneDPError(f"{self.kind}:{steps} is not possible: N must be 1..{total}.")
        if self.spacing == "leading":
            return [total // steps * (steps - 1 - i) for i in range(steps)]
        if self.spacing == "trailing":
            return [round(total * (1 - i / steps)) - 1 for i in range(steps)]
        return [round((total - 1) * (1 - i / max(1, steps - 1))) for i in range(steps)]

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """Solve the probability-flow ODE from pure noise."""
        schedule = denoiser.schedule
        assert isinstance(schedule, CosineDdpm)  # check_sampler
        grid, noise = self.grid(schedule), scaled_draws(noise, self.noise_scale, 1)
        return _ancestral(denoiser, schedule, cond, noise, grid, 0.0, self.clip, self.recompute_eps)


@dataclass(frozen=True)
class Ddpm(Ddim):
    """Ancestral DDPM sampling (Ho et al., arXiv 2006.11239, algorithm 2): DDIM's update with eta = 1.

    On the full grid the posterior variance is theirs (``beta-tilde``).
    """

    steps: int = 100

    kind = "ddpm"

    @property
    def draws(self) -> int:
        """The start, and one for every step but the last; none when the noise scale is 0."""
        return self.steps if self.noise_scale > 0 else 0

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """Draw from the reverse Markov chain."""
        schedule = denoiser.schedule
        assert isinstance(schedule, CosineDdpm)  # check_sampler
        noise = scaled_draws(noise, self.noise_scale, self.steps)
        return _ancestral(denoiser, schedule, cond, noise, self.grid(schedule), eta=1.0, clip=self.clip)


def _ancestral(
    denoiser: Denoiser,
    schedule: CosineDdpm,
    cond: Tensor,
    noise: Tensor,
    grid: list[int],
    eta: float,
    clip: float | None,
    recompute_eps: bool = True,
) -> Tensor:
    """DDIM's generalised update; the noise estimate belongs to the clipped clean estimate, or to the network's own."""
    alpha_bar = schedule.alpha_bar.to(noise.device)
    x = noise[:, 0].double()
    for i, k in enumerate(grid):
        t = torch.tensor([k], device=noise.device)
        own_x0 = x0_at(denoiser, x, t, cond)
        x0 = clipped(own_x0, clip)
        if i == len(grid) - 1:
            return x0.float()
        now, then = alpha_bar[k], alpha_bar[grid[i + 1]]
        eps = (x - now.sqrt() * (x0 if recompute_eps else own_x0)) / (1 - now).sqrt()
        spread = eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        x = then.sqrt() * x0 + (1 - then - spread**2).sqrt() * eps
        if eta > 0:
            x = x + spread * noise[:, i + 1].double()
    raise AssertionError("unreachable: the grid is never empty")


@dataclass(frozen=True)
class Heun:
    """Second-order deterministic sampler of EDM (Karras et al., arXiv 2206.00364, algorithm 1): 2N - 1 passes."""

    steps: int = 18
    """N: noise levels on the Karras grid."""
    clip: float | None = 1.0
    """Clip of the final chunk; intermediate estimates are left alone."""
    noise_scale: float = 1.0
    """Factor on the start, as that of ``Ddim``."""

    kind = "heun"

    def __post_init__(self) -> None:
        check_steps(self.kind, self.steps)
        check_clip(self.clip)
        check_noise_scale(self.noise_scale)

    @property
    def draws(self) -> int:
        """One, or none when the noise scale is 0."""
        return 1 if self.noise_scale > 0 else 0

    @property
    def nfe(self) -> int:
        """Two a step, one for the last."""
        return 2 * self.steps - 1

    @property
    def label(self) -> str:
        """heun:N, with the noise scale where it is not 1."""
        return scaled(f"heun:{self.steps}", self.noise_scale)

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """Solve the probability-flow ODE from sigma_max to 0."""
        schedule = denoiser.schedule
        assert isinstance(schedule, Edm)  # check_sampler
        sigmas = torch.cat([schedule.karras_grid(self.steps), torch.zeros(1, dtype=torch.float64)]).to(noise.device)
        x = scaled_draws(noise.double(), self.noise_scale, 1)[:, 0] * sigmas[0]
        for i in range(self.steps):
            now, then = sigmas[i], sigmas[i + 1]
            slope = (x - x0_at(denoiser, x, now.float()[None], cond)) / now
            x_euler = x + (then - now) * slope
            if i == self.steps - 1:
                return clipped(x_euler, self.clip).float()
            slope_then = (x_euler - x0_at(denoiser, x_euler, then.float()[None], cond)) / then
            x = x + (then - now) * (slope + slope_then) / 2
        raise AssertionError("unreachable: there is at least one step")


DEFAULT_LEVELS = {"ddpm": 65.0, "edm": 2.5, "flow": 0.714}
"""Level at which a one-step policy asks its network (arXiv 2410.21257), by process (flow: EDM's noise share)."""


@dataclass(frozen=True)
class OneStep:
    """Ask the denoiser once at one fixed level: the student of One-Step Diffusion Policy (arXiv 2410.21257, sec. 3).

    Applied to a teacher, it is the undistilled negative control.
    """

    level: float = 65.0
    """t_init: step index 65 of the cosine DDPM process, sigma 2.5 of EDM."""
    noise_scale: float = 1.0
    """Factor on the input noise when acting; 0 makes the policy deterministic (OneDP-D)."""
    clip: float | None = 1.0
    """Clip of the chunk when acting; training never clips."""
    input_scale: float = 1.0
    """Factor on the noise as the network reads it, the one the student was trained with."""

    kind = "one-step"

    def __post_init__(self) -> None:
        check_clip(self.clip)
        if not (0 < self.level < math.inf and 0 <= self.noise_scale < math.inf and 0 < self.input_scale < math.inf):
            raise OneDPError(
                "one-step needs a level and an input scale above 0 and a noise scale of at least 0, all finite, not "
                f"{self.level}, {self.input_scale} and {self.noise_scale}."
            )

    @property
    def draws(self) -> int:
        """One, or none when deterministic."""
        return 1 if self.noise_scale > 0 else 0

    @property
    def nfe(self) -> int:
        """One."""
        return 1

    @property
    def label(self) -> str:
        """one-step at a family's default level with full noise, else one-step:LEVEL, else one-step:LEVEL:NOISE."""
        if self.noise_scale != 1:
            return f"one-step:{self.level:g}:{self.noise_scale:g}"
        return "one-step" if self.level in DEFAULT_LEVELS.values() else f"one-step:{self.level:g}"

    def generate(self, denoiser: Denoiser, cond: Tensor, z: Float[Tensor, "b tp da"]) -> Tensor:
        """``G(z, O)``, not clipped; differentiable."""
        t = level_times(denoiser.schedule, self.level, len(z), z.device)
        scale = self.input_scale * denoiser.schedule.prior_scale(t)[:, None, None]
        return denoiser.x0(scale * z, t, cond)

    def sample(self, denoiser: Denoiser, cond: Tensor, noise: Float[Tensor, "b draws tp da"]) -> Tensor:
        """One network pass."""
        z = scaled_draws(noise, self.noise_scale, 1)[:, 0]
        return clipped(self.generate(denoiser, cond, z), self.clip)
