"""Training windows as tensors, in an order that is a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
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


def joined(parts: Sequence[WindowTensors]) -> WindowTensors:
    """Windows of several recordings as one; what was held out stays held out."""
    offsets = np.cumsum([0, *(len(next(iter(part.nobs.values()))) for part in parts[:-1])])
    actions = [part.nactions for part in parts if part.nactions is not None]
    return WindowTensors(
        nobs={name: torch.cat([part.nobs[name] for part in parts]) for name in parts[0].nobs},
        nactions=torch.cat(actions) if len(actions) == len(parts) else None,
        training=torch.cat([part.training + offset for part, offset in zip(parts, offsets, strict=True)]),
        heldout=torch.cat([part.heldout + offset for part, offset in zip(parts, offsets, strict=True)]),
    )


def window_tensors(episodes: Episodes, spec: PolicySpec, normalizer: Normalizer) -> WindowTensors:
    """Windows of ``episodes`` whose arrays are the fields of ``spec``; the action may be absent.

    Every recorded step owns a window, the last ones too (their actions hold the last one): they alone show how a
    finished task looks, and what to do there. Diffusion Policy drops them.
    """
    has_actions = spec.action.name in episodes.arrays
    index = window_index(episodes.ends, spec, max_padding=spec.chunk_length - 1)
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


def batch_indices(n: int, batch_size: int, seed: int, draw: int, stream: int = 0) -> Tensor:
    """Positions (batch_size,) in ``range(n)`` of the ``draw``-th batch: epochs of permutations, no item left out.

    Each ``stream`` of a seed has permutations of its own.

    A pure function, so there is no sampler state to save, and a resumed run continues exactly.
    """
    first = draw * batch_size
    parts, taken = [], 0
    while taken < batch_size:
        epoch, offset = divmod(first + taken, n)
        take = min(batch_size - taken, n - offset)
        parts.append(_permutation(n, seed, (stream << 32) + epoch)[offset : offset + take])
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
