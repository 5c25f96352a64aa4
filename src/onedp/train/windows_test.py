from __future__ import annotations

import numpy as np
import torch

from onedp.data.episodes import Episodes
from onedp.data.normalize import fit_normalizer
from onedp.train.windows import HELDOUT_EVERY, batch_indices, joined, window_tensors
from onedp.types import FieldSpec, PolicySpec

SPEC = PolicySpec((FieldSpec("x", (1,), "m"),), FieldSpec("action", (1,), "m"), (-1.0,), (1.0,), rate_hz=10.0)


def recording(offset: float, n_episodes: int = HELDOUT_EVERY + 1, length: int = 20) -> Episodes:
    n = n_episodes * length
    values = offset + np.arange(n, dtype=np.float32)[:, None] / n
    return Episodes({"x": values, "action": values}, np.arange(1, n_episodes + 1) * length, "test")


def test_every_step_owns_a_window_and_every_twentieth_episode_is_held_out() -> None:
    data = window_tensors(recording(0.0), SPEC, fit_normalizer(recording(0.0).arrays, SPEC, "min_max"))
    assert len(data.training) == HELDOUT_EVERY * 20
    assert data.heldout.tolist() == list(range((HELDOUT_EVERY - 1) * 20, HELDOUT_EVERY * 20))
    assert data.nactions is not None
    last = data.nactions[19]  # the first episode's last step: its action is held
    assert torch.equal(last[1:], last[1].expand(15, 1))


def test_joined_recordings_hold_the_same_episodes_out() -> None:
    """A held-out episode's mirror image must not be trained on."""
    parts = [recording(0.0), recording(5.0)]
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    normalizer = fit_normalizer(arrays, SPEC, "min_max")
    windows = [window_tensors(part, SPEC, normalizer) for part in parts]
    both = joined(windows)
    n = len(windows[0].nobs["x"])
    assert both.heldout.tolist() == [*windows[0].heldout.tolist(), *(windows[1].heldout + n).tolist()]
    assert set(both.heldout.tolist()).isdisjoint(both.training.tolist())
    assert len(both.training) + len(both.heldout) == 2 * n
    batch = both.batch(both.heldout, torch.device("cpu"))
    assert batch.nactions is not None
    torch.testing.assert_close(
        batch.nactions,
        torch.cat([part.batch(part.heldout, torch.device("cpu")).nactions for part in windows]),  # type: ignore[misc]
    )


def test_batches_cover_every_item_once_an_epoch() -> None:
    seen = torch.cat([batch_indices(10, 4, seed=0, draw=draw) for draw in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
