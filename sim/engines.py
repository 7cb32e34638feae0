"""The physics engines; each is imported only when it is chosen."""

import importlib.util
from typing import Any

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.profile import RobotProfile
from mbrl_sim.physics import World
from mbrl_sim.simulated_driver import DriverConfig

#: Settings of an imperfect arm behind ros2_control's own controllers, where they differ from the defaults of `DriverConfig`.
_IMPERFECT = {
    'command_timeout_s': 0.0,
    'interpolate_from_desired_state': False,
    'command_latency_s': (0.01, 0.02),
    'joint_state_hz': 480,
    'world': {'physics_hz': 960},
    'faults': {'shuffle_joints': True},
}


def engine_defaults(simulator: str) -> dict[str, Any]:
    """Defaults of `DriverConfig` that follow from `simulator`, nested."""
    return _IMPERFECT if simulator == 'mujoco' else {}


def make_world(robot: RobotProfile, config: DriverConfig, seed: int = 0) -> World:
    """Make the world in the engine of `config.simulator`.

    Args:
        robot: Profile with a resolved URDF.
        config: Settings.
        seed: Seed of all random draws of the world.

    Raises:
        ConfigError: The engine is not installed, it does not have what the settings ask for, or it cannot load the robot.
    """
    if config.simulator == 'pybullet':
        from mbrl_sim.world import ArmWorld

        return ArmWorld(robot, config.world, seed)
    if importlib.util.find_spec('mujoco') is None:
        raise ConfigError("simulator mujoco needs the package mujoco, which is not installed; `pip install '.[gym]'` installs it")
    from mbrl_sim.mujoco_world import MujocoWorld

    return MujocoWorld(robot, config.world, seed, config.servo)
