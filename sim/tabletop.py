"""The world of a task in one process: it takes a command for each control period and returns the exact state.

It takes the place of simulator node and estimator, without ROS, noise and delay; learning in one process and collecting
demonstrations use it.
"""

import dataclasses
import functools

import numpy as np

from mbrl_ros.control.guarded import guard_rate_hz
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.kinematics import KinematicChain
from mbrl_ros.robots.profile import RobotProfile, load_robot
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.types import RobotState
from mbrl_sim.objects import TableObject
from mbrl_sim.scene import WorldConfig, tabletop_config
from mbrl_sim.urdf import JointLimits
from mbrl_sim.world import ArmWorld

_CONTROL_HZ = 20.0


class TabletopWorld:
    """An arm on a table at z = 0, and a cube; only the motors limit the arm.

    Equal seeds and equal commands give bit-identical states, whatever happened before.

    Args:
        robot: The Panda by default.
        config: Physics and cube; `tabletop_config` by default.
        seed: Seed of the world until a reset gives another.
        control_hz: Control rate, a divisor of the physics rate.
        body: Name of the cube in states.

    Attributes:
        robot: Profile of the arm.
        kinematics: Chain of the arm.
        period_s: Control period.

    Raises:
        ConfigError: The robot cannot be loaded, or the rates do not fit.
    """

    def __init__(self, robot: RobotProfile | None = None, config: WorldConfig | None = None, *, seed: int = 0,
                 control_hz: float = _CONTROL_HZ, body: str = 'object') -> None:
        config = config or tabletop_config()
        self._substeps = round(config.physics_hz / control_hz) if control_hz > 0.0 else 0
        if self._substeps < 1 or abs(self._substeps * control_hz - config.physics_hz) > 1e-6:
            raise ConfigError(f'control_hz needs a divisor of the physics rate, {config.physics_hz} Hz, got {control_hz}')
        self.robot = robot or load_robot('panda')
        self.kinematics = KinematicChain.of_robot(self.robot)
        self.period_s = 1.0 / control_hz
        self._period_ns = round(1e9 / control_hz)
        self._body = body
        self._world = ArmWorld(self.robot, config, seed)
        self._ticks = 0

    @functools.cached_property
    def space(self) -> ToolSpace:
        """Space of the tasks over the table.

        Raises:
            ConfigError: The robot has no gripper.
        """
        return ToolSpace(self.robot, self.kinematics, self._body)

    @property
    def limits(self) -> JointLimits:
        """Limits of the arm's joints in the URDF."""
        return self._world.limits

    @property
    def cube(self) -> TableObject | None:
        """The cube as the last reset put it on the table; None in a world without one."""
        return self._world.cube

    @property
    def box_contact_steps(self) -> int:
        """Physics steps since the last reset in which the arm touched a box of `WorldConfig.boxes_m`."""
        return self._world.box_contact_steps

    def reset(self, seed: int | None = None) -> RobotState:
        """Put the arm at home at rest, the gripper open, and a new cube on the table.

        Args:
            seed: Seeds the generator; None goes on with the present generator.

        Returns:
            Exact state, as `ArmWorld.ground_truth`, stamped 0.

        Raises:
            ConfigError: There is no place for the cube.
        """
        self._world.reset(seed)
        self._ticks = 0
        return self._state()

    def step(self, velocity: np.ndarray, opening_m: float | None = None) -> RobotState:
        """Drive the arm and the gripper for one control period.

        Args:
            velocity: Joint velocities, shape (J,), rad/s; clipped to the URDF's limits.
            opening_m: Target opening of the gripper; None keeps the last one.

        Returns:
            Exact state after the period, stamped with a multiple of the control period, ns.

        Raises:
            ShapeError: `velocity` is not J finite numbers.
            ConfigError: `opening_m` is given, but the robot has no gripper.
        """
        self._world.drive_velocity(velocity)
        if opening_m is not None:
            self._world.drive_gripper(opening_m)
        for _ in range(self._substeps):
            self._world.step()
        self._ticks += 1
        return self._state()

    def show_goal(self, position: np.ndarray) -> None:
        """Mark a position (3,), m, in pictures."""
        self._world.show_goal(position)

    def render(self, width: int = 480, height: int = 360) -> np.ndarray:
        """Picture, shape (height, width, 3), uint8."""
        return self._world.render(width, height)

    def close(self) -> None:
        """Disconnect from the physics server; the world cannot be used afterwards."""
        self._world.close()

    def _state(self) -> RobotState:
        return self._world.ground_truth(self._ticks * self._period_ns, self._body)


def make_task_world(robot: RobotProfile, *, is_tabletop: bool, object_kind: str = 'cube',
                    control_hz: float = _CONTROL_HZ, config: WorldConfig | None = None) -> TabletopWorld:
    """The world of a task, for `mbrl_ros.runs`; a step is a period of the command guard.

    Args:
        robot: Profile of the arm.
        is_tabletop: Whether an object lies on the table.
        object_kind: As `WorldConfig.object_kind`.
        control_hz: Control rate.
        config: Physics and cube; those of the task when left out.

    Raises:
        ConfigError: There is no such object, or as for `TabletopWorld`.
    """
    if config is None:
        config = dataclasses.replace(tabletop_config(), object_kind=object_kind) if is_tabletop else WorldConfig(cube=False)
    return TabletopWorld(robot, config, control_hz=guard_rate_hz(config.physics_hz, control_hz))
