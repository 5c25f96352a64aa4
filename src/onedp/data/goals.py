"""Goals for goal-conditioned policies: what the demonstrator reached later in the same episode (hindsight relabelling).

As score-based goal-conditioned imitation does (BESO, Reuss et al., arXiv 2304.02532, sec. 3): a demonstration shows how
to reach every state that it passes through afterwards.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from onedp.data.episodes import Episodes
from onedp.types import PolicySpec


def future_steps(ends: Int64[ndarray, " episodes"], rng: np.random.Generator) -> Int64[ndarray, " n"]:
    """For every recorded step a later one of its episode, uniformly drawn; for an episode's last step itself."""
    own = np.arange(ends[-1])
    last = ends[np.searchsorted(ends, own, side="right")] - 1
    return own + np.ceil(rng.random(len(own)) * (last - own)).astype(np.int64)


def with_goals(episodes: Episodes, spec: PolicySpec, seed: int = 0) -> Episodes:
    """``episodes`` and the goal fields of ``spec`` that they lack; all goals of a step are of the same future step.

    A pure function of the data and the ``seed``: distillation sees the goals that the teacher was trained on.
    """
    missing = [field for field in spec.observations if field.goal_of and field.name not in episodes.arrays]
    if not missing:
        return episodes
    steps = future_steps(episodes.ends, np.random.default_rng(seed))
    goals = {field.name: episodes.arrays[str(field.goal_of)][steps] for field in missing}
    return Episodes({**episodes.arrays, **goals}, episodes.ends, episodes.source)
