"""Intervals for rates, means and paired differences. numpy only.

Two intervals are used everywhere, both at 95 % unless asked otherwise: Wilson for a rate, and the bias-corrected and
accelerated (BCa) bootstrap for a mean. A paired difference is the mean of the differences start by start, so the
difficulty of a start, which both policies share, drops out of its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from onedp.errors import OneDPError

RESAMPLES = 10_000
NORMAL = NormalDist()
_ELEMENTS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A number and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SuccessTable:
    """McNemar's counts of two policies on the same starts."""

    both: int
    only_candidate: int
    only_reference: int
    neither: int

    @property
    def discordant(self) -> int:
        """Starts that one policy solves and the other does not; they alone carry the success difference."""
        return self.only_candidate + self.only_reference

    @property
    def exact_p(self) -> float:
        """Two-sided exact McNemar test: a fair coin over the discordant starts; right however few they are."""
        tail = sum(math.comb(self.discordant, k) for k in range(min(self.only_candidate, self.only_reference) + 1))
        return min(1.0, 2 * tail / 2**self.discordant)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate; inside [0, 1] and of positive width even at 0 and n successes.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, equation 4.
    """
    if n < 1 or not 0 <= successes <= n:
        raise OneDPError(f"A rate needs n >= 1 and 0 <= successes <= n, got {successes} of {n}.")
    z = _two_sided_quantile(confidence)
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else float(centre - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else float(centre + half)
    return low, high


def binary_entropy(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Shannon entropy of "success or not" [bit], with all that it can be inside the rate's Wilson interval."""
    low, high = wilson_interval(successes, n, confidence)
    ends = [_entropy_bits(low), _entropy_bits(high)]
    largest = 1.0 if low <= 0.5 <= high else max(ends)
    return Estimate(_entropy_bits(successes / n), min(ends), largest)


def _entropy_bits(rate: float) -> float:
    return -sum(share * math.log2(share) for share in (rate, 1 - rate) if share) + 0.0


def bootstrap_mean(
    values: Float[ndarray, " n"],
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean with its BCa bootstrap interval; the same ``rng`` state gives the same interval.

    BCa rather than percentile: episode scores pile up at 1 with a thin tail of failures, and the percentile interval
    ignores that skew. All values equal gives an interval of no width, which says only that nothing else was seen.
    Source: Efron 1987; for a mean the acceleration is skewness / (6 sqrt(n)).
    """
    if len(values) < 2:
        raise OneDPError(f"A bootstrap interval needs at least 2 values, got {len(values)}.")
    if not np.isfinite(values).all():
        raise OneDPError(f"A bootstrap interval needs finite values; number {_first_bad(values)} is not.")
    mean = float(values.mean())
    deviations = values - mean
    if np.ptp(values) == 0.0 or (deviations**2).sum() ** 1.5 == 0.0:  # equal, or closer than a float can square
        return Estimate(mean, mean, mean)

    means = _resampled_means(deviations, rng, resamples)  # of deviations: the bias then compares with exactly 0
    below = (np.mean(means < 0.0) + np.mean(means <= 0.0)) / 2
    bias = NORMAL.inv_cdf(float(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples)))
    acceleration = float((deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5))
    z = _two_sided_quantile(confidence)
    shifted = [bias + (bias + side) / (1 - acceleration * (bias + side)) for side in (-z, z)]
    low, high = np.quantile(means, [NORMAL.cdf(side) for side in shifted])
    return Estimate(mean, mean + float(low), mean + float(high))


def align_starts(
    seeds: Sequence[int],
    reference_seeds: Sequence[int],
    *,
    names: tuple[str, str] = ("candidate", "reference"),
    common_only: bool = False,
) -> tuple[Int[ndarray, " n"], Int[ndarray, " n"]]:
    """Positions in the two lists of the starts to pair, ascending by seed.

    Raises ``OneDPError`` naming the starts that one side lacks, unless ``common_only`` asks for those both have; and
    on a seed given twice or when there is nothing in common.
    """
    for name, listed in zip(names, (seeds, reference_seeds), strict=True):
        if len(set(listed)) != len(listed):
            repeated = sorted({seed for seed in listed if list(listed).count(seed) > 1})
            raise OneDPError(f"{name} has more than one episode of the same start: seeds {_some(repeated)}.")
    lacking = [sorted(set(reference_seeds) - set(seeds)), sorted(set(seeds) - set(reference_seeds))]
    if any(lacking) and not common_only:
        named = zip(names, lacking, strict=True)
        parts = [f"{name} lacks seeds {_some(missing)}" for name, missing in named if missing]
        raise OneDPError(
            f"The two policies were not run on the same starts: {'; '.join(parts)}. Evaluate both with the same "
            "--first-seed and --episodes, or compare on the common starts only."
        )
    common = sorted(set(seeds) & set(reference_seeds))
    if not common:
        raise OneDPError(f"{names[0]} and {names[1]} have no start in common, so nothing can be paired.")
    places = [{seed: place for place, seed in enumerate(listed)} for listed in (seeds, reference_seeds)]
    return np.array([places[0][seed] for seed in common]), np.array([places[1][seed] for seed in common])


def paired_mean_difference(
    candidate: Float[ndarray, " n"],
    reference: Float[ndarray, " n"],
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean of candidate minus reference, start by start, with a bootstrap over starts.

    Rows of both arrays are the same starts in the same order (``align_starts``). Successes given as 0 and 1 yield the
    difference of the success rates.
    """
    return bootstrap_mean(candidate - reference, rng, confidence=confidence, resamples=resamples)


def success_table(candidate: Bool[ndarray, " n"], reference: Bool[ndarray, " n"]) -> SuccessTable:
    """McNemar's counts; rows of both arrays are the same starts in the same order."""
    return SuccessTable(
        both=int(np.sum(candidate & reference)),
        only_candidate=int(np.sum(candidate & ~reference)),
        only_reference=int(np.sum(~candidate & reference)),
        neither=int(np.sum(~candidate & ~reference)),
    )


def _two_sided_quantile(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise OneDPError(f"A confidence level lies between 0 and 1, got {confidence}.")
    return NORMAL.inv_cdf(0.5 + confidence / 2)


def _resampled_means(values: ndarray, rng: np.random.Generator, resamples: int) -> ndarray:
    rows = max(1, _ELEMENTS_AT_ONCE // len(values))  # bounds the memory; depends on n alone, so numbers repeat
    return np.concatenate(
        [
            values[rng.integers(len(values), size=(min(rows, resamples - done), len(values)))].mean(axis=1)
            for done in range(0, resamples, rows)
        ]
    )


def _first_bad(values: ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(values))[0])


def _some(seeds: Sequence[int], shown: int = 5) -> str:
    """``1, 2, 3``, shortened after a few with the number left out."""
    text = ", ".join(str(seed) for seed in seeds[:shown])
    return text if len(seeds) <= shown else f"{text} and {len(seeds) - shown} more"
