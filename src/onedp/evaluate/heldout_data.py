"""Observations to judge policies on: of the episodes that training holds out, with what follows each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from onedp.data.config import ReadingConfig
from onedp.data.episodes import Episodes
from onedp.data.readers import open_recording
from onedp.data.windows import gather_windows, window_index
from onedp.tasks import Task
from onedp.tasks.demonstrations import load_demonstrations, load_observations
from onedp.tasks.fields import recorded_keys
from onedp.train.windows import HELDOUT_EVERY, heldout_episodes
from onedp.types import PolicySpec


@dataclass(frozen=True)
class HeldoutObservations:
    """Observations to judge on, with what follows them."""

    now: Mapping[str, ndarray]
    """Fields (N, To, *shape)."""
    next: Mapping[str, ndarray]
    """The observations n_action_steps later, in the same episode."""
    has_next: ndarray
    """(N,) False where the episode ends before."""
    actions: ndarray | None
    """Demonstrated actions from now on (N, Tc, Da), physical units; None where the data has none."""
    episode: ndarray
    """Number of the episode that each is from (N,)."""
    selection: str
    digest: str


def load_heldout(
    data: Path, task: Task, spec: PolicySpec, count: int, seed: int, reading: ReadingConfig | None = None
) -> HeldoutObservations:
    """``count`` observations of the data set's held-out episodes, without replacement; raises ``DataError``."""
    has_actions = bool(recorded_keys(open_recording(data, reading), [task.spec.action.name], task.recorded_as))
    load = load_demonstrations if has_actions else load_observations
    episodes = load(data, task, reading=reading)
    arrays = dict(episodes.arrays)
    arrays.setdefault(spec.action.name, np.zeros((episodes.n_steps, spec.action_dim), dtype=np.float32))
    index = window_index(episodes.ends, spec, max_padding=spec.chunk_length - 1)
    newest = index.obs_steps[:, -1]
    episode = np.searchsorted(episodes.ends, newest, side="right")
    candidates, selection = _candidates(episode, episodes)
    picks = np.sort(np.random.default_rng(seed).permutation(candidates)[:count])
    later = picks + spec.n_action_steps  # every recorded step owns a window, in order
    has_next = newest[picks] + spec.n_action_steps < episodes.ends[episode[picks]]
    later = np.where(has_next, later, picks)
    now, actions = gather_windows(arrays, index, spec, picks)
    return HeldoutObservations(
        now=now,
        next=gather_windows(arrays, index, spec, later)[0],
        has_next=has_next,
        actions=actions[:, spec.n_obs_steps - 1 :] if has_actions else None,
        episode=episode[picks],
        selection=f"{len(picks)} observations of {selection}{_left_out(episodes)}",
        digest=episodes.digest(),
    )


def _left_out(episodes: Episodes) -> str:
    return f"; {len(episodes.skipped)} that cannot be used were left out" if episodes.skipped else ""


def _candidates(episode: ndarray, episodes: Episodes) -> tuple[ndarray, str]:
    apart = heldout_episodes(len(episodes))
    if not apart.any():
        return np.arange(len(episode)), (
            f"all {len(episodes)} episodes: with fewer than {HELDOUT_EVERY} nothing can be set apart, so make sure "
            "that the policies were not trained on them"
        )
    return np.flatnonzero(apart[episode]), (
        f"{apart.sum()} of {len(episodes)} episodes: every {HELDOUT_EVERY}th, those that training "
        "on this file holds out"
    )
