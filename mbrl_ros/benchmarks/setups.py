"""The planners that are measured, each made from a description that can be sent to another process."""

import dataclasses

import numpy as np

from mbrl_ros.agents.bundle import Contract
from mbrl_ros.agents.pets import PetsActingConfig, PetsAgent
from mbrl_ros.benchmarks.work import (
    CountedObjective,
    NetworkSize,
    QuadraticObjective,
    Rollouts,
    observation_stream,
    random_parameters,
)
from mbrl_ros.control.safety.command_filter import CommandFilterConfig
from mbrl_ros.models.ensemble.ensemble import EnsembleConfig
from mbrl_ros.planning.planner import Objective, PlannerConfig
from mbrl_ros.robots.profile import load_robot
from mbrl_ros.spaces.joint import JointSpace
from mbrl_ros.tasks.registry import make_task

#: mbrl-lib's elite share of the yardstick's population.
_ELITE_SHARE = 0.1
_STREAM_LENGTH = 64
_WARM_UP_PLANS = 3
_EVERYDAY_RATE_HZ = 20.0
_EVERYDAY_ROBOT = 'panda'


@dataclasses.dataclass(frozen=True)
class PlannerSetup:
    """One planner at one setting; fields without a description are as in `PlannerConfig`.

    Attributes:
        population: N of the first iteration.
        particles: P.
        iterations: Iterations of a plan.
        everyday: Whether this is the controller's default setting on the everyday task; `config` then only uses precision and
            device.
        network: Sizes of the ensemble.
    """

    optimiser: str = 'cem'
    horizon: int = 15
    precision: str = 'auto'
    population: int = 350
    particles: int = 20
    iterations: int = 5
    propagation: str = 'ts1'
    everyday: bool = False
    network: NetworkSize = NetworkSize()
    device: str = 'auto'

    @classmethod
    def everyday_setting(cls, precision: str = 'auto') -> 'PlannerSetup':
        """The controller's default planner with an ensemble of the default sizes."""
        config, ensemble = PlannerConfig(), EnsembleConfig()
        joints = len(load_robot(_EVERYDAY_ROBOT).joints)
        network = NetworkSize(2 * joints, joints, ensemble.ensemble_size, ensemble.hidden_layers, ensemble.hidden_size)
        return cls(config.optimiser, config.horizon, precision, config.population_size, config.num_particles,
                   config.num_iterations, config.propagation, True, network)

    @property
    def label(self) -> str:
        """Name in a table."""
        name = {'cem': 'CEM', 'icem': 'iCEM', 'mppi': 'MPPI', 'random_shooting': 'random shooting'}[self.optimiser]
        return f'{name} everyday' if self.everyday else f'{name} {self.propagation.upper()}'

    @property
    def config(self) -> PlannerConfig:
        """Settings of the planner."""
        if self.everyday:
            return PlannerConfig(precision=self.precision, device=self.device)
        return PlannerConfig(optimiser=self.optimiser, horizon=self.horizon, population_size=self.population,
                             num_elites=max(1, round(_ELITE_SHARE * self.population)), num_particles=self.particles,
                             num_iterations=self.iterations, propagation=self.propagation, init_std=0.5,
                             precision=self.precision, device=self.device)


class MeasuredPlanner:
    """A planner with model, reward and observations, warmed up so that all plans cost the same.

    The seed decides weights, observations and plans. `precision` is what the setup's precision resolved to.

    Raises:
        ConfigError: A plan would need more memory than its settings allow.
    """

    def __init__(self, setup: PlannerSetup, seed: int = 0) -> None:
        self.setup, network = setup, setup.network
        robot = load_robot(_EVERYDAY_ROBOT) if setup.everyday else None
        self._objective = make_task('reach', robot).objective(robot.workspace.lower_m) if robot else QuadraticObjective()
        space = JointSpace(robot) if robot else _PlainSpace(network)
        change = space.largest_change(CommandFilterConfig().acceleration_scale, 1.0 / _EVERYDAY_RATE_HZ) if robot else None
        contract = Contract.of('pets', space, robot=_EVERYDAY_ROBOT, task='benchmark', period_s=1.0 / _EVERYDAY_RATE_HZ)
        agent = PetsAgent(contract, space, PetsActingConfig(planner=setup.config), max_action_change=change, is_repeatable=False)
        self._agent = agent.with_parameters(random_parameters(network, seed))
        self.device, self.precision, self._still = self._agent.device, self._agent.precision, np.zeros(network.action_size)
        self._stream = observation_stream(network, _STREAM_LENGTH, seed)
        if robot:
            self._stream[:, :network.action_size] += robot.home_rad
        self._memory = self._agent.reset(seed)
        for call in range(_WARM_UP_PLANS):
            self(call)
        self._memory = self._agent.reset(seed)

    def __call__(self, call: int) -> np.ndarray:
        """First action of a plan for the call's observation of the stream, shape (A,)."""
        return self.plan(self._stream[call % len(self._stream)])

    def plan(self, obs: np.ndarray, objective: Objective | None = None) -> np.ndarray:
        """First action of a plan for an observation (O,), shape (A,), with another objective if one is given."""
        objective = self._objective if objective is None else objective
        return self._agent.act(obs, None, self._memory, objective=objective, previous_action=self._still).action

    def scored_in_a_plan(self) -> list[Rollouts]:
        """The rollouts that one plan scores."""
        counted = CountedObjective(self._objective, self.setup.network.ensemble_size, self.setup.config.num_particles)
        self.plan(self._stream[0], counted)
        return counted.scored


class _PlainSpace:
    """A space of numbers without meaning; implements `spaces.space.Space`."""

    name, version, has_velocities, frame, is_directed = 'plain', 1, False, None, False

    def __init__(self, network: NetworkSize) -> None:
        self.state_names = tuple(f'obs[{index}]' for index in range(network.obs_size))
        self.action_names = tuple(f'action[{index}]' for index in range(network.action_size))

    def directions(self, obs: np.ndarray) -> None:
        """See `spaces.space.Space.directions`."""
