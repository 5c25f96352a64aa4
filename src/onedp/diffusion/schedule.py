"""Noise processes: ``x_t = alpha(t) x_0 + sigma(t) eps``. Noise increases with t; the smallest t is almost data.

Three families. ``CosineDdpm`` is variance preserving with integer steps k = 0..K-1 (squared cosine, or the linear betas
of imported policies); ``Edm`` has alpha = 1 and the level sigma itself as time; ``Flow`` goes straight from data to
noise. One module, though it has a little more than 300 lines: the three are read side by side.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from onedp.diffusion.draws import integers, uniform
from onedp.errors import ArtifactError, unknown_choice
from onedp.typed_json import kind_from_json


@runtime_checkable
class NoiseSchedule(Protocol):
    """What denoisers, samplers and methods know of a noise process. Times are tensors of any shape."""

    @property
    def kind(self) -> str:
        """Name in the table ``SCHEDULES``."""
        ...

    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at time t."""
        ...

    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at time t."""
        ...

    def training_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n times as a teacher is trained on them."""
        ...

    def times_between(self, n: int, low: float | None, high: float | None, generator: torch.Generator) -> Tensor:
        """Draw n of the training times that lie in [low, high]; None: no bound on that side."""
        ...

    def prior_scale(self, t: Tensor) -> Tensor:
        """Standard deviation of x_t for normalised data: scale of the pure noise that stands for x_t."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """The number that the network's sinusoidal step embedding sees, of order 0..1000."""
        ...

    def ode_times(self, progress: Tensor) -> Tensor:
        """Times at ``progress`` of the way from noise (0) to data (1), where an ODE solver would step."""
        ...


BETA_SCHEDULES = ("squaredcos_cap_v2", "linear", "scaled_linear")
"""Names of the beta schedules, as in diffusers."""


MOST_STEPS = 100_000
"""A hundred times what anybody trains with; each is a row of a table."""


@dataclass(frozen=True)
class CosineDdpm:
    """Variance-preserving DDPM, by default with the squared-cosine schedule (arXiv 2102.09672, eq. 17)."""

    steps: int = 100
    """K: number of noise steps; t is an integer index 0..K-1."""
    max_beta: float = 0.999
    """Cap of the cosine's beta, so the last step keeps a trace of the signal."""
    beta_schedule: str = "squaredcos_cap_v2"
    """squaredcos_cap_v2 (the cosine), linear (Ho et al.) or scaled_linear (linear in the square root)."""
    beta_start: float = 0.0001
    """First beta of the linear ones."""
    beta_end: float = 0.02
    """Last beta of the linear ones."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS or not 0 < self.max_beta < 1:
            raise ArtifactError(
                f"steps ({self.steps}) must be 1 to {MOST_STEPS:,} and max_beta ({self.max_beta}) within 0 to 1."
            )
        if self.beta_schedule not in BETA_SCHEDULES:
            raise ArtifactError(unknown_choice("beta schedule", self.beta_schedule, BETA_SCHEDULES))
        if self.beta_schedule != "squaredcos_cap_v2" and not 0 < self.beta_start <= self.beta_end < 1:
            raise ArtifactError(
                f"beta_start ({self.beta_start}) and beta_end ({self.beta_end}) must rise and lie between 0 and 1."
            )

    @property
    def kind(self) -> str:
        """Name in the table."""
        return "ddpm"

    @cached_property
    def alpha_bar(self) -> Float[Tensor, " k"]:
        """Cumulative product of 1 - beta, float64; alpha is its square root."""
        if self.beta_schedule == "linear":
            return _alpha_bar(torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64))
        if self.beta_schedule == "scaled_linear":
            roots = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=torch.float64)
            return _alpha_bar(roots**2)

        def f(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = [min(1 - f((k + 1) / self.steps) / f(k / self.steps), self.max_beta) for k in range(self.steps)]
        return _alpha_bar(torch.tensor(betas, dtype=torch.float64))

    def alpha(self, t: Tensor) -> Tensor:
        """Square root of alpha_bar at index t."""
        return self.alpha_bar.to(t.device)[t].sqrt().float()

    def sigma(self, t: Tensor) -> Tensor:
        """Square root of 1 - alpha_bar at index t."""
        return (1 - self.alpha_bar.to(t.device)[t]).sqrt().float()

    def training_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform over all indices."""
        return self.times_between(n, None, None, generator)

    def times_between(self, n: int, low: float | None, high: float | None, generator: torch.Generator) -> Tensor:
        """Uniform over the indices from low to high, both included."""
        first = 0 if low is None else max(0, round(low))
        last = self.steps - 1 if high is None else min(self.steps - 1, round(high))
        return integers(first, last + 1, n, generator)

    def prior_scale(self, t: Tensor) -> Tensor:
        """One at every step: the process preserves variance."""
        return torch.ones_like(t, dtype=torch.float32)

    def network_time(self, t: Tensor) -> Tensor:
        """The index itself."""
        return t.float()

    def ode_times(self, progress: Tensor) -> Tensor:
        """Indices evenly from 95 % of the steps, where x_t is noise but for a trace and x0 can still be read, to 0."""
        return (round(0.95 * self.steps) * (1 - progress)).round().long()


@dataclass(frozen=True)
class Edm:
    """Variance-exploding process of EDM (Karras et al., arXiv 2206.00364): alpha = 1, time is sigma."""

    sigma_min: float = 0.002
    """Smallest level that sampling visits."""
    sigma_max: float = 80.0
    """Level at which sampling starts."""
    rho: float = 7.0
    """Curvature of the sampling grid, their eq. 5."""
    P_mean: float = -1.2
    """Mean of ln sigma in training, their table 1."""
    P_std: float = 1.2
    """Standard deviation of ln sigma in training."""
    sigma_data: float = 0.5
    """Standard deviation that preconditioning assumes of normalised data."""

    @property
    def kind(self) -> str:
        """Name in the table."""
        return "edm"

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def training_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Log-normal levels."""
        return self.times_between(n, None, None, generator)

    def times_between(self, n: int, low: float | None, high: float | None, generator: torch.Generator) -> Tensor:
        """Log-normal, truncated to [low, high] by inverting the normal distribution function."""

        def quantile(level: float | None, unbounded: float) -> float:
            if level is None:
                return unbounded
            return 0.5 * (1 + math.erf((math.log(level) - self.P_mean) / (self.P_std * math.sqrt(2))))

        first, last = quantile(low, 1e-6), quantile(high, 1 - 1e-6)
        share = uniform(n, generator, torch.float64)
        normal = torch.special.ndtri(first + (last - first) * share)
        return (self.P_mean + self.P_std * normal).exp().float()

    def prior_scale(self, t: Tensor) -> Tensor:
        """The level: data is negligible beside it."""
        return t

    def network_time(self, t: Tensor) -> Tensor:
        """250 ln sigma, stretched to the range a sinusoidal embedding resolves (as Consistency Policy's code does)."""
        return 250.0 * t.log()

    def ode_times(self, progress: Tensor) -> Tensor:
        """Karras levels from sigma_max to sigma_min, their eq. 5."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return ((high + progress.double() * (low - high)) ** self.rho).float()

    def karras_grid(self, n: int) -> Float[Tensor, " n"]:
        """n levels from sigma_max down to sigma_min, float64, their eq. 5 (without the final 0)."""
        ramp = torch.linspace(0, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (high + ramp * (low - high)) ** self.rho


@dataclass(frozen=True)
class Flow:
    """Linear interpolant of flow matching (arXiv 2210.02747): ``x_t = (1 - t) x_0 + t eps`` for t in (0, 1].

    There time runs from noise to data; here noise increases with t, as everywhere.
    """

    time_scale: float = 1000.0
    """Factor on t before the step embedding; small where the network is differentiated by time (MeanFlow)."""
    smallest: float = 1e-3
    """Smallest time that is used: at 0 there is no noise to speak of."""

    @property
    def kind(self) -> str:
        """Name in the table."""
        return "flow"

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def training_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform."""
        return self.times_between(n, None, None, generator)

    def times_between(self, n: int, low: float | None, high: float | None, generator: torch.Generator) -> Tensor:
        """Uniform in [low, high]."""
        first, last = max(self.smallest, low or 0.0), min(1.0, 1.0 if high is None else high)
        return first + (last - first) * uniform(n, generator)

    def prior_scale(self, t: Tensor) -> Tensor:
        """The share of noise."""
        return t

    def network_time(self, t: Tensor) -> Tensor:
        """The time, stretched."""
        return self.time_scale * t

    def ode_times(self, progress: Tensor) -> Tensor:
        """Evenly from 1 to (almost) 0."""
        return (1 - progress.double()).clamp_min(self.smallest).float()


Schedule = CosineDdpm | Edm | Flow
SCHEDULES: dict[str, type[CosineDdpm] | type[Edm] | type[Flow]] = {"ddpm": CosineDdpm, "edm": Edm, "flow": Flow}


def schedule_to_json(schedule: Schedule) -> dict[str, Any]:
    """Plain data for ``spec.json``."""
    return {"kind": schedule.kind, **asdict(schedule)}


def schedule_from_json(data: dict[str, Any]) -> Schedule:
    """Inverts ``schedule_to_json``; raises ``ArtifactError`` on an unknown kind or entry, or one of a wrong type."""
    return kind_from_json(SCHEDULES, data, "noise process")


def _alpha_bar(betas: Tensor) -> Tensor:
    return torch.cumprod(1 - betas, dim=0)


def expand_like(value: Tensor, like: Tensor) -> Tensor:
    """Append axes to a per-sample ``value`` (B,) so that it broadcasts over ``like`` (B, ...)."""
    return value.reshape(value.shape + (1,) * (like.dim() - value.dim()))


def level_times(schedule: NoiseSchedule, level: float, n: int, device: torch.device) -> Tensor:
    """The time ``level`` for each of n samples, (n,)."""
    dtype = torch.int64 if isinstance(schedule, CosineDdpm) else torch.float32
    return torch.full((n,), level, dtype=dtype, device=device)


def ddim_step(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """From time t to s along the noise that ``x0`` implies: ``alpha(s) x0 + sigma(s) / sigma(t) (x_t - alpha(t) x0)``.

    DDIM's update (arXiv 2010.02502, eq. 12), Euler's step for ``Edm`` and ``Flow``. Times (B,) or scalars.
    """
    alpha_t, sigma_t, alpha_s, sigma_s = (
        expand_like(f(time), x_t) for time in (t, s) for f in (schedule.alpha, schedule.sigma)
    )
    return alpha_s * x0 + sigma_s / sigma_t * (x_t - alpha_t * x0)


def diffuse(schedule: NoiseSchedule, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """``alpha(t) x0 + sigma(t) eps`` with one time per sample: (B, ...), (B,), (B, ...) -> (B, ...)."""
    return expand_like(schedule.alpha(t), x0) * x0 + expand_like(schedule.sigma(t), x0) * eps
