"""The last look at an action before it moves a robot."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from onedp.errors import SpecError
from onedp.types import PolicySpec


class ActionLimiter:
    """Keeps actions inside the spec's limits, and each within ``max_step`` of the one before."""

    def __init__(self, spec: PolicySpec, max_step: float | tuple[float, ...], start: ndarray | None = None):
        """``max_step``: largest change from one control step to the next, physical units, for all or each dimension.

        ``start``: the command the robot holds now; None lets the first action through (inside the limits). It makes
        sense for absolute actions (positions): of velocities it limits the acceleration. Raises ``SpecError``.
        """
        dim = spec.action_dim
        self._low = np.asarray(spec.action_low, dtype=np.float32)
        self._high = np.asarray(spec.action_high, dtype=np.float32)
        with np.errstate(over="ignore"):  # too large is infinity, which the next lines refuse
            self._max_step = np.asarray(max_step, dtype=np.float32)
        usable = np.isfinite(self._max_step) & (self._max_step > 0)
        if self._max_step.shape not in ((), (dim,)) or not usable.all():
            raise SpecError(
                f"max_step is {max_step}, expected one positive number, or {dim}; infinity would be no limit."
            )
        self._previous = None if start is None else self._checked(np.asarray(start, dtype=np.float32), "start")
        self.clipped = 0
        """Actions that were changed."""

    def __call__(self, action: Float32[ndarray, " da"]) -> Float32[ndarray, " da"]:
        """The nearest allowed action; raises ``SpecError`` for NaN or a wrong shape, which have none."""
        allowed = np.clip(self._checked(action, "action"), self._low, self._high)
        if self._previous is not None:
            allowed = self._previous + np.clip(allowed - self._previous, -self._max_step, self._max_step)
        self.clipped += not np.array_equal(allowed, action)
        self._previous = allowed
        return allowed

    def _checked(self, action: ndarray, what: str) -> ndarray:
        if action.shape != self._low.shape or not np.isfinite(action).all():
            raise SpecError(f"The {what} {action!s:.200} cannot be executed, expected {len(self._low)} finite numbers.")
        return action
