from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from onedp.data.episodes import Episodes
from onedp.data.lazy import LazyArray
from onedp.data.normalize import fit_normalizer
from onedp.train.windows import HELDOUT_EVERY, batch_indices, joined, random_crops, window_tensors
from onedp.types import FieldSpec, PolicySpec

CPU = torch.device("cpu")
SPEC = PolicySpec((FieldSpec("x", (1,), "m"),), FieldSpec("action", (1,), "m"), (-1.0,), (1.0,), rate_hz=10.0)


def recording(offset: float, n_episodes: int = HELDOUT_EVERY + 1, length: int = 20) -> Episodes:
    n = n_episodes * length
    values = offset + np.arange(n, dtype=np.float32)[:, None] / n
    return Episodes({"x": values, "action": values}, np.arange(1, n_episodes + 1) * length, "test")


def test_every_step_owns_a_window_and_every_twentieth_episode_is_held_out() -> None:
    data = window_tensors(recording(0.0), SPEC, fit_normalizer(recording(0.0).arrays, SPEC, "min_max"))
    assert len(data.training) == HELDOUT_EVERY * 20
    assert data.heldout.tolist() == list(range((HELDOUT_EVERY - 1) * 20, HELDOUT_EVERY * 20))
    last = data.batch(torch.tensor([19]), CPU).nactions[0]  # type: ignore[index]  # the first episode's last step: its action is held
    assert torch.equal(last[1:], last[1].expand(15, 1))


def test_joined_recordings_hold_the_same_episodes_out() -> None:
    """A held-out episode's mirror image must not be trained on."""
    parts = [recording(0.0), recording(5.0)]
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    normalizer = fit_normalizer(arrays, SPEC, "min_max")
    windows = [window_tensors(part, SPEC, normalizer) for part in parts]
    both = joined(windows)
    n = len(windows[0])
    assert both.heldout.tolist() == [*windows[0].heldout.tolist(), *(windows[1].heldout + n).tolist()]
    assert set(both.heldout.tolist()).isdisjoint(both.training.tolist())
    assert len(both.training) + len(both.heldout) == 2 * n
    batch = both.batch(both.heldout, CPU)
    assert batch.nactions is not None
    torch.testing.assert_close(
        batch.nactions,
        torch.cat([part.batch(part.heldout, CPU).nactions for part in windows]),  # type: ignore[misc]
    )


def picture_recording(pictures: np.ndarray, lazy: bool) -> Episodes:
    n = len(pictures)
    steps = LazyArray(pictures.shape, pictures.dtype, lambda rows: pictures[rows]) if lazy else pictures
    values = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
    return Episodes({"camera": steps, "x": values, "action": values}, np.array([n // 2, n]), "test")


PICTURES = np.random.default_rng(0).integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)
PICTURE_SPEC = dataclasses.replace(
    SPEC, observations=(FieldSpec("camera", (6, 5, 3), "1", "uint8"), *SPEC.observations)
)


@pytest.mark.parametrize("lazy", [False, True])
def test_pictures_are_normalised_as_the_policy_does_when_they_are_gathered(lazy: bool) -> None:
    episodes = picture_recording(PICTURES, lazy)
    normalizer = fit_normalizer(episodes.arrays, PICTURE_SPEC, "mean_std")
    assert normalizer.modes == {"camera": "min_max", "x": "mean_std", "action": "mean_std"}
    data = window_tensors(episodes, PICTURE_SPEC, normalizer)
    batch = data.batch(torch.tensor([13, 0, 13]), CPU)
    seen = normalizer.normalize("camera", PICTURES[[[12, 13], [0, 0], [12, 13]]])  # episodes begin at 0 and 12
    np.testing.assert_allclose(batch.nobs["camera"].numpy(), seen, atol=1e-6)
    assert -1 <= seen.min() < -0.9 < 0.9 < seen.max() <= 1
    observed = data.training_observations(CPU)["camera"]
    torch.testing.assert_close(observed[torch.tensor([13, 0, 13])], batch.nobs["camera"])
    both = joined([data, data]).batch(torch.tensor([13, 24 + 13]), CPU)
    torch.testing.assert_close(both.nobs["camera"], batch.nobs["camera"][[0, 0]])


def test_training_crops_at_random_and_diagnostics_do_not() -> None:
    episodes = picture_recording(PICTURES, lazy=True)
    data = window_tensors(episodes, PICTURE_SPEC, fit_normalizer(episodes.arrays, PICTURE_SPEC), crop=(4, 3))
    indices = torch.arange(24)
    first, again, other = (data.batch(indices, CPU, np.random.default_rng(seed)).nobs["camera"] for seed in (0, 0, 1))
    assert first.shape == (24, 2, 4, 3, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert data.batch(indices, CPU).nobs["camera"].shape == (24, 2, 6, 5, 3)


def test_every_place_of_a_crop_occurs_and_lies_inside() -> None:
    places = np.arange(6 * 5, dtype=np.uint8).reshape(1, 1, 6, 5, 1).repeat(500, axis=0)
    crops = random_crops(places, (4, 3), np.random.default_rng(0))
    corners = crops[:, 0, 0, 0, 0]
    assert set(corners.tolist()) == {5 * top + left for top in range(3) for left in range(3)}
    np.testing.assert_array_equal(
        crops[:, 0, :, :, 0], corners[:, None, None] + (5 * np.arange(4)[:, None] + np.arange(3))
    )


def test_batches_cover_every_item_once_an_epoch() -> None:
    seen = torch.cat([batch_indices(10, 4, seed=0, draw=draw) for draw in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
