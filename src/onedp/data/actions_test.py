from __future__ import annotations

import itertools

import numpy as np
import pytest

from onedp.data.actions import to_learned, to_recorded
from onedp.data.config import ActionConvention
from onedp.data.rotations import FORMS, matrix_from_axis_angle, matrix_from_quaternion
from onedp.errors import DataError

RNG = np.random.default_rng(0)
N = 40


def poses(form: str) -> np.ndarray:
    """Position, rotation, gripper."""
    rotations = FORMS[form][2](matrix_from_quaternion(RNG.normal(size=(N, 4))))  # type: ignore[index]
    return np.concatenate([RNG.normal(size=(N, 3)), rotations, RNG.uniform(-1, 1, (N, 1))], axis=1)


@pytest.mark.parametrize(
    ("reference", "form", "learned"),
    list(
        itertools.product(
            ("recorded", "delta", "absolute"), ("axis-angle", "quaternion-xyzw", "euler-xyz"), (None, "6d")
        )
    ),
)
def test_the_robot_gets_back_what_was_recorded(reference: str, form: str, learned: str | None) -> None:
    size = FORMS[form][0]  # type: ignore[index]
    convention = ActionConvention(reference, "pose", 3 + size, 3, form, learned)  # type: ignore[arg-type]
    actions, state = poses(form), poses(form)
    converted = to_learned(convention, actions, state)
    assert converted.shape == (N, 3 + (6 if learned else size) + 1)
    back = to_recorded(convention, converted, state)
    np.testing.assert_allclose(back[:, [0, 1, 2, -1]], actions[:, [0, 1, 2, -1]], atol=1e-12)
    to_matrix = FORMS[form][1]  # type: ignore[index]
    np.testing.assert_allclose(to_matrix(back[:, 3:-1]), to_matrix(actions[:, 3:-1]), atol=1e-7)


def test_delta_is_the_motion_from_the_state() -> None:
    state = np.array([[1.0, 2.0, 3.0, 0.0, 0.0, 0.5]])
    action = np.array([[1.5, 2.0, 2.0, 0.0, 0.0, 0.7, 1.0]])
    delta = to_learned(ActionConvention("delta", "pose", rotation_at=3), action, state)
    np.testing.assert_allclose(delta, [[0.5, 0, -1, 0, 0, 0.2, 1.0]], atol=1e-12)


def test_rotations_are_composed_not_subtracted() -> None:
    state, action = poses("axis-angle"), poses("axis-angle")
    delta = to_learned(ActionConvention("delta", "pose", 6, rotation_at=3), action, state)
    composed = matrix_from_axis_angle(delta[:, 3:6]) @ matrix_from_axis_angle(state[:, 3:6])
    np.testing.assert_allclose(composed, matrix_from_axis_angle(action[:, 3:6]), atol=1e-9)


def test_absolute_of_recorded_differences() -> None:
    joints, differences = RNG.normal(size=(N, 7)), RNG.normal(size=(N, 8))
    convention = ActionConvention("absolute", "joints")
    absolute = to_learned(convention, differences, joints)
    np.testing.assert_allclose(absolute[:, :7], joints + differences[:, :7])
    np.testing.assert_allclose(absolute[:, 7], differences[:, 7])  # beyond the state: kept


def test_default_changes_nothing() -> None:
    assert ActionConvention().changes_nothing
    assert ActionConvention(rotation_at=3, learned_rotation="axis-angle").changes_nothing
    assert not ActionConvention(rotation_at=3, learned_rotation="6d").changes_nothing


def test_what_cannot_be() -> None:
    with pytest.raises(DataError, match=r"Actions as 'delta' need the state they are relative to: --action.state NAME"):
        ActionConvention("delta")
    with pytest.raises(DataError, match=r"needs to know where it is: --action.rotation-at INDEX"):
        ActionConvention(learned_rotation="6d")
    with pytest.raises(DataError, match=r"from index 5 on, an action of 7 numbers has not so many"):
        to_learned(ActionConvention(rotation_at=5, learned_rotation="6d"), np.zeros((1, 7)))
    with pytest.raises(DataError, match=r"action has 2 numbers and the state 'pose' 3: 3 of them cannot be relative"):
        to_learned(ActionConvention("delta", "pose"), np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(DataError, match=r"4 relative numbers end inside the rotation, which begins at 3"):
        to_learned(ActionConvention("delta", "pose", 4, 3), np.zeros((1, 7)), np.zeros((1, 7)))
