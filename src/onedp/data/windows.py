"""Windows of (To observations, Tp actions) over episodes, with padding at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

from onedp.errors import DataError
from onedp.types import FieldSpec, PolicySpec


@dataclass(frozen=True)
class WindowIndex:
    """Which steps each window reads. A window belongs to its newest observation, one of the recorded steps.

    Steps before the episode repeat its first step, steps after it repeat its last; the mask marks real actions. The
    last steps of an episode own no window: too much of it would be padding.
    """

    obs_steps: Int64[ndarray, "n to"]
    action_steps: Int64[ndarray, "n tp"]
    action_is_real: Bool[ndarray, "n tp"]
    """False where the action is padding."""
    short_episodes: tuple[int, ...] = ()
    """Episodes with fewer steps than a prediction: each of their windows is padded."""
    skipped_episodes: tuple[int, ...] = ()
    """Episodes so short that no window comes from them."""

    def __len__(self) -> int:
        return len(self.obs_steps)

    def steps_of(self, field: FieldSpec) -> Int64[ndarray, "n to"]:
        """Steps that windows read of an observation; of a goal, which is constant over a chunk, the newest one's."""
        if field.goal_of is None:
            return self.obs_steps
        return np.broadcast_to(self.obs_steps[:, -1:], self.obs_steps.shape)

    def summary(self) -> str:
        """One or two sentences: how many windows, how much padding, what short episodes give."""
        before, after = ~self.action_is_real[:, 0], ~self.action_is_real[:, -1]
        text = (
            f"{len(self):,} windows, {int(before.sum()):,} padded before the episode's start, {int(after.sum()):,} "
            f"after its end; {1 - self.action_is_real.mean():.1%} of all actions are padding."
        )
        if self.short_episodes:
            text += (
                f" Episodes shorter than a prediction of {self.action_steps.shape[1]} steps: "
                f"{_some(self.short_episodes)}, padded in every window"
            )
            text += f"; of these {_some(self.skipped_episodes)} give none." if self.skipped_episodes else "."
        return text


def window_index(ends: Int64[ndarray, " episodes"], spec: PolicySpec, max_padding: int | None = None) -> WindowIndex:
    """Index all windows of episodes with the cumulative ``ends``.

    ``max_padding``: how many padded actions a window may have after the episode's end; the default
    ``n_action_steps - 1`` is Diffusion Policy's (every executed action of a window is then real or the last one held).
    Raises ``DataError`` when no episode is long enough for a single window.
    """
    padding = min(spec.n_action_steps if max_padding is None else max_padding + 1, spec.chunk_length) - 1
    if padding < 0:
        raise DataError(f"max_padding is {max_padding}, expected a number of steps from 0 to {spec.chunk_length - 1}.")
    needed = spec.chunk_length - padding
    starts = np.concatenate([[0], ends[:-1]])
    obs_steps, action_steps, real = [], [], []
    for start, end in zip(starts, ends, strict=True):
        newest = np.arange(start, end - needed + 1)[:, None]  # (n, 1)
        observed = newest + np.arange(1 - spec.n_obs_steps, 1)  # (n, To)
        acted = newest + np.arange(1 - spec.n_obs_steps, spec.chunk_length)  # (n, Tp)
        obs_steps.append(np.clip(observed, start, end - 1))
        action_steps.append(np.clip(acted, start, end - 1))
        real.append((acted >= start) & (acted < end))
    lengths = np.diff(ends, prepend=0)
    index = WindowIndex(
        obs_steps=np.concatenate(obs_steps),
        action_steps=np.concatenate(action_steps),
        action_is_real=np.concatenate(real),
        short_episodes=tuple(np.flatnonzero(lengths < spec.horizon).tolist()),
        skipped_episodes=tuple(np.flatnonzero(lengths < needed).tolist()),
    )
    if len(index) == 0:
        raise DataError(
            f"All episodes are shorter than a window: the longest has {int(lengths.max())} steps, "
            f"a window needs {needed} (horizon {spec.horizon}, {spec.n_obs_steps} observations, "
            f"{padding} padded actions). Record longer episodes or lower the horizon."
        )
    return index


def gather_windows(
    arrays: Mapping[str, ndarray], index: WindowIndex, spec: PolicySpec
) -> tuple[dict[str, ndarray], ndarray]:
    """Read all windows: observation fields ``(n, To, *shape)`` and actions ``(n, Tp, Da)``, float32."""
    obs = {
        field.name: np.asarray(arrays[field.name], dtype=np.float32)[index.steps_of(field)]
        for field in spec.observations
    }
    actions = np.asarray(arrays[spec.action.name], dtype=np.float32)[index.action_steps]
    return obs, actions


def _some(episodes: tuple[int, ...]) -> str:
    """``3 (number 4, 7, 9)``; at most five numbers."""
    more = ", ..." if len(episodes) > 5 else ""
    return f"{len(episodes)} (number {', '.join(map(str, episodes[:5]))}{more})"
