"""The To newest observations, as a policy wants them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy import ndarray

from onedp.errors import SpecError
from onedp.types import PolicySpec


class ObservationBuffer:
    """Keeps the To newest observations; the first one is repeated until there are so many."""

    def __init__(self, spec: PolicySpec):
        self._spec = spec
        self._steps: deque[dict[str, ndarray]] = deque(maxlen=spec.n_obs_steps)

    def push(self, observation: Mapping[str, ndarray]) -> None:
        """Add the observation of one control step, ``{name: (*shape)}``, physical units.

        Raises ``SpecError`` when names, shapes or dtypes differ from the spec or a value is not finite. Values are
        copied: drivers reuse their arrays.
        """
        fields = {field.name: field for field in self._spec.observations}
        if set(observation) != set(fields):
            raise SpecError(f"The robot observes {sorted(observation)}, the policy expects {sorted(fields)}.")
        step = {name: field.convert(np.array(observation[name])) for name, field in fields.items()}
        for name, value in step.items():
            if value.shape != fields[name].shape:
                raise SpecError(f"Observation '{name}' has shape {value.shape}, expected {fields[name].shape}.")
        missing = 0 if self._steps else self._spec.n_obs_steps - 1
        self._steps.extend([step] * (missing + 1))

    def window(self) -> dict[str, ndarray]:
        """``{name: (1, To, *shape)}``, newest last; raises ``SpecError`` before the first observation."""
        if not self._steps:
            raise SpecError("There is no observation yet; push one first.")
        return {name: np.stack([step[name] for step in self._steps])[None] for name in self._steps[0]}

    def clear(self) -> None:
        """Forget everything: a new episode."""
        self._steps.clear()
