"""The physics engines to choose from, each imported only when it is chosen."""

import importlib.util
from typing import Any

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots import RobotProfile
from mbrl_sim.physics import World
from mbrl_sim.simulated_driver import DriverConfig

#: What differs from the defaults of `DriverConfig` in an arm as ros2_control drives it: rates, latency, and no kindness.
_IMPERFECT = {
    'command_timeout_s': 0.0,
    'interpolate_from_desired_state': False,
    'command_latency_s': (0.01, 0.02),
    'joint_state_hz': 480,
    'world': {'physics_hz': 960},
    'faults': {'shuffle_joints': True},
}


def engine_defaults(simulator: str) -> dict[str, Any]:
    """Defaults of settings of `DriverConfig` that follow from `simulator`, nested as there."""
    return _IMPERFECT if simulator == 'mujoco' else {}


def make_world(robot: RobotProfile, config: DriverConfig, seed: int = 0) -> World:
    """The world in the engine that the settings name.

    Args:
        robot: Profile with a resolved URDF.
        config: Settings.
        seed: Seed of everything in the world that is drawn at random.

    Raises:
        ConfigError: The engine is not installed or lacks what is asked for, or the robot cannot be loaded.
    """
    if config.simulator == 'pybullet':
        from mbrl_sim.world import ArmWorld

        return ArmWorld(robot, config.world, seed)
    if importlib.util.find_spec('mujoco') is None:
        raise ConfigError("simulator mujoco needs the package mujoco, which is not installed; `pip install '.[gym]'` installs it")
    from mbrl_sim.mujoco_world import MujocoWorld

    return MujocoWorld(robot, config.world, seed, config.servo)
