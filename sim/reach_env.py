"""Reaching as a Gymnasium environment, over the same world that the simulator node steps."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

from mbrl_ros.robots import RobotProfile, load_robot
from mbrl_ros.tasks import make_task
from mbrl_sim.world import ArmWorld, WorldConfig

_CONTROL_HZ = 20
_REACH_BOUND_M = 2.0
#: Contacts can push a joint past the speed that it is told; beyond this the observation is clipped.
_OVERSPEED = 4.0


class ReachEnv(gymnasium.Env):
    """Bring the tool to a goal drawn over the robot's workspace.

    The action is the joint velocities in units of the profile's limits, shape (J,) in [-1, 1], held for 0.05 s. The
    observation is joint positions and velocities, tool position and goal, shape (2 J + 6,). The reward is that of
    `mbrl_ros.tasks.ReachTask`, the one that the stack plans with. There is no terminal state; `info` has `distance_m` and
    `is_success` (within the task's tolerance).

    Args:
        robot: Name in `config/robots`, or the path of a YAML file.
        render_mode: None or `rgb_array`.
        world: Physics and cube; the reach task has no cube by default.

    Raises:
        ConfigError: The robot's profile cannot be used.
    """

    metadata: ClassVar[dict[str, Any]] = {'render_modes': ['rgb_array'], 'render_fps': _CONTROL_HZ}

    def __init__(self, robot: str = 'panda', render_mode: str | None = None, world: WorldConfig | None = None) -> None:
        self.render_mode = render_mode
        self.robot: RobotProfile = load_robot(robot)
        self._task = make_task('reach', self.robot)
        self._config = world or WorldConfig(cube=False)
        self._world = ArmWorld(self.robot, self._config)
        self._substeps = self._config.physics_hz // _CONTROL_HZ
        self._goal = np.zeros(3)
        low, high = _bounds(self.robot, self._world)
        self.observation_space = Box(low, high, dtype=np.float64)
        self.action_space = Box(-1.0, 1.0, (len(self.robot.joints),), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Put the world back and draw a goal; `options={'goal': (x, y, z)}` sets it.

        Raises:
            GoalError: The given goal is out of reach.
        """
        super().reset(seed=seed)
        self._world.reset(int(self.np_random.integers(2**31)))
        self._goal = self.robot.workspace.sample(self.np_random)
        if options and 'goal' in options:
            self.robot.workspace.require(options['goal'])
            self._goal = np.array(options['goal'], dtype=np.float64)
        return self._obs(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action for one control period."""
        action = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        self._world.drive_velocity(action * self.robot.max_velocity_rad_s)
        for _ in range(self._substeps):
            self._world.step()
        reward = self._task.reward(self._task_obs(), torch.from_numpy(action), self._goal)
        return self._obs(), float(reward), False, False, self._info()

    def render(self) -> np.ndarray | None:
        """Picture, shape (height, width, 3), in mode `rgb_array`."""
        return self._world.render() if self.render_mode == 'rgb_array' else None

    def close(self) -> None:
        """Leave the physics server."""
        self._world.close()

    def _obs(self) -> np.ndarray:
        joints = self.robot.joints
        tool, _ = self._world.tool_pose()
        obs = np.concatenate([self._world.joint_positions(joints), self._world.joint_velocities(joints), tool, self._goal])
        return np.clip(obs, self.observation_space.low, self.observation_space.high)

    def _task_obs(self) -> torch.Tensor:
        joints = self.robot.joints
        return torch.from_numpy(np.concatenate([self._world.joint_positions(joints), self._world.joint_velocities(joints)]))

    def _info(self) -> dict[str, Any]:
        distance = float(self._task.distance(self._task_obs(), self._goal))
        return {'distance_m': distance, 'is_success': distance <= self._task.goal_tolerance_m}


def _bounds(robot: RobotProfile, world: ArmWorld) -> tuple[np.ndarray, np.ndarray]:
    speed = _OVERSPEED * np.array(robot.max_velocity_rad_s)
    reach = np.full(6, _REACH_BOUND_M)
    return np.concatenate([world.limits.lower, -speed, -reach]), np.concatenate([world.limits.upper, speed, reach])
