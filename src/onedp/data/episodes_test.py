from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from onedp.data.episodes import Episodes, joined_episodes, locate
from onedp.errors import DataError

ENDS = np.array([3, 4, 9])


def episodes(**arrays: np.ndarray) -> Episodes:
    return Episodes({"state": np.arange(18.0).reshape(9, 2), **arrays}, ENDS, "here.npz")


def test_lengths_and_parts() -> None:
    data = episodes()
    assert (len(data), data.n_steps) == (3, 9)
    assert data.starts.tolist() == [0, 3, 4]
    assert data.lengths.tolist() == [3, 1, 5]
    assert data.episode(1)["state"].tolist() == [[6.0, 7.0]]


def test_locate_counts_from_the_start_of_the_episode() -> None:
    assert [locate(ENDS, step) for step in (0, 2, 3, 4, 8)] == [(0, 0), (0, 2), (1, 0), (2, 0), (2, 4)]


def test_arrays_must_be_as_long_as_the_episodes() -> None:
    message = "here.npz: the last episode ends at step 9, but the arrays have {'state': 9, 'action': 8} steps. Expected"
    with pytest.raises(DataError, match=re.escape(message)):
        episodes(action=np.zeros((8, 2)))
    with pytest.raises(DataError, match="'rate': 0"):
        episodes(rate=np.array(10.0))
    with pytest.raises(DataError, match=r"no arrays. Expected at least one with a row for every step"):
        Episodes({}, ENDS, "here.npz")


def test_ends_must_increase() -> None:
    with pytest.raises(DataError, match=r"episode 1 is empty .*remove empty episodes"):
        Episodes({"state": np.zeros(4)}, np.array([4, 4]), "here.npz")
    with pytest.raises(DataError, match=r"no episodes. Expected at least one; record some"):
        Episodes({"state": np.zeros(4)}, np.array([], dtype=np.int64), "here.npz")


def test_require() -> None:
    episodes().require(("state",))
    message = (
        "here.npz: missing ['sate']. Did you mean 'state'? The data set has ['state']. Look at it with: onedp inspect"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        episodes().require(["sate", "state"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_numbers_are_placed(value: float) -> None:
    action = np.zeros((9, 2, 2), dtype=np.float32)
    action[6, 1, 0] = action[8] = value
    data = episodes(action=action, count=np.zeros(9, dtype=np.int64))
    data.require_finite(("state", "count"))
    message = "'action' has NaN or infinity in 2 steps, first in episode 2, step 2. Expected finite numbers; repair or"
    with pytest.raises(DataError, match=message):
        data.require_finite(("state", "action"))


def test_digest_depends_on_everything_but_the_source() -> None:
    data = episodes()
    same = Episodes(dict(data.arrays), ENDS, "elsewhere.zarr")
    assert data.digest() == same.digest()
    others = [
        episodes(action=np.zeros(9)),
        Episodes({"stat": data.dense("state")}, ENDS, ""),
        Episodes({"state": data.dense("state").reshape(9, 1, 2)}, ENDS, ""),
        Episodes({"state": data.dense("state").astype(np.float32)}, ENDS, ""),
        Episodes({"state": data.dense("state") + 1}, ENDS, ""),
        Episodes({"state": data.dense("state")}, np.array([3, 5, 9]), ""),
    ]
    assert len({data.digest(), *(other.digest() for other in others)}) == 1 + len(others)


def test_digest_of_strided_arrays() -> None:
    state = np.arange(18.0).reshape(9, 2)
    assert episodes(state=np.asfortranarray(state)).digest() == episodes(state=state).digest()


def test_joined_episodes_follow_each_other() -> None:
    first, second = episodes(), dataclasses.replace(episodes(), source="there.npz", skipped=("Episode 7 is bad.",))
    assert joined_episodes([first]) is first
    both = joined_episodes([first, second])
    assert both.ends.tolist() == [3, 4, 9, 12, 13, 18]
    np.testing.assert_array_equal(both.episode(4)["state"], second.episode(1)["state"])
    assert (both.source, both.skipped) == ("here.npz and there.npz", ("Episode 7 is bad.",))
    assert both.digest() not in (first.digest(), joined_episodes([first, first, first]).digest())
    for other in ({"more": np.zeros(9)}, {"state": np.zeros((9, 3))}):
        with pytest.raises(DataError, match=r"here.npz has the arrays .* Only recordings of the same arrays"):
            joined_episodes([first, episodes(**other)])
