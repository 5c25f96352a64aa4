from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onedp.data.statistics import RunningStatistics


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 40), max_size=4), centre=st.floats(-1e6, 1e6))
def test_pieces_give_the_same_as_the_whole(seed: int, cuts: list[int], centre: float) -> None:
    values = np.random.default_rng(seed).normal(centre, 0.1, size=(40, 3, 2))
    running = RunningStatistics(6)
    for piece in np.split(values, sorted(cuts)):
        running.update(piece)
    flat = values.reshape(40, 6)
    np.testing.assert_array_equal(running.min, flat.min(axis=0))
    np.testing.assert_array_equal(running.max, flat.max(axis=0))
    np.testing.assert_allclose(running.mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(running.std, flat.std(axis=0), rtol=1e-6)


@given(seed=st.integers(0, 1000), share=st.floats(0, 0.9))
def test_not_finite_numbers_are_left_out(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(50, 2))
    values[rng.random(values.shape) < share] = rng.choice([np.nan, np.inf, -np.inf])
    values[[0, 30]] = 1.0, 2.0
    running = RunningStatistics(2)
    for piece in (values[:7], values[7:]):
        running.update(piece)
    for index, column in enumerate(values.T):
        finite = column[np.isfinite(column)]
        assert running.count[index] == len(finite)
        assert (running.min[index], running.max[index]) == (finite.min(), finite.max())
        np.testing.assert_allclose((running.mean[index], running.std[index]), (finite.mean(), finite.std()), atol=1e-12)


def test_one_number_for_all_dimensions() -> None:
    running = RunningStatistics(1)
    running.update(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
    assert (running.min[0], running.max[0], running.mean[0], running.count[0]) == (0, 23, 11.5, 24)
