"""The tasks as Gymnasium environments, over the same world as learning in one process."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from mbrl_ros.control.guarded import GuardedArm
from mbrl_ros.control.safety.command_filter import CommandFilter, CommandFilterConfig
from mbrl_ros.control.safety.guard import GuardConfig
from mbrl_ros.errors import GoalError
from mbrl_ros.robots.profile import RobotProfile, load_robot
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.spaces.tool import ToolSpace
from mbrl_ros.tasks.registry import make_task
from mbrl_ros.tasks.task import SuccessCounter
from mbrl_ros.types import ArmCommand, RobotState
from mbrl_sim.scene import WorldConfig
from mbrl_sim.tabletop import make_task_world
from mbrl_sim.urdf import JointLimits

_CONTROL_HZ = 20
#: Contacts can push a joint beyond its commanded speed; observed speeds are clipped at this multiple of the limit.
_OVERSPEED = 4.0
#: Observations are clipped at these positions, angles and speeds: m, rad, m/s, rad/s.
_FAR_M, _TURN_RAD, _FAST_M_S, _FAST_RAD_S = 2.0, np.pi, 4.0, 10.0


class TaskEnv(gymnasium.Env):
    """A task of `mbrl_ros.tasks`, the same that the stack learns and is scored in.

    An action, shape (A,) in [-1, 1], is one of the task's space: for `reach` the joint velocities in units of the profile's
    limits, for the others the tool's twist and the opening. It passes the command filter and is reached within one
    control period, as the command guard brings the arm there. An observation joins that of the task's space, the tool's position
    (`reach` only), and the goal. The reward is the task's, for the action that was reached.

    With `goal_env`, observations are dictionaries for hindsight replay (Andrychowicz et al. 2017): `observation` without the
    goal, `achieved_goal` and `desired_goal`, positions (3,), m. The reward is 0 within the task's tolerance, otherwise -1;
    `compute_reward` gives it for any achieved and desired positions.

    Episodes never terminate, because a reached goal has to be held. `info` has `distance_m`, `is_success` (within tolerance now)
    and `is_held` (within tolerance for the time that the stack requires of a success). With `end_with_success` an episode is
    truncated once `is_held`, as in the stack, so a learner still values the states after it.

    Args:
        task: Name of the task.
        robot: Name in `config/robots`, or the path of a YAML file; tasks over the table need a gripper.
        render_mode: None or `rgb_array`.
        world: Physics and cube; those of the task when left out.
        goal_env: Whether observations are dictionaries, and rewards sparse.
        end_with_success: Whether a success is the end of an episode.
        safety: Settings of the command filter.
        control_hz: Control rate.

    Raises:
        ConfigError: There is no such task, or the robot's profile does not fit it.
    """

    metadata: ClassVar[dict[str, Any]] = {'render_modes': ['rgb_array'], 'render_fps': _CONTROL_HZ}

    def __init__(self, task: str, robot: str = 'panda', render_mode: str | None = None, world: WorldConfig | None = None, *,
                 goal_env: bool = False, end_with_success: bool = False, safety: CommandFilterConfig | None = None,
                 control_hz: float = _CONTROL_HZ) -> None:
        self.render_mode, self.metadata = render_mode, {**self.metadata, 'render_fps': round(control_hz)}
        self.robot: RobotProfile = load_robot(robot)
        self._task = make_task(task, self.robot)
        is_tabletop = isinstance(self._task.space, ToolSpace)
        self._world = make_task_world(self.robot, is_tabletop=is_tabletop, control_hz=control_hz, config=world)
        self._filter, self._period_s = CommandFilter(self.robot, safety or CommandFilterConfig()), 1.0 / control_hz
        self._arm = GuardedArm(self._world, self.robot, GuardConfig(), period_s=self._world.period_s,
                               control_period_s=self._period_s)
        self._goal_env, self._end_with_success = goal_env, end_with_success
        self._success = SuccessCounter(self._task.settle_s, self._period_s)
        self._state: RobotState | None = None
        self._task_obs = torch.zeros(self._task.obs_size, dtype=torch.float64)
        self._goal = np.zeros(3)
        self._seen, self._place = _seen_space(self._task.space, self._world.limits), _box(np.full(3, _FAR_M))
        self.observation_space = self._observation_space()
        self.action_space = spaces.Box(-1.0, 1.0, (self._task.action_size,), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the world, and draw a cube and a goal.

        Args:
            seed: Seed of this and later draws.
            options: `goal`: a goal (x, y, z), m, instead of a drawn one. `episode`: (seed, stream, number) of an episode of
                `mbrl_ros.runs.task_loop`, for the same cube and goal.

        Raises:
            GoalError: The given goal is out of reach.
        """
        super().reset(seed=seed)
        options = options or {}
        drawn = int(self.np_random.integers(2**63))
        sequence = np.random.SeedSequence(options.get('episode', drawn))
        self._take(self._world.reset(int(sequence.generate_state(1)[0])))
        self._goal = self._task.sample_goal(np.random.default_rng(sequence.spawn(1)[0]), self._state)
        if 'goal' in options:
            goal = np.array(options['goal'], dtype=np.float64)
            if reason := self._task.goal_refusal(goal):
                raise GoalError(reason)
            self._goal = goal
        self._world.show_goal(self._goal)
        self._filter.restart(np.zeros(len(self.robot.joints)))
        self._arm.reset()
        self._success.reset()
        return self._obs(), self._info()

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold an action for one control period."""
        space, state = self._task.space, self._state
        wanted = space.command(np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0), state)
        filtered = self._filter.apply(wanted.velocity, state.positions(self.robot.joints), self._period_s)
        self._take(self._arm.step(state, filtered.velocity, wanted.opening_m))
        applied = space.action(ArmCommand(self._arm.velocity, wanted.opening_m), state)
        self._success.update(bool(self._task.is_within(self._task_obs, self._goal)))
        obs, info = self._obs(), self._info()
        if self._goal_env:
            reward = self.compute_reward(obs['achieved_goal'], obs['desired_goal'], info)
        else:
            reward = self._task.reward(self._task_obs, torch.from_numpy(applied), self._goal)
        return obs, float(reward), False, self._end_with_success and self._success.success, info

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        """Sparse rewards, shape (...): 0 within the task's tolerance, -1 elsewhere.

        Args:
            achieved_goal: Positions, shape (..., 3), m.
            desired_goal: Goals, shape (..., 3), m.
            info: Unused.
        """
        achieved, desired = (torch.tensor(np.asarray(place, dtype=np.float64)) for place in (achieved_goal, desired_goal))
        return np.where(self._task.gap(achieved, desired).numpy() <= self._task.goal_tolerance_m, 0.0, -1.0)[()]

    def render(self) -> np.ndarray | None:
        """Picture, shape (height, width, 3), in mode `rgb_array`."""
        return self._world.render() if self.render_mode == 'rgb_array' else None

    def close(self) -> None:
        """Disconnect from the physics server."""
        self._world.close()

    def _take(self, state: RobotState) -> None:
        self._state, self._task_obs = state, torch.from_numpy(self._task.space.observe(state))

    def _obs(self) -> np.ndarray | dict[str, np.ndarray]:
        seen, achieved = self._task_obs.numpy(), self._task.achieved(self._task_obs).numpy()
        if isinstance(self._task.space, JointSpace):
            seen = np.concatenate([seen, achieved])
        seen, achieved, goal = (np.clip(values, box.low, box.high) for values, box in (
            (seen, self._seen), (achieved, self._place), (self._goal, self._place)))
        if self._goal_env:
            return {'observation': seen, 'achieved_goal': achieved, 'desired_goal': goal}
        return np.concatenate([seen, goal])

    def _observation_space(self) -> spaces.Space:
        if self._goal_env:
            return spaces.Dict({'observation': self._seen, 'achieved_goal': self._place, 'desired_goal': self._place})
        low, high = (np.concatenate(ends) for ends in zip(*((box.low, box.high) for box in (self._seen, self._place))))
        return spaces.Box(low, high, dtype=np.float64)

    def _info(self) -> dict[str, Any]:
        distance = float(self._task.distance(self._task_obs, self._goal))
        return {'distance_m': distance, 'is_success': distance <= self._task.goal_tolerance_m, 'is_held': self._success.success}


def _seen_space(space: JointSpace | ToolSpace, limits: JointLimits) -> spaces.Box:
    """Bounds of the observation of arm and body."""
    if isinstance(space, JointSpace):
        speed, tool = _OVERSPEED * limits.max_velocity, np.full(3, _FAR_M)
        return spaces.Box(np.concatenate([limits.lower, -speed, -tool]), np.concatenate([limits.upper, speed, tool]),
                          dtype=np.float64)
    turns = np.array([name.endswith('yaw') for name in space.state_names])
    return _box(np.concatenate([np.where(turns, _TURN_RAD, _FAR_M), np.where(turns, _FAST_RAD_S, _FAST_M_S)]))


def _box(high: np.ndarray) -> spaces.Box:
    return spaces.Box(-high, high, dtype=np.float64)
