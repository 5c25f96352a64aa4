"""Pictures of a MuJoCo simulation, in software where there is no display; shared by all MuJoCo tasks."""

from __future__ import annotations

import ctypes.util
import os
from typing import Any

from numpy import ndarray

from onedp.errors import OneDPError

SOFTWARE = "osmesa"


def choose_renderer() -> None:
    """Decide, before MuJoCo is imported, what draws: MUJOCO_GL where it is set, else software where it is installed.

    MuJoCo reads the variable when it is imported, and cannot be imported with a renderer that is not there.
    """
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = SOFTWARE if ctypes.util.find_library("OSMesa") else "disable"


class Camera:
    """Draws one simulation from one of its cameras, at any size."""

    def __init__(
        self,
        model: Any,
        data: Any,
        name: str,
        hidden_groups: tuple[int, ...] = (),
        renderers: dict[int, Any] | None = None,
    ):
        """``renderers``: those of the simulation by the size of their pictures, which its cameras share: each holds all
        textures, some 0.2 GB in robosuite."""
        self._model = model
        self._data = data
        self._name = name
        self._hidden_groups = hidden_groups
        self._renderers = {} if renderers is None else renderers
        # Multisampling, reflections and shadows are most of the cost in software.
        model.vis.quality.offsamples = 0
        model.mat_reflectance[:] = 0
        model.light_castshadow[:] = 0
        model.vis.quality.shadowsize = 0  # a map of 4096 x 4096 for each camera, and nothing to draw in it

    def picture(self, size: int) -> ndarray:
        """RGB, uint8 ``(size, size, 3)``. Raises ``OneDPError`` when nothing on this machine can draw."""
        import mujoco

        option = mujoco.MjvOption()
        option.geomgroup[list(self._hidden_groups)] = 0
        if size not in self._renderers:
            self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
            try:
                self._renderers[size] = mujoco.Renderer(self._model, size, size)
            except Exception as error:  # the renderers raise many kinds
                raise OneDPError(
                    f"MuJoCo cannot draw here ({type(error).__name__}: {error}). Install software rendering with: "
                    "apt-get install libosmesa6, or set MUJOCO_GL=egl on a machine with a GPU."
                ) from error
        renderer = self._renderers[size]
        renderer.update_scene(self._data, self._name, option)
        return renderer.render().copy()
