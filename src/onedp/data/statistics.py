"""Minimum, maximum, mean and deviation of large arrays, in one pass over pieces of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray


class RunningStatistics:
    """Statistics per dimension over rows that arrive in pieces; NaN and infinity are left out, not propagated.

    Pieces are merged in float64 with the parallel update of Chan, Golub and LeVeque (1979), so large means do not
    swallow small deviations.
    """

    def __init__(self, n_dims: int) -> None:
        self.count: Int64[ndarray, " d"] = np.zeros(n_dims, dtype=np.int64)
        self.min: Float64[ndarray, " d"] = np.full(n_dims, np.inf)
        self.max: Float64[ndarray, " d"] = np.full(n_dims, -np.inf)
        self.mean: Float64[ndarray, " d"] = np.zeros(n_dims)
        self._squares: Float64[ndarray, " d"] = np.zeros(n_dims)  # sum of squared distances from the mean

    @property
    def std(self) -> Float64[ndarray, " d"]:
        """Standard deviation of the population (divided by the count)."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))

    def update(self, rows: ndarray) -> None:
        """Add ``(n, ...)`` rows of ``n_dims`` numbers each."""
        wide = np.asarray(rows, dtype=np.float64).reshape(-1, len(self.count))  # (n, d)
        finite = np.isfinite(wide)
        if finite.all():
            count, low, high, total = np.full(len(self.count), len(wide)), wide, wide, wide
        else:
            count = finite.sum(axis=0)
            low, high, total = (np.where(finite, wide, fill) for fill in (np.inf, -np.inf, 0.0))
        mean = total.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(finite, wide - mean, 0.0) ** 2).sum(axis=0)
        both = np.maximum(self.count + count, 1)
        shift = mean - self.mean
        self._squares = self._squares + squares + shift**2 * self.count * count / both
        self.mean = self.mean + shift * count / both
        self.count = self.count + count
        self.min = np.minimum(self.min, low.min(axis=0, initial=np.inf))
        self.max = np.maximum(self.max, high.max(axis=0, initial=-np.inf))
