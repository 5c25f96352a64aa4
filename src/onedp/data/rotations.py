"""Rotations in the forms that recordings and policies have, and back; numpy, any leading axes.

The six numbers are the first two rows of the rotation matrix (Zhou et al., arXiv 1812.07035), as Diffusion Policy and
robomimic have them: unlike angles and quaternions they have no jump, so a network can learn them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.data.config import RotationForm

SMALL = 1e-12


def matrix_from_quaternion(xyzw: Float[ndarray, "*b 4"]) -> Float[ndarray, "*b 3 3"]:
    """Rotation matrix of a quaternion (x, y, z, w) of any length but 0; q and -q give the same."""
    x, y, z, w = np.moveaxis(xyzw / np.linalg.norm(xyzw, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_matrix(matrix: Float[ndarray, "*b 3 3"]) -> Float[ndarray, "*b 4"]:
    """Unit quaternion (x, y, z, w) with w >= 0, from the largest of its four components (Shepperd 1978)."""
    m = np.asarray(matrix, dtype=np.float64)
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = np.stack([1 + 2 * m[..., i, i] - trace for i in range(3)] + [1 + trace], axis=-1) / 4  # of x, y, z, w
    largest = squares.argmax(axis=-1)
    xx, yy, zz, ww = np.moveaxis(4 * squares, -1, 0)
    xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    xw, yw, zw = (m[..., i, j] - m[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    rows = [[xx, xy, xz, xw], [xy, yy, yz, yw], [xz, yz, zz, zw], [xw, yw, zw, ww]]  # 4 q q^T
    choices = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    chosen = np.take_along_axis(choices, largest[..., None, None], axis=-2)[..., 0, :]
    unit = chosen / np.linalg.norm(chosen, axis=-1, keepdims=True)
    return np.where(unit[..., 3:] < 0, -unit, unit)


def matrix_from_axis_angle(vector: Float[ndarray, "*b 3"]) -> Float[ndarray, "*b 3 3"]:
    """Rotation about ``vector`` by its length [rad] (also called a rotation vector)."""
    angle = np.linalg.norm(np.asarray(vector, dtype=np.float64), axis=-1, keepdims=True)
    half = np.where(angle < SMALL, 0.5, np.sin(angle / 2) / np.maximum(angle, SMALL))
    return matrix_from_quaternion(np.concatenate([vector * half, np.cos(angle / 2)], axis=-1))


def axis_angle_from_matrix(matrix: Float[ndarray, "*b 3 3"]) -> Float[ndarray, "*b 3"]:
    """Rotation vector with an angle of 0 to pi."""
    quaternion = quaternion_from_matrix(matrix)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * np.where(sine < SMALL, 2.0, angle / np.maximum(sine, SMALL))


def matrix_from_euler(angles: Float[ndarray, "*b 3"]) -> Float[ndarray, "*b 3 3"]:
    """Rotation by roll about x, then pitch about y, then yaw about z, all fixed axes: Rz @ Ry @ Rx."""
    roll, pitch, yaw = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    (cr, cp, cy), (sr, sp, sy) = (tuple(f(angle) for angle in (roll, pitch, yaw)) for f in (np.cos, np.sin))
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def euler_from_matrix(matrix: Float[ndarray, "*b 3 3"]) -> Float[ndarray, "*b 3"]:
    """Roll, pitch in [-pi/2, pi/2], yaw; at a pitch of +-pi/2, where only their difference counts, the roll is 0."""
    m = np.asarray(matrix, dtype=np.float64)
    cosine = np.hypot(m[..., 0, 0], m[..., 1, 0])
    pitch = np.arctan2(-m[..., 2, 0], cosine)
    locked = cosine < 1e-9
    roll = np.where(locked, 0.0, np.arctan2(m[..., 2, 1], m[..., 2, 2]))
    yaw = np.where(locked, np.arctan2(-m[..., 0, 1], m[..., 1, 1]), np.arctan2(m[..., 1, 0], m[..., 0, 0]))
    return np.stack([roll, pitch, yaw], axis=-1)


def sixd_from_matrix(matrix: Float[ndarray, "*b 3 3"]) -> Float[ndarray, "*b 6"]:
    """The first two rows of the matrix."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def matrix_from_sixd(sixd: Float[ndarray, "*b 6"]) -> Float[ndarray, "*b 3 3"]:
    """The nearest rotation in Gram and Schmidt's sense: a network's six numbers need not be orthogonal."""
    first, second = sixd[..., :3].astype(np.float64), sixd[..., 3:].astype(np.float64)
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (first * second).sum(axis=-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _xyzw_from_wxyz(quaternion: ndarray) -> ndarray:
    return np.roll(quaternion, -1, axis=-1)


FORMS: dict[RotationForm, tuple[int, Callable[[ndarray], ndarray], Callable[[ndarray], ndarray]]] = {
    "quaternion-xyzw": (4, matrix_from_quaternion, quaternion_from_matrix),
    "quaternion-wxyz": (
        4,
        lambda wxyz: matrix_from_quaternion(_xyzw_from_wxyz(wxyz)),
        lambda matrix: np.roll(quaternion_from_matrix(matrix), 1, axis=-1),
    ),
    "axis-angle": (3, matrix_from_axis_angle, axis_angle_from_matrix),
    "euler-xyz": (3, matrix_from_euler, euler_from_matrix),
    "6d": (6, matrix_from_sixd, sixd_from_matrix),
}
"""Form to (how many numbers, to a matrix, from a matrix)."""
