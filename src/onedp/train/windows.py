"""Training windows as tensors, in an order that is a function of (seed, step) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onedp.data.episodes import Episodes
from onedp.data.normalize import Normalizer
from onedp.data.windows import gather_windows, window_index
from onedp.methods.method import Batch
from onedp.types import PolicySpec

HELDOUT_EVERY = 20
"""Every 20th episode is held out: never trained on, used for diagnostics (when there are at least that many)."""


@dataclass(frozen=True)
class WindowTensors:
    """All normalised windows; low-dimensional data fits in memory many times over."""

    nobs: dict[str, Tensor]
    nactions: Tensor | None
    training: Tensor
    """Indices of training windows (n,)."""
    heldout: Tensor
    """Indices of held-out windows; the training ones when there are too few episodes to hold any out."""

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        """Windows ``indices`` on ``device``."""
        actions = None if self.nactions is None else self.nactions[indices].to(device)
        return Batch({name: values[indices].to(device) for name, values in self.nobs.items()}, actions)


def window_tensors(episodes: Episodes, spec: PolicySpec, normalizer: Normalizer) -> WindowTensors:
    """Windows of ``episodes`` whose arrays are the fields of ``spec``; the action may be absent."""
    has_actions = spec.action.name in episodes.arrays
    index = window_index(episodes.ends, spec, max_padding=None if has_actions else spec.chunk_length)
    arrays = {name: normalizer.normalize(name, np.asarray(values)) for name, values in episodes.arrays.items()}
    if not has_actions:
        arrays[spec.action.name] = np.zeros((episodes.n_steps, spec.action_dim), dtype=np.float32)
    obs, actions = gather_windows(arrays, index, spec)
    episode = np.searchsorted(episodes.ends, index.obs_steps[:, -1], side="right")
    heldout = (episode % HELDOUT_EVERY == HELDOUT_EVERY - 1) if len(episodes) >= HELDOUT_EVERY else episode < 0
    training = np.flatnonzero(~heldout)
    return WindowTensors(
        nobs={name: torch.from_numpy(values) for name, values in obs.items()},
        nactions=torch.from_numpy(actions) if has_actions else None,
        training=torch.from_numpy(training),
        heldout=torch.from_numpy(np.flatnonzero(heldout) if heldout.any() else training),
    )


def batch_indices(n: int, batch_size: int, seed: int, draw: int) -> Tensor:
    """Positions (batch_size,) in ``range(n)`` of the ``draw``-th batch: epochs of permutations, no item left out.

    A pure function, so there is no sampler state to save, and a resumed run continues exactly.
    """
    first = draw * batch_size
    parts, taken = [], 0
    while taken < batch_size:
        epoch, offset = divmod(first + taken, n)
        take = min(batch_size - taken, n - offset)
        parts.append(_permutation(n, seed, epoch)[offset : offset + take])
        taken += take
    return torch.from_numpy(np.concatenate(parts))


_cache: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    key = (n, seed, epoch)
    if key not in _cache:
        if len(_cache) > 4:
            _cache.clear()
        _cache[key] = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
    return _cache[key]
