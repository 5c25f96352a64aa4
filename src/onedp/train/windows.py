"""Training windows, gathered batch by batch, in an order that is a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from onedp.data.episodes import Episodes
from onedp.data.lazy import StepArray, concatenated
from onedp.data.normalize import Normalizer
from onedp.data.windows import window_index
from onedp.diffusion.draws import WHOLE, Share
from onedp.methods.method import Batch
from onedp.types import PolicySpec

HELDOUT_EVERY = 20
"""Every 20th episode is held out: never trained on, used for diagnostics (when there are at least that many)."""


def heldout_episodes(count: int) -> np.ndarray:
    """Which of ``count`` episodes training holds out, (count,) bool: none where there are fewer than 20."""
    return np.arange(count) % HELDOUT_EVERY == HELDOUT_EVERY - 1


@dataclass(frozen=True)
class Pictures:
    """Pictures as they were recorded, (N, H, W, C) bytes: in memory, memory-mapped or decoded on demand."""

    steps: StepArray
    scale: np.ndarray
    """Normalised = bytes * scale + offset, (1, 1, C) each, as ``Normalizer.scale_offset`` gives them."""
    offset: np.ndarray
    crop: tuple[int, int] | None = None
    """Height and width of the random part that training looks at; None: all."""

    def __len__(self) -> int:
        return len(self.steps)

    def gather(
        self, steps: Tensor, device: torch.device, rng: np.random.Generator | None, share: Share = WHOLE
    ) -> Tensor:
        """Normalised pictures (B, To, h, w, C) of the steps (B, To); cropped at random when there is an ``rng``."""
        pictures = np.asarray(self.steps[steps.numpy()])
        if self.crop is not None and rng is not None:
            pictures = random_crops(pictures, self.crop, rng, share)
        values = pictures.astype(np.float32)  # in numpy: torch would start its own pool of threads in each of ours
        values *= self.scale
        values += self.offset
        return torch.from_numpy(values).to(device)


FieldSource: TypeAlias = Tensor | Pictures
"""Steps of a field: normalised numbers (N, *shape), or pictures that are normalised when they are gathered."""


@dataclass(frozen=True)
class WindowTensors:
    """All windows of the training data. Only the steps lie in memory, of pictures not even these."""

    fields: Mapping[str, FieldSource]
    actions: Tensor | None
    """Normalised actions (N, Da) of all steps; None where only observations are known."""
    obs_steps: Tensor
    """Steps that each window observes (n, To)."""
    action_steps: Tensor
    """Steps whose actions it predicts (n, Tp)."""
    training: Tensor
    """Indices of training windows (k,)."""
    heldout: Tensor
    """Indices of held-out windows; the training ones when there are too few episodes to hold any out."""
    goals: frozenset[str] = frozenset()
    """Fields that are constant over a window, the newest step's throughout."""

    def steps_of(self, name: str, windows: Tensor) -> Tensor:
        """Steps (n, To) whose values of the field ``name`` the ``windows`` (n,) observe."""
        steps = self.obs_steps[windows]
        return steps[:, -1:].expand_as(steps) if name in self.goals else steps

    def __len__(self) -> int:
        return len(self.obs_steps)

    @property
    def has_pictures(self) -> bool:
        """Whether a batch may take long to make."""
        return any(isinstance(field, Pictures) for field in self.fields.values())

    def training_observations(self, device: torch.device) -> dict[str, Tensor | TrainingPictures]:
        """Fields (k, To, *shape) of all training windows; pictures can be indexed, but are not in memory."""
        steps = {name: self.steps_of(name, self.training) for name in self.fields}
        return {
            name: TrainingPictures(field, steps[name], device) if isinstance(field, Pictures) else field[steps[name]]
            for name, field in self.fields.items()
        }

    def batch(
        self, indices: Tensor, device: torch.device, rng: np.random.Generator | None = None, share: Share = WHOLE
    ) -> Batch:
        """Windows ``indices`` on ``device``; ``rng`` is for training: pictures are cropped at random.

        ``share``: of which joint batch they are; all processes give ``rng`` alike.
        """
        nobs = {}
        for name, field in self.fields.items():
            steps = self.steps_of(name, indices)
            if isinstance(field, Pictures):
                nobs[name] = field.gather(steps, device, rng, share)
            else:
                nobs[name] = field[steps].to(device)
        actions = None if self.actions is None else self.actions[self.action_steps[indices]].to(device)
        return Batch(nobs, actions)


@dataclass(frozen=True)
class TrainingPictures:
    """The pictures that training windows observe, for a method's preparation: gathered when indexed, not cropped."""

    pictures: Pictures
    obs_steps: Tensor
    """(k, To) of the training windows."""
    device: torch.device

    def __len__(self) -> int:
        return len(self.obs_steps)

    def __getitem__(self, picks: Tensor) -> Tensor:
        """Normalised pictures (n, To, H, W, C) of the training windows ``picks`` (n,)."""
        return self.pictures.gather(self.obs_steps[picks.cpu()], self.device, None)


def joined(parts: Sequence[WindowTensors]) -> WindowTensors:
    """Windows of several recordings as one; what was held out stays held out."""
    steps = np.cumsum([0, *(len(next(iter(part.fields.values()))) for part in parts[:-1])])
    windows = np.cumsum([0, *(len(part) for part in parts[:-1])])
    actions = [part.actions for part in parts if part.actions is not None]

    def shifted(name: str, offsets: np.ndarray) -> Tensor:
        return torch.cat([getattr(part, name) + int(offset) for part, offset in zip(parts, offsets, strict=True)])

    return WindowTensors(
        fields={name: _joined_fields([part.fields[name] for part in parts]) for name in parts[0].fields},
        actions=torch.cat(actions) if len(actions) == len(parts) else None,
        obs_steps=shifted("obs_steps", steps),
        action_steps=shifted("action_steps", steps),
        training=shifted("training", windows),
        heldout=shifted("heldout", windows),
        goals=parts[0].goals,
    )


def _joined_fields(parts: Sequence[FieldSource]) -> FieldSource:
    tensors = [part for part in parts if isinstance(part, Tensor)]
    pictures = [part for part in parts if isinstance(part, Pictures)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    first = pictures[0]
    return Pictures(concatenated([part.steps for part in pictures]), first.scale, first.offset, first.crop)


def window_tensors(
    episodes: Episodes, spec: PolicySpec, normalizer: Normalizer, crop: tuple[int, int] | None = None
) -> WindowTensors:
    """Windows of ``episodes`` whose arrays are the fields of ``spec``; the action may be absent.

    Every recorded step owns a window, the last ones too (their actions hold the last one): they alone show how a
    finished task looks, and what to do there. Diffusion Policy drops them. ``crop``: see ``Pictures``.
    """
    index = window_index(episodes.ends, spec, max_padding=spec.chunk_length - 1)
    fields: dict[str, FieldSource] = {}
    for field in spec.observations:
        if field.is_image:
            fields[field.name] = Pictures(episodes.arrays[field.name], *normalizer.scale_offset(field.name), crop)
        else:
            fields[field.name] = _normalised(episodes, normalizer, field.name)
    action = spec.action.name
    episode = np.searchsorted(episodes.ends, index.obs_steps[:, -1], side="right")
    heldout = heldout_episodes(len(episodes))[episode]
    training = np.flatnonzero(~heldout)
    return WindowTensors(
        fields=fields,
        actions=_normalised(episodes, normalizer, action) if action in episodes.arrays else None,
        obs_steps=torch.from_numpy(index.obs_steps),
        action_steps=torch.from_numpy(index.action_steps),
        training=torch.from_numpy(training),
        heldout=torch.from_numpy(np.flatnonzero(heldout) if heldout.any() else training),
        goals=frozenset(field.name for field in spec.observations if field.goal_of is not None),
    )


def _normalised(episodes: Episodes, normalizer: Normalizer, name: str) -> Tensor:
    return torch.from_numpy(normalizer.normalize(name, episodes.dense(name)))


def random_crops(
    pictures: np.ndarray, size: tuple[int, int], rng: np.random.Generator, share: Share = WHOLE
) -> np.ndarray:
    """A random part (h, w) of every picture of ``(B, To, H, W, C)``, each with a place of its own.

    ``share``: of which joint batch the pictures are; places are drawn for all of it.
    """
    height, width = size
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    joint = (share.joint(len(pictures)), *pictures.shape[1:-3])
    tops = share.of(rng.integers(0, flat.shape[1] - height + 1, joint)).ravel()
    lefts = share.of(rng.integers(0, flat.shape[2] - width + 1, joint)).ravel()
    parts = np.empty((len(flat), height, width, flat.shape[3]), dtype=flat.dtype)
    for part, picture, top, left in zip(parts, flat, tops, lefts, strict=True):
        part[...] = picture[top : top + height, left : left + width]
    return parts.reshape(*pictures.shape[:-3], *parts.shape[1:])


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
    found = _cache.get(key)
    if found is None:
        if len(_cache) > 4:
            _cache.clear()
        found = _cache[key] = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
    return found
