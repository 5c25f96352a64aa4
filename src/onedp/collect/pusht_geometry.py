"""Where the disc can be, and how it walks round the T: plain geometry, no simulator."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from onedp.tasks.pusht import T_CORNERS_PX, WORKSPACE_PX

DISC_RADIUS_PX = 15.0
WALL_PX = 24.0
"""The disc's middle stays so far from the edge."""
CELL_PX = 16.0
BOXES = np.array([[[-60.0, 0.0], [60.0, 30.0]], [[-15.0, 30.0], [15.0, 120.0]]])
"""Bar and stem of the T in its own frame: lower and upper corner [px]."""
OUTLINE = T_CORNERS_PX[[0, 1, 2, 5, 6, 7, 4, 3]]
"""The T's eight corners in the order of a walk along its edge."""


def to_frame(points: Float[ndarray, "n 2"], pose: Float[ndarray, 3]) -> Float[ndarray, "n 2"]:
    """Points of the world in the frame of a T with ``pose`` (x, y [px], angle [rad])."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return (points - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])


def to_world(points: Float[ndarray, "n 2"], pose: Float[ndarray, 3]) -> Float[ndarray, "n 2"]:
    """Points of the T's frame in the world."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return points @ np.array([[cos, sin], [-sin, cos]]) + pose[:2]


def distance_to_t(points: Float[ndarray, "n 2"], pose: Float[ndarray, 3]) -> Float[ndarray, " n"]:
    """Distance of points from the T [px], 0 inside."""
    local = to_frame(points, pose)[:, None]
    outside = np.maximum(np.maximum(BOXES[:, 0] - local, local - BOXES[:, 1]), 0)  # (N, 2, 2)
    return np.linalg.norm(outside, axis=-1).min(axis=1)


def is_free(points: Float[ndarray, "n 2"], pose: Float[ndarray, 3], margin: float) -> ndarray:
    """Whether the disc's middle can be there: inside the walls, ``margin`` away from touching the T."""
    inside = ((points > WALL_PX) & (points < WORKSPACE_PX - WALL_PX)).all(axis=1)
    return inside & (distance_to_t(points, pose) > DISC_RADIUS_PX + margin)


def contact_points(
    count: int, pose: Float[ndarray, 3], rng: np.random.Generator
) -> tuple[Float[ndarray, "n 2"], Float[ndarray, "n 2"]]:
    """Random points on the T's edge and the directions into it, in the world."""
    following = np.roll(OUTLINE, -1, axis=0)
    lengths = np.linalg.norm(following - OUTLINE, axis=1)
    edge = rng.choice(len(OUTLINE), size=count, p=lengths / lengths.sum())
    along = (following - OUTLINE)[edge]
    points = OUTLINE[edge] + along * rng.uniform(0.03, 0.97, size=(count, 1))
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1) / lengths[edge, None]
    inwards = to_world(points + normals, pose) - to_world(points, pose)
    inside = distance_to_t(to_world(points + normals, pose), pose) == 0
    return to_world(points, pose), np.where(inside[:, None], inwards, -inwards)


class WalkingMap:
    """Shortest ways of the disc round the T from one place, on a grid of cells."""

    def __init__(self, start: Float[ndarray, 2], pose: Float[ndarray, 3], margin: float = 4.0):
        self._pose = pose
        self._margin = margin
        self._start = start
        n = int(WORKSPACE_PX / CELL_PX)
        centres = (np.stack(np.meshgrid(range(n), range(n), indexing="ij"), -1) + 0.5) * CELL_PX  # (n, n, 2)
        free = is_free(centres.reshape(-1, 2), pose, margin).reshape(n, n)
        self._before: dict[tuple[int, int], tuple[int, int] | None] = {}
        self._steps: dict[tuple[int, int], float] = {}
        self._search(self._cell(start), free)

    @staticmethod
    def _cell(point: ndarray) -> tuple[int, int]:
        n = int(WORKSPACE_PX / CELL_PX)
        return tuple(np.clip(point / CELL_PX, 0, n - 1).astype(int).tolist())

    def _search(self, origin: tuple[int, int], free: ndarray) -> None:
        self._before[origin], self._steps[origin] = None, 0.0
        queue = deque([origin])
        while queue:
            here = queue.popleft()
            for step in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
                cell = (here[0] + step[0], here[1] + step[1])
                if 0 <= cell[0] < len(free) and 0 <= cell[1] < len(free) and free[cell] and cell not in self._before:
                    self._before[cell], self._steps[cell] = here, self._steps[here] + float(np.hypot(*step))
                    queue.append(cell)

    def length(self, goal: Float[ndarray, 2]) -> float:
        """Length of the way to ``goal`` [px], infinite when there is none."""
        if self._is_straight(self._start, goal):
            return float(np.linalg.norm(goal - self._start))
        return self._steps.get(self._cell(goal), np.inf) * CELL_PX

    def way(self, goal: Float[ndarray, 2]) -> list[ndarray]:
        """Points to walk through, the last one is ``goal``; corners that can be cut are cut."""
        if self._is_straight(self._start, goal):
            return [goal]
        cells: list[ndarray] = []
        cell: tuple[int, int] | None = self._cell(goal)
        while cell is not None:
            cells.append((np.array(cell) + 0.5) * CELL_PX)
            cell = self._before.get(cell)
        points = [self._start, *cells[-2::-1], goal]
        way, here = [], 0
        while here < len(points) - 1:
            further = range(len(points) - 1, here + 1, -1)
            ahead = next((i for i in further if self._is_straight(points[here], points[i])), here + 1)
            way.append(points[ahead])
            here = ahead
        return way

    def _is_straight(self, start: ndarray, end: ndarray) -> bool:
        share = np.linspace(0, 1, max(2, int(np.linalg.norm(end - start) / 6)))[1:, None]
        return bool(is_free(start + share * (end - start), self._pose, min(self._margin, 2.0)).all())
