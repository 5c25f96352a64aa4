"""The synthetic task ``two-modes``: a distribution of chunks that is known exactly, so every error can be measured.

An obstacle stands in the way. A chunk of 16 points goes round it along one of two half-sine paths,

    forward = 2 s - 1,    lateral = end s +- width sin(pi s),    s = 0, 1/15, ..., 1,

whose width and end depend on the 2-D observation. A chunk is one of the two paths plus Gaussian noise in every
coordinate. There is no environment: nothing is executed. numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.types import FieldSpec, PolicySpec

HORIZON = 16
SPREAD = 0.03
"""Standard deviation of a coordinate around its path."""
VALID_RMS = 0.06
"""A chunk is valid when its root-mean-square distance per coordinate to the nearer path is below this."""
LEFT_SHARE_POSITIVE, LEFT_SHARE_NEGATIVE = 0.7, 0.3
"""Share of the left path (positive lateral) where the first coordinate of the observation is positive, and else."""
DIRECTIONS = 64
"""Random projections of the sliced Wasserstein distance."""

SPEC = PolicySpec(
    observations=(FieldSpec("obstacle", (2,), "1"),),
    action=FieldSpec("point", (2,), "1"),
    action_low=(-2.0, -2.0),
    action_high=(2.0, 2.0),
    rate_hz=10.0,
    horizon=HORIZON,
    n_obs_steps=1,
    n_action_steps=HORIZON,
)


@dataclass(frozen=True)
class TwoModesScore:
    """What a policy's chunks are worth; distances in the task's units."""

    valid: float
    """Share of valid chunks."""
    left_positive: float
    """Share of chunks nearer to the left path, over observations whose first coordinate is positive (truth: 0.7)."""
    left_negative: float
    """The same over the other observations (truth: 0.3)."""
    sliced_wasserstein: float
    """Mean over observations and directions of the 1-Wasserstein distance to the exact distribution."""
    precision: float | None
    """Root-mean-square distance per coordinate of the valid chunks to their path (truth: 0.03); None without any."""
    spread: float
    """Mean standard deviation of a coordinate over noise, within the chunks nearer to one path (truth: 0.03)."""


def sample_observations(n: int, rng: np.random.Generator) -> Float[ndarray, "n 2"]:
    """Observations, uniform in the square [-1, 1]^2."""
    return rng.uniform(-1.0, 1.0, (n, 2))


def paths(obs: Float[ndarray, "n 2"]) -> Float[ndarray, "n 2 t a"]:
    """The left and the right path (forward, lateral) of each observation; width 0.3 to 0.7, end -0.3 to 0.3."""
    s = np.linspace(0.0, 1.0, HORIZON)
    width, end = 0.5 + 0.2 * obs[:, 1], 0.3 * obs[:, 0]
    bend = width[:, None] * np.sin(np.pi * s)  # (N, 16)
    lateral = end[:, None] * s
    forward = np.broadcast_to(2 * s - 1, lateral.shape)
    return np.stack([np.stack([forward, lateral + side * bend], axis=-1) for side in (1.0, -1.0)], axis=1)


def left_shares(obs: Float[ndarray, "n 2"]) -> Float[ndarray, " n"]:
    """Probability of the left path."""
    return np.where(obs[:, 0] > 0, LEFT_SHARE_POSITIVE, LEFT_SHARE_NEGATIVE)


def sample_truth(obs: Float[ndarray, "n 2"], draws: int, rng: np.random.Generator) -> Float[ndarray, "n d t a"]:
    """``draws`` chunks of the exact distribution for each observation."""
    right = rng.uniform(size=(len(obs), draws)) >= left_shares(obs)[:, None]
    means = paths(obs)[np.arange(len(obs))[:, None], right.astype(np.int64)]  # (N, draws, 16, 2)
    return means + SPREAD * rng.standard_normal(means.shape)


def score_chunks(chunks: Float[ndarray, "n d t a"], obs: Float[ndarray, "n 2"], seed: int = 0) -> TwoModesScore:
    """Score ``d`` chunks for each observation; ``seed`` draws the directions of the sliced Wasserstein distance."""
    rms = np.sqrt(((chunks[:, :, None] - paths(obs)[:, None]) ** 2).mean(axis=(3, 4)))  # (N, d, 2)
    nearer, distance = rms.argmin(axis=2), rms.min(axis=2)
    valid = distance < VALID_RMS
    positive = obs[:, 0] > 0
    left = nearer == 0
    return TwoModesScore(
        valid=float(valid.mean()),
        left_positive=float(left[positive].mean()),
        left_negative=float(left[~positive].mean()),
        sliced_wasserstein=sliced_wasserstein_to_truth(chunks, obs, np.random.default_rng(seed)),
        precision=float(np.sqrt((distance[valid] ** 2).mean())) if valid.any() else None,
        spread=_spread_within_modes(chunks, nearer),
    )


def _spread_within_modes(chunks: ndarray, nearer: ndarray) -> float:
    """Standard deviation around the mean chunk of each (observation, path), over all that have two chunks or more."""
    squares, count = 0.0, 0
    for own, side in zip(chunks, nearer, strict=True):
        for mode in (0, 1):
            members = own[side == mode]
            if len(members) > 1:
                squares += float(((members - members.mean(axis=0)) ** 2).sum())
                count += (len(members) - 1) * members[0].size
    return float(np.sqrt(squares / max(1, count)))


def sliced_wasserstein_to_truth(
    chunks: Float[ndarray, "n d t a"], obs: Float[ndarray, "n 2"], rng: np.random.Generator
) -> float:
    """Mean over observations and random directions of the 1-Wasserstein distance to the exact distribution.

    A projection of the truth is a mixture of two normal distributions, so its quantiles are computed, not drawn: the
    number has the sampling error of ``chunks`` alone. It is not 0 for a finite sample of the truth.
    """
    draws = chunks.shape[1]
    axes = rng.standard_normal((chunks[0, 0].size, DIRECTIONS))
    axes /= np.linalg.norm(axes, axis=0)
    projected = np.sort(chunks.reshape(len(obs), draws, -1) @ axes, axis=1)  # (N, d, directions)
    centres = paths(obs).reshape(len(obs), 2, -1) @ axes  # (N, 2, directions)
    levels = (np.arange(draws) + 0.5) / draws
    total = 0.0
    for own, centre, share in zip(projected, centres, left_shares(obs), strict=True):
        for direction in range(DIRECTIONS):
            exact = _mixture_quantiles(centre[0, direction], centre[1, direction], float(share), levels)
            total += float(np.abs(own[:, direction] - exact).mean())
    return total / (len(obs) * DIRECTIONS)


_STANDARD = NormalDist()
_GRID = np.linspace(-5.0, 5.0, 401)
_CDF = np.array([_STANDARD.cdf(float(x)) for x in _GRID])


def _mixture_quantiles(left: float, right: float, left_share: float, levels: ndarray) -> ndarray:
    """Quantiles of ``left_share`` N(left, SPREAD^2) + (1 - left_share) N(right, SPREAD^2), by interpolation."""
    grid = np.unique(np.concatenate([centre + SPREAD * _GRID for centre in (left, right)]))
    parts = [np.interp((grid - centre) / SPREAD, _GRID, _CDF, 0.0, 1.0) for centre in (left, right)]
    return np.interp(levels, left_share * parts[0] + (1 - left_share) * parts[1], grid)
