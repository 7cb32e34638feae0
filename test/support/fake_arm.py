"""An arm that does exactly what it is told, and an agent that decides exactly what it was given; both for tests."""

import numpy as np

from mbrl_ros.agents.agent import Decision
from mbrl_ros.robots.profile import RobotProfile
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


class ScriptedAgent:
    """Decides on, or raises, what `answer` holds; remembers what it was asked. Implements `Agent`; memories are counted."""

    def __init__(self, answer: Plan | Exception, *, version: int = 1, is_ready: bool = True) -> None:
        self.answer, self.version, self.is_ready = answer, version, is_ready
        self.seeds: list[int] = []
        self.asked: list[dict] = []

    def with_bundle(self, bundle) -> 'ScriptedAgent':
        """The same with the bundle's version."""
        agent = ScriptedAgent(self.answer, version=bundle.version)
        agent.seeds, agent.asked = self.seeds, self.asked
        return agent

    def prepare(self, obs, objective) -> str:
        """Nothing to do."""
        return 'ready'

    def reset(self, seed: int) -> int:
        """Remember the seed; the memory is how many there were."""
        self.seeds.append(seed)
        return len(self.seeds)

    def predict(self, obs, previous_action, latency_s) -> None:
        """It has no model."""

    def act(self, obs, goal, memory, *, objective, previous_action, deadline_s=None) -> Decision:
        """Give the answer."""
        self.asked.append({'obs': obs, 'goal': goal, 'memory': memory, 'previous_action': previous_action,
                           'deadline_s': deadline_s, 'objective': objective, 'version': self.version})
        if isinstance(self.answer, Exception):
            raise self.answer
        plan = self.answer
        return Decision(plan.actions[0], plan.elapsed_s, plan.value, plan.disagreement, plan)
