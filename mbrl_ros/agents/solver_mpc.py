"""Model-predictive control by a solver: hard limits, learned dynamics, a learned cost.

The agent solves an optimal control problem every control step: joint positions, speeds, accelerations, jerks and distances from
keep-out boxes are constraints, the kinematics are known, and the dynamics are the mean of an ensemble, linearised along the plan
(`planning.solver`). The learner fits the ensemble, as that of PETS does, and searches for the weights of the cost that earn most
in imagination: the idea of Gros and Zanon (2020, arXiv:1904.04152), that reinforcement learning should tune the cost of the
controller rather than a policy beside it.

Note:
    The paper tunes by Q-learning and policy gradients on the real system; here the cross-entropy method does, in the learned
    model. New live weights change the value of a plan at once, and what later rounds look for.
"""

import copy
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mbrl_ros.agents.agent import Decision, Follows, LearningReport, Lesson, Surprise
from mbrl_ros.agents.bundle import AgentBundle, Contract
from mbrl_ros.agents.ensemble import ENSEMBLE, EnsembleLearner, EnsembleLearnerConfig, ensemble_of
from mbrl_ros.agents.kind import ActingConfig, AgentKind, of_learner
from mbrl_ros.config import section
from mbrl_ros.errors import BundleError, ConfigError, PlanningError, ShapeError, TrainingCancelled
from mbrl_ros.experience.buffer import Transitions
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.models.ensemble.mean import MeanModel
from mbrl_ros.models.ensemble.parameters import DynamicsParameters
from mbrl_ros.models.ensemble.precision import stand_in
from mbrl_ros.planning.planner import Objective
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.planning.solver.horizon import HorizonProblem, SolverConfig, Start
from mbrl_ros.planning.solver.real_time import Chosen, choose
from mbrl_ros.planning.solver.search import SearchConfig, WeightDistribution, next_generation
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.spaces.space import Space
from mbrl_ros.tasks.reward import GoalReward
from mbrl_ros.types import Plan

#: Group of a bundle with the distribution of the weights of the cost.
_COST = 'cost'
_WARM_UPS = 3


@dataclasses.dataclass(frozen=True)
class SolverMpcLearnerConfig(EnsembleLearnerConfig):
    """How the ensemble is trained and accepted, and how the cost is learned."""

    cost: CostWeights = section(CostWeights, 'Weights of the cost to begin with.')
    search: SearchConfig = section(SearchConfig, 'How they are learned.')
    imagined: SolverConfig = section(SolverConfig, 'The problem that is solved in imagination.')


@dataclasses.dataclass(frozen=True)
class SolverMpcActingConfig(ActingConfig):
    """How the agent acts."""

    solver: SolverConfig = section(SolverConfig, 'The problem that is solved.')
    network: EnsembleConfig = of_learner(EnsembleConfig, 'trainer.ensemble',
                                         'Sizes of the networks to get ready for, before the first of them comes.')


@dataclasses.dataclass
class _Memory:
    """What a decision leaves to the next.

    Attributes:
        actions: Actions to start from, shape (H, A).
        before: Action before the last one, shape (A,).
        solve_s: Time to expect of a solve; after a slow one it falls by half a decision, so that one is tried again.
    """

    actions: np.ndarray
    before: np.ndarray
    solve_s: float = 0.0


class SolverMpcAgent:
    """Solves the problem of each control step; implements `Agent`. Arguments are those of `AgentKind.make_agent`.

    Attributes:
        weights: Weights of the cost.
    """

    def __init__(self, contract: Contract, space: Space, config: SolverMpcActingConfig, *,
                 max_action_change: np.ndarray | None = None, is_repeatable: bool = True) -> None:
        self.version, self.is_ready = 0, False
        self._contract, self._config = contract, config
        self._problem = HorizonProblem(_robot(contract, space), contract.period_s, config.solver, max_action_change)
        self._model: MeanModel | None = None
        self.weights = CostWeights()

    def with_bundle(self, bundle: AgentBundle) -> 'SolverMpcAgent':
        """See `Agent.with_bundle`."""
        bundle.card.check_fits(self._contract)
        return self._with(ensemble_of(bundle), _distribution(bundle).weights, bundle.version, bundle.card.origin)

    def with_weights(self, weights: CostWeights) -> 'SolverMpcAgent':
        """Copy of the agent with other weights of the cost."""
        agent = copy.copy(self)
        agent.weights = weights
        return agent

    def prepare(self, obs: np.ndarray, objective: Objective) -> str:
        """See `Agent.prepare`."""
        network = self._config.network
        agent = self._with(stand_in(self._contract.obs_size, self._contract.action_size, network), self.weights)
        memory, still = agent.reset(0), np.zeros(self._contract.action_size)
        for _ in range(_WARM_UPS):
            agent.act(obs, np.zeros(3), memory, objective=objective, previous_action=still)
        return f'solving up to {self._config.solver.max_iterations} quadratic programmes a decision with CasADi'

    def reset(self, seed: int) -> _Memory:
        """See `Agent.reset`; nothing is random."""
        size = self._contract.action_size
        return _Memory(np.zeros((self._config.solver.horizon, size)), np.zeros(size))

    def predict(self, obs: np.ndarray, previous_action: np.ndarray, latency_s: float) -> np.ndarray:
        """See `Agent.predict`."""
        obs, left = np.asarray(obs, dtype=np.float64), latency_s / self._contract.period_s
        while left > 0.0:
            obs = obs + min(left, 1.0) * (self._model.predict(obs[None], previous_action[None])[0] - obs)
            left -= 1.0
        return obs

    def act(self, obs: np.ndarray, goal: np.ndarray | None, memory: _Memory, *, objective: Objective,
            previous_action: np.ndarray, deadline_s: float | None = None) -> Decision:
        """See `Agent.act`."""
        laps_s = [time.perf_counter()]
        start = self._start(obs, previous_action, memory)

        def is_over() -> bool:
            laps_s.append(time.perf_counter())
            return deadline_s is not None and laps_s[-1] - laps_s[0] + memory.solve_s > deadline_s

        chosen = choose(self._problem, self._model, start, memory.actions, np.asarray(goal), self.weights, is_over)
        memory.solve_s = max(0.5 * memory.solve_s, *np.diff([*laps_s, time.perf_counter()]))
        memory.actions, memory.before = chosen.next_actions, start.previous
        plan = self._plan(chosen, objective, laps_s[0])
        return Decision(plan.actions[0], plan.elapsed_s, plan.value, plan.disagreement, plan, chosen.note)

    def _with(self, parameters: DynamicsParameters, weights: CostWeights, version: int = 0,
              origin: tuple[float, ...] = ()) -> 'SolverMpcAgent':
        agent = self.with_weights(weights)
        agent.version, agent.is_ready, agent._model = version, True, MeanModel(parameters, origin)
        return agent

    def _start(self, obs: np.ndarray, previous_action: np.ndarray, memory: _Memory) -> Start:
        """Where the plan starts.

        Raises:
            ShapeError: `obs` or `previous_action` does not fit.
            PlanningError: They are not finite.
        """
        shapes, fitting = (np.shape(obs), np.shape(previous_action)), ((self._contract.obs_size,), (self._contract.action_size,))
        if shapes != fitting:
            raise ShapeError(f'obs and previous_action need shapes {fitting}, got {shapes}')
        if not (np.isfinite(obs).all() and np.isfinite(previous_action).all()):
            raise PlanningError('obs and previous_action need finite numbers')
        return Start(np.asarray(obs, dtype=np.float64), np.asarray(previous_action, dtype=np.float64), memory.before)

    def _plan(self, chosen: Chosen, objective: Objective, begun_s: float) -> Plan:
        path = chosen.path
        reached, actions = (torch.from_numpy(values).float() for values in (path.obs[1:], path.actions))
        value = float(objective(reached, actions).sum())
        disagreement = float(self._model.disagreement(path.obs[:-1], path.actions).max())
        return Plan(path.actions, value, 0.0, path.obs, disagreement, path.actions[None], np.array([value]), chosen.iterations, 0,
                    time.perf_counter() - begun_s)


class SolverMpcLearner:
    """Fits the ensemble as PETS does, and searches for the weights of the cost; implements `Learner`.

    Arguments are those of `AgentKind.make_learner`.
    """

    def __init__(self, contract: Contract, space: Space, config: SolverMpcLearnerConfig, wanted: GoalReward) -> None:
        self._config, self._robot, self._wanted = config, _robot(contract, space), wanted
        self._dynamics = EnsembleLearner(contract, space, config)
        self._problem = HorizonProblem(self._robot, contract.period_s, config.imagined)
        self._distribution = WeightDistribution.around(config.cost, config.search.init_std)

    def resume(self, bundle: AgentBundle) -> None:
        """See `Learner.resume`."""
        self._dynamics.resume(bundle)
        self._distribution = _distribution(bundle)

    def held_out(self, transitions: Transitions) -> np.ndarray:
        """See `Learner.held_out`."""
        return self._dynamics.held_out(transitions)

    def surprise(self, transitions: Transitions) -> Surprise | None:
        """See `Learner.surprise`."""
        return self._dynamics.surprise(transitions)

    def update(self, lesson: Lesson, is_cancelled: Callable[[], bool]) -> LearningReport:
        """See `Learner.update`."""
        report = self._dynamics.update(lesson, is_cancelled)
        found, search, rng = self._distribution, self._config.search, np.random.default_rng(lesson.seed)
        goals = lesson.transitions.goal[np.isfinite(lesson.transitions.goal).all(axis=1)]
        figures: dict[str, float] = {}
        if report.is_better and len(goals):
            model = MeanModel(DynamicsParameters.from_tensors(report.groups[ENSEMBLE]), report.origin)
            starts = lesson.transitions.obs[:, :len(self._robot.joints)]
            for _ in range(search.generations):
                trials = [(rng.choice(starts), rng.choice(goals)) for _ in range(search.goals)]

                def evaluate(weights: CostWeights, trials: Any = trials) -> np.ndarray:
                    return np.array([self._imagined_return(model, weights, *trial, is_cancelled) for trial in trials])

                found, before, after = next_generation(found, evaluate, search, rng)
                figures = {'imagined_return': after, 'imagined_return_before': before}
        cost = {'mean': torch.from_numpy(found.mean), 'std': torch.from_numpy(found.std)}
        return dataclasses.replace(report, groups={**report.groups, _COST: cost}, figures={**report.figures, **figures})

    def _imagined_return(self, model: MeanModel, weights: CostWeights, q: np.ndarray, goal: np.ndarray,
                         is_cancelled: Callable[[], bool]) -> float:
        """Sum of rewards on the way from joint positions (J,) at rest towards a goal (3,), in the model.

        Raises:
            TrainingCancelled: `is_cancelled` returned true.
        """
        size, config = len(q), self._config
        start = Start(np.concatenate([q, np.zeros(size)]), np.zeros(size), np.zeros(size))
        actions, made, reached = np.zeros((config.imagined.horizon, size)), [], []
        for _ in range(config.search.steps):
            if is_cancelled():
                raise TrainingCancelled
            chosen = choose(self._problem, model, start, actions, goal, weights)
            made.append(chosen.path.actions[0])
            reached.append(chosen.path.obs[1])
            start, actions = Start(reached[-1], made[-1], start.previous), chosen.next_actions
        obs, action = (torch.from_numpy(np.array(values)) for values in (reached, made))
        return float(self._wanted.reward(obs, action, torch.from_numpy(goal)).sum())


def _robot(contract: Contract, space: Space) -> RobotProfile:
    """The arm of a space of joint velocities; raises ConfigError for any other."""
    if (robot := getattr(space, 'robot', None)) is None:
        raise ConfigError("the agent solver_mpc plans velocities of an arm's joints, as for the task 'reach'; "
                          f'{contract.task!r} has the space {contract.space!r}')
    return robot


def _distribution(bundle: AgentBundle) -> WeightDistribution:
    """Distribution of the weights of the cost in a bundle; raises BundleError if its tensors are none."""
    tensors = bundle.group(_COST)
    size = len(dataclasses.fields(CostWeights))
    mean, std = (tensors.get(name) for name in ('mean', 'std'))
    if mean is None or std is None or not mean.shape == std.shape == (size,) or not bool(torch.isfinite(mean + std).all()):
        raise BundleError(f'model needs the finite tensors mean and std of {size} weights of the cost, got {sorted(tensors)}')
    return WeightDistribution(mean.double().numpy(), std.double().numpy())


KIND = AgentKind('model-predictive control by a solver, with hard limits and a learned cost', SolverMpcActingConfig,
                 SolverMpcLearnerConfig, SolverMpcAgent, SolverMpcLearner, follows=Follows.NEVER)
