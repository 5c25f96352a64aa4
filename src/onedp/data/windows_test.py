from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onedp.data.windows import gather_windows, window_index
from onedp.errors import DataError
from onedp.types import FieldSpec, PolicySpec


def spec_of(horizon: int = 16, n_obs: int = 2, n_action: int = 8) -> PolicySpec:
    return PolicySpec(
        observations=(FieldSpec("pos", (2,), "m"),),
        action=FieldSpec("action", (1,), "m"),
        action_low=(-1.0,),
        action_high=(1.0,),
        rate_hz=10.0,
        horizon=horizon,
        n_obs_steps=n_obs,
        n_action_steps=n_action,
    )


def reference(lengths: list[int], spec: PolicySpec, padding: int) -> list[tuple[list[int], list[int], list[bool]]]:
    """The definition, step by step: one window per newest observation with at most ``padding`` steps past the end."""
    windows = []
    start = 0
    for length in lengths:
        for newest in range(length):
            actions = [newest - (spec.n_obs_steps - 1) + i for i in range(spec.horizon)]
            if actions[-1] - (length - 1) > padding:
                continue
            observed = [max(newest - back, 0) for back in reversed(range(spec.n_obs_steps))]
            held = [min(max(step, 0), length - 1) for step in actions]
            real = [0 <= step < length for step in actions]
            windows.append(([start + step for step in observed], [start + step for step in held], real))
        start += length
    return windows


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    n_obs=st.integers(1, 4),
    n_action=st.integers(1, 8),
    spare=st.integers(0, 6),
    padding=st.none() | st.integers(0, 30),
)
def test_windows_are_those_of_the_definition(
    lengths: list[int], n_obs: int, n_action: int, spare: int, padding: int | None
) -> None:
    spec = spec_of(n_obs + n_action - 1 + spare, n_obs, n_action)
    ends = np.cumsum(lengths)
    allowed = n_action - 1 if padding is None else padding
    expected = reference(lengths, spec, allowed)
    assume(expected)
    index = window_index(ends, spec, padding)
    assert len(index) == len(expected)
    for i, (obs_steps, action_steps, real) in enumerate(expected):
        assert index.obs_steps[i].tolist() == obs_steps
        assert index.action_steps[i].tolist() == action_steps
        assert index.action_is_real[i].tolist() == real
    assert index.short_episodes == tuple(i for i, length in enumerate(lengths) if length < spec.horizon)
    per_episode = [len(reference([length], spec, allowed)) for length in lengths]
    assert index.skipped_episodes == tuple(i for i, n in enumerate(per_episode) if n == 0)


def test_padding_at_both_ends_by_hand() -> None:
    index = window_index(np.array([5, 10]), spec_of(horizon=4, n_obs=2, n_action=2))
    assert index.obs_steps[:2].tolist() == [[0, 0], [0, 1]]
    assert index.action_steps[:4].tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 4]]
    assert index.action_is_real[:4].tolist() == [
        [False, True, True, True],
        [True] * 4,
        [True] * 4,
        [True] * 3 + [False],
    ]
    assert index.obs_steps[4].tolist() == [5, 5]  # the second episode starts with its own first step


def test_every_executed_action_is_real_or_the_last_one_held() -> None:
    spec = spec_of()
    index = window_index(np.array([40]), spec)
    executed = index.action_steps[:, spec.n_obs_steps - 1 :][:, : spec.n_action_steps]
    assert index.action_is_real[:, spec.n_obs_steps - 1 :][:, : spec.n_action_steps].all()
    assert executed.max() == 39


def test_gather_reads_values_and_holds_the_last_action() -> None:
    spec = spec_of(horizon=4, n_obs=2, n_action=2)
    arrays = {"pos": np.arange(10.0).reshape(5, 2), "action": np.arange(5)[:, None]}
    index = window_index(np.array([5]), spec)
    obs, actions = gather_windows(arrays, index, spec)
    assert (obs["pos"].dtype, actions.dtype) == (np.float32, np.float32)
    assert obs["pos"].shape == (4, 2, 2)
    assert obs["pos"][0].tolist() == [[0, 1], [0, 1]]
    assert actions[:, :, 0].tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 4]]


def test_all_episodes_too_short() -> None:
    message = (
        r"All episodes are shorter than a window: the longest has 7 steps, a window needs 8 \(horizon 16, "
        r"2 observations, 7 padded actions\). Record longer episodes or lower the horizon"
    )
    with pytest.raises(DataError, match=message):
        window_index(np.array([7, 12]), spec_of())


def test_some_episodes_too_short_are_named() -> None:
    index = window_index(np.cumsum([40, 7, 8, 15, 16]), spec_of())
    assert index.short_episodes == (1, 2, 3)
    assert index.skipped_episodes == (1,)
    assert index.summary() == (
        "51 windows, 4 padded before the episode's start, 22 after its end; 11.6% of all actions are padding. Episodes "
        "shorter than a prediction of 16 steps: 3 (number 1, 2, 3), padded in every window; of these 1 (number 1) give "
        "none."
    )


def test_summary_without_short_episodes() -> None:
    assert window_index(np.array([40]), spec_of()).summary() == (
        "33 windows, 1 padded before the episode's start, 7 after its end; 5.5% of all actions are padding."
    )


def test_negative_padding_is_refused() -> None:
    with pytest.raises(DataError, match="max_padding is -1, expected a number of steps from 0 to 14"):
        window_index(np.array([40]), spec_of(), max_padding=-1)
