"""A task of your own: a point that a policy steers to a mark. See docs/tasks.md.

onedp evaluate POLICY --task reach_task:REACH        # in this folder, or with it on PYTHONPATH
"""

import numpy as np

from onedp.tasks import StepResult, Task
from onedp.types import FieldSpec, PolicySpec

POINT, MARK, VELOCITY = (FieldSpec(n, (2,), u) for n, u in (("point", "m"), ("mark", "m"), ("action", "m/s")))


class Reach:
    def reset(self, seed):
        self.point, self.mark = np.random.default_rng(seed).uniform(-1, 1, (2, 2))
        return self._observe()

    def step(self, action):
        self.point = np.clip(self.point + 0.1 * np.clip(action, -1, 1), -1, 1)  # one control period, 0.1 s
        distance = float(np.linalg.norm(self.mark - self.point))
        return StepResult(self._observe(), max(0.0, 1 - distance), success=distance < 0.05, done=distance < 0.05)

    def render(self, size):
        image = np.full((size, size, 3), 255, np.uint8)
        for place, colour in ((self.mark, (40, 160, 40)), (self.point, (200, 60, 30))):
            x, y = ((place + 1) / 2 * (size - 5)).astype(int)
            image[y : y + 5, x : x + 5] = colour
        return image

    def _observe(self):
        return {"point": self.point.astype(np.float32), "mark": self.mark.astype(np.float32)}


def features(arrays):  # a recording's raw arrays to the spec's fields; here they are the same
    return {name: np.asarray(arrays[name], np.float32) for name in ("point", "mark", "action") if name in arrays}


REACH = Task(
    name="reach",
    spec=PolicySpec((POINT, MARK), VELOCITY, action_low=(-1, -1), action_high=(1, 1), rate_hz=10),
    make_env=Reach,
    features=features,
    raw_arrays=("point", "mark"),
    max_steps=60,
    demonstrations="none; docs/tasks.md makes some",
)
