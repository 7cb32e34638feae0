"""Which entry of the state belongs to what: arm joints first, then the gripper, then six entries for each body."""

from collections.abc import Sequence

import numpy as np

from mbrl_ros.estimation.config import EstimatorConfig, NoiseConfig
from mbrl_ros.estimation.kalman import ChannelNoise
from mbrl_ros.robots import RobotProfile


def entry_sources(robot: RobotProfile, body_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Indices of the entries that are seen or lost as one: each arm joint, the gripper, each body."""
    sources = {name: np.array([index]) for index, name in enumerate(robot.state_names)}
    for index, body in enumerate(body_names):
        sources[body] = len(robot.state_names) + 6 * index + np.arange(6)
    return sources


def entry_noise(robot: RobotProfile, num_bodies: int, config: EstimatorConfig) -> ChannelNoise:
    """What the filter knows of each of the S entries before anything is measured."""
    kinds: list[NoiseConfig] = [config.joint] * len(robot.joints) + [config.gripper] * (robot.gripper is not None)
    kinds += ([config.body_length] * 3 + [config.body_angle] * 3) * num_bodies
    return ChannelNoise(
        position_std=np.array([kind.position_std for kind in kinds]),
        velocity_std=np.array([kind.velocity_std for kind in kinds]),
        acceleration_std=np.array([kind.acceleration_std for kind in kinds]).T,
        max_velocity=np.array([kind.max_velocity for kind in kinds]))
