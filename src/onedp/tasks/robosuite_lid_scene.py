"""The robosuite scene of ``coffee-lid``: a box on the table with a lid on a hinge. Imports robosuite."""

from __future__ import annotations

from typing import Any

import numpy as np
from robosuite.environments.manipulation.lift import Lift
from robosuite.models.arenas import TableArena
from robosuite.models.objects import BoxObject, CompositeBodyObject
from robosuite.models.tasks import ManipulationTask
from robosuite.utils.mjcf_utils import array_to_string, new_element
from robosuite.utils.observables import Observable, sensor

BOX_HALF_M = np.array([0.05, 0.06, 0.04])
LID_HALF_M = np.array([0.05, 0.06, 0.005])
WIDEST_RAD = 1.92
"""The lid leans back no further."""
CLOSED_RAD = 0.1


def machine() -> CompositeBodyObject:
    """Box and lid; the hinge is along y, at the edge of the box that is far from the robot.

    Its friction holds the lid wherever it was left.
    """
    box = BoxObject(name="box", size=BOX_HALF_M, rgba=[0.25, 0.25, 0.3, 1])
    lid = BoxObject(name="lid", size=LID_HALF_M, rgba=[0.8, 0.3, 0.1, 1])
    hinge = {
        "name": "hinge",
        "type": "hinge",
        "axis": "0 1 0",
        "pos": array_to_string(LID_HALF_M * [1, 0, -1]),
        "limited": "true",
        "range": f"0 {WIDEST_RAD}",
        "frictionloss": "0.15",
        "damping": "0.05",
        "armature": "0.002",  # without it the simulation fell apart under the fingers now and then
    }
    return CompositeBodyObject(
        name="machine",
        objects=[box, lid],
        object_locations=[np.zeros(3), np.array([0, 0, BOX_HALF_M[2] + LID_HALF_M[2]])],
        object_parents=[None, box.root_body],
        joints=None,
        body_joints={lid.root_body: [hinge]},
    )


class CoffeeLid(Lift):
    """Lift's table and arm with the machine instead of the cube; robosuite finds it by this name."""

    def _load_model(self) -> None:
        super(Lift, self)._load_model()
        base = self.robots[0].robot_model
        base.set_base_xpos(base.base_xpos_offset["table"](self.table_full_size[0]))
        arena = TableArena(
            table_full_size=self.table_full_size, table_friction=self.table_friction, table_offset=self.table_offset
        )
        arena.set_origin([0, 0, 0])
        self.machine = machine()
        self.model = ManipulationTask(mujoco_arena=arena, mujoco_robots=[base], mujoco_objects=self.machine)
        box, lid = self.machine.root_body, self.machine.correct_naming("lid_main")
        # the hinge alone keeps them apart: their edges touch there, and would push
        self.model.contact.append(new_element("exclude", name="box_and_lid", body1=box, body2=lid))

    def _setup_references(self) -> None:
        super(Lift, self)._setup_references()
        self.machine_body_id = self.sim.model.body_name2id(self.machine.root_body)

    def _setup_observables(self) -> Any:
        observables = super(Lift, self)._setup_observables()

        @sensor(modality="object")
        def lid_angle(obs_cache: Any) -> Any:
            return np.array([self.lid_angle])

        @sensor(modality="object")
        def hinge_pos(obs_cache: Any) -> Any:
            return self.hinge

        @sensor(modality="object")
        def hinge_to_eef_pos(obs_cache: Any) -> Any:
            return self.hinge - obs_cache["robot0_eef_pos"] if "robot0_eef_pos" in obs_cache else np.zeros(3)

        for each in (lid_angle, hinge_pos, hinge_to_eef_pos):
            observables[each.__name__] = Observable(each.__name__, sensor=each, sampling_rate=self.control_freq)
        return observables

    def _reset_internal(self) -> None:
        super(Lift, self)._reset_internal()
        x, y = self.rng.uniform([0.0, -0.04], [0.06, 0.04])
        self.sim.model.body_pos[self.machine_body_id] = [x, y, self.table_offset[2] + BOX_HALF_M[2]]
        self.sim.data.set_joint_qpos(self.machine.joints[0], self.rng.uniform(1.65, WIDEST_RAD - 0.03))

    @property
    def lid_angle(self) -> float:
        """0 where the lid lies on the box [rad]."""
        return float(self.sim.data.get_joint_qpos(self.machine.joints[0]))

    @property
    def hinge(self) -> Any:
        """Middle of the hinge [m]."""
        return np.array(self.sim.data.body_xpos[self.machine_body_id]) + BOX_HALF_M * [1, 0, 1]

    def _check_success(self) -> bool:
        return self.lid_angle < CLOSED_RAD

    def reward(self, action: Any = None) -> float:
        """1 with the lid closed."""
        return float(self._check_success())

    def visualize(self, vis_settings: Any) -> None:
        """Nothing is coloured by its distance to a cube."""
        super(Lift, self).visualize(vis_settings=vis_settings)
