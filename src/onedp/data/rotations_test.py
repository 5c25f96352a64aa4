from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from onedp.data.config import RotationForm
from onedp.data.rotations import (
    FORMS,
    axis_angle_from_matrix,
    euler_from_matrix,
    matrix_from_axis_angle,
    matrix_from_euler,
    matrix_from_quaternion,
    matrix_from_sixd,
    quaternion_from_matrix,
    sixd_from_matrix,
)

RNG = np.random.default_rng(0)
RANDOM = matrix_from_quaternion(RNG.normal(size=(200, 4)))
HALF_TURNS = matrix_from_axis_angle(np.pi * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]]))
NEAR_NONE = matrix_from_axis_angle(RNG.normal(size=(20, 3)) * np.logspace(-15, -3, 20)[:, None])
MATRICES = np.concatenate([RANDOM, HALF_TURNS, NEAR_NONE, np.eye(3)[None]])


def test_every_form_is_in_the_table() -> None:
    assert set(FORMS) == set(get_args(RotationForm))


@pytest.mark.parametrize("form", FORMS)
def test_to_a_form_and_back_is_the_same_rotation(form: RotationForm) -> None:
    """Random rotations, half turns, tiny ones and none."""
    size, to_matrix, from_matrix = FORMS[form]
    numbers = from_matrix(MATRICES)
    assert numbers.shape == (len(MATRICES), size)
    np.testing.assert_allclose(to_matrix(numbers), MATRICES, atol=1e-7)
    np.testing.assert_allclose(from_matrix(MATRICES.reshape(5, -1, 3, 3)), numbers.reshape(5, -1, size), atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_rotations(form: RotationForm) -> None:
    size, to_matrix, _ = FORMS[form]
    matrices = to_matrix(RNG.normal(size=(50, size)))
    np.testing.assert_allclose(
        matrices @ np.swapaxes(matrices, -1, -2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-9)


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    quarter = np.pi / 2
    s = np.sqrt(0.5)
    for matrix in (
        matrix_from_axis_angle(np.array([0, 0, quarter])),
        matrix_from_euler(np.array([0, 0, quarter])),
        matrix_from_quaternion(np.array([0, 0, s, s])),
        FORMS["quaternion-wxyz"][1](np.array([s, 0, 0, s])),
        matrix_from_sixd(np.array([0.0, -1, 0, 1, 0, 0])),
    ):
        np.testing.assert_allclose(matrix @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_axis_angle_keeps_vectors_shorter_than_half_a_turn() -> None:
    vectors = RNG.normal(size=(100, 3))
    vectors *= RNG.uniform(0, 3.1, (100, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(axis_angle_from_matrix(matrix_from_axis_angle(vectors)), vectors, atol=1e-7)


def test_euler_angles_come_back_and_gimbal_lock_is_still_the_same_rotation() -> None:
    angles = RNG.uniform([-3.1, -1.5, -3.1], [3.1, 1.5, 3.1], (100, 3))
    np.testing.assert_allclose(euler_from_matrix(matrix_from_euler(angles)), angles, atol=1e-9)
    for pitch in (np.pi / 2, -np.pi / 2):
        locked = matrix_from_euler(np.array([0.4, pitch, -1.1]))
        np.testing.assert_allclose(matrix_from_euler(euler_from_matrix(locked)), locked, atol=1e-7)


def test_quaternions_have_one_sign() -> None:
    quaternions = quaternion_from_matrix(RANDOM)
    assert (quaternions[:, 3] >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1, atol=1e-12)


def test_sixd_is_the_first_two_rows_and_need_not_be_orthogonal() -> None:
    np.testing.assert_array_equal(sixd_from_matrix(np.arange(9.0).reshape(3, 3)), np.arange(6.0))
    rough = sixd_from_matrix(RANDOM) * RNG.uniform(0.5, 2, (200, 1))
    np.testing.assert_allclose(matrix_from_sixd(rough), RANDOM, atol=1e-9)
