"""Conventions of actions: absolute or relative to the state, and the form of a rotation among them; with inverses.

A policy is trained on converted actions and answers in them; a robot's driver calls ``to_recorded`` with the state that
it has when it executes an action.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.data.config import ActionConvention, RotationForm
from onedp.data.rotations import FORMS
from onedp.errors import DataError


def to_learned(
    convention: ActionConvention, actions: Float[ndarray, "n da"], state: Float[ndarray, "n ds"] | None = None
) -> Float[ndarray, "n dl"]:
    """Recorded actions as the policy learns them; ``state`` is that of the same steps."""
    _check(convention, actions.shape[1], convention.rotation_form)
    pose = np.asarray(actions, dtype=np.float64)
    if convention.reference != "recorded":
        pose = _relative(convention, pose, _state(convention, state, pose), subtract=convention.reference == "delta")
    return _rotated(convention, pose, convention.rotation_form, convention.learned_rotation or convention.rotation_form)


def to_recorded(
    convention: ActionConvention, learned: Float[ndarray, "n dl"], state: Float[ndarray, "n ds"] | None = None
) -> Float[ndarray, "n da"]:
    """Inverts ``to_learned``: the policy's actions as the robot takes them, given its state when it acts."""
    _check(convention, learned.shape[1], convention.learned_rotation or convention.rotation_form)
    pose = _rotated(
        convention,
        np.asarray(learned, dtype=np.float64),
        convention.learned_rotation or convention.rotation_form,
        convention.rotation_form,
    )
    if convention.reference != "recorded":
        pose = _relative(convention, pose, _state(convention, state, pose), subtract=convention.reference == "absolute")
    return pose


def _state(convention: ActionConvention, state: ndarray | None, pose: ndarray) -> Float[ndarray, "n r"]:
    """The part of the state that the actions are relative to."""
    if state is None:
        raise DataError(f"Actions as '{convention.reference}' need the state '{convention.state}' of every step.")
    dims = state.shape[1] if convention.relative_dims is None else convention.relative_dims
    if not 0 < dims <= min(state.shape[1], pose.shape[1]):
        raise DataError(
            f"The action has {pose.shape[1]} numbers and the state '{convention.state}' {state.shape[1]}: {dims} of "
            "them cannot be relative. Say how many of the first ones are: --action.relative-dims N."
        )
    if (
        convention.rotation_at is not None
        and convention.rotation_at < dims < convention.rotation_at + FORMS[convention.rotation_form][0]
    ):
        raise DataError(f"{dims} relative numbers end inside the rotation, which begins at {convention.rotation_at}.")
    return np.asarray(state[:, :dims], dtype=np.float64)


def _relative(convention: ActionConvention, pose: ndarray, state: Float[ndarray, "n r"], subtract: bool) -> ndarray:
    """``pose`` minus or plus the state; rotations are composed: R_difference @ R_state = R_absolute."""
    result = pose.copy()
    dims = state.shape[1]
    result[:, :dims] += -state if subtract else state
    if convention.rotation_at is not None and convention.rotation_at < dims:
        size, to_matrix, from_matrix = FORMS[convention.rotation_form]
        part = slice(convention.rotation_at, convention.rotation_at + size)
        origin = to_matrix(state[:, part])
        origin = np.swapaxes(origin, -1, -2) if subtract else origin
        result[:, part] = from_matrix(to_matrix(pose[:, part]) @ origin)
    return result


def _rotated(convention: ActionConvention, pose: ndarray, old: RotationForm, new: RotationForm) -> ndarray:
    if convention.rotation_at is None or old == new:
        return pose
    size, to_matrix, _ = FORMS[old]
    before, rotation = (
        pose[:, : convention.rotation_at],
        pose[:, convention.rotation_at : convention.rotation_at + size],
    )
    return np.concatenate(
        [before, FORMS[new][2](to_matrix(rotation)), pose[:, convention.rotation_at + size :]], axis=1
    )


def _check(convention: ActionConvention, dims: int, form: RotationForm) -> None:
    if convention.rotation_at is not None and not 0 <= convention.rotation_at <= dims - FORMS[form][0]:
        raise DataError(
            f"A rotation as {form} takes {FORMS[form][0]} numbers; from index {convention.rotation_at} on, an action "
            f"of {dims} numbers has not so many."
        )
