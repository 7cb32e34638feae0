"""An arm that does exactly what it is told, and a planner that says exactly what it was given; both for tests."""

import numpy as np

from mbrl_ros.robots import RobotProfile
from mbrl_ros.types import Plan, RobotState


class FakeArm:
    """Takes up a commanded velocity at once and keeps it until the next command, as real velocity controllers do."""

    def __init__(self, robot: RobotProfile, period_s: float = 0.05) -> None:
        self.robot, self.period_s = robot, period_s
        self.q, self.qd = np.array(robot.home_rad), np.zeros(len(robot.joints))
        self.stamp_ns = 0

    @property
    def state(self) -> RobotState:
        """Exact state now."""
        return RobotState(self.stamp_ns, self.robot.joints, self.q, self.qd)

    def step(self, velocity: np.ndarray | None) -> None:
        """One control period; None keeps the last velocity."""
        self.qd = self.qd if velocity is None else velocity
        self.q = self.q + self.qd * self.period_s
        self.stamp_ns += round(self.period_s * 1e9)


def make_plan(actions: np.ndarray, *, disagreement: float = 0.0, elapsed_s: float = 0.01) -> Plan:
    """A plan of these actions, shape (H, A)."""
    horizon, size = actions.shape
    return Plan(actions, 0.0, 0.0, np.zeros((horizon + 1, 2 * size)), disagreement, actions[None], np.zeros(1), 1, 0, elapsed_s)


class ScriptedPlanner:
    """Returns, or raises, what `answer` holds; remembers what it was asked."""

    def __init__(self, answer: Plan | Exception) -> None:
        self.answer = answer
        self.seeds: list[int] = []
        self.asked: list[dict] = []

    def plan(self, model, obs, objective, *, previous_action=None, directions=None, deadline_s=None) -> Plan:
        """Give the answer."""
        self.asked.append({'model': model, 'obs': obs, 'previous_action': previous_action, 'directions': directions,
                           'deadline_s': deadline_s, 'objective': objective})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def reset(self, seed: int) -> None:
        """Remember the seed."""
        self.seeds.append(seed)
