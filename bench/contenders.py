"""Every planner of the comparison as a function from an observation to an action, all with the same weights and reward.

Peers are imported where they are used, so that one that cannot be had is missed alone.
"""

import dataclasses
import types
import warnings
from collections.abc import Callable

import numpy as np
import torch
from plain import BareCem, PlainEnsemble

from mbrl_ros.benchmarks.setups import MeasuredPlanner, PlannerSetup
from mbrl_ros.benchmarks.work import NetworkSize, quadratic_reward, random_parameters
from mbrl_ros.planning.planner import resolve_device

_SEED = 0
_INIT_STD = 0.5

Planner = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Counted:
    """A planner with the count of its model evaluations.

    Attributes:
        plan: From an observation to an action.
        rows: Rows that went through the network since the start.
        precision: Arithmetic of the network's products.
    """

    plan: Planner
    rows: Callable[[], int]
    precision: str = 'float32'


def mbrl_cem(setup: PlannerSetup) -> Counted:
    """mbrl-lib's CEM as its PETS agent sets it up."""
    return _mbrl_agent(setup, {
        '_target_': 'mbrl.planning.CEMOptimizer', 'num_iterations': setup.iterations,
        'elite_ratio': setup.config.num_elites / setup.population, 'population_size': setup.population, 'alpha': 0.1,
        'lower_bound': None, 'upper_bound': None, 'return_mean_elites': True, 'device': str(resolve_device(setup.device)),
        'clipped_normal': False})


def mbrl_icem(setup: PlannerSetup) -> Counted:
    """mbrl-lib's iCEM."""
    return _mbrl_agent(setup, {
        '_target_': 'mbrl.planning.ICEMOptimizer', 'num_iterations': setup.iterations,
        'elite_ratio': setup.config.num_elites / setup.population, 'population_size': setup.population,
        'population_decay_factor': 1.3, 'colored_noise_exponent': 2.0, 'lower_bound': None, 'upper_bound': None,
        'keep_elite_frac': 0.3, 'alpha': 0.1, 'device': str(resolve_device(setup.device)), 'return_mean_elites': True,
        'population_size_module': None})


def mbrl_model(size: NetworkSize, device: torch.device | str = 'cpu'):
    """mbrl-lib's ensemble with its wrapper, holding the weights that all planners have."""
    import mbrl.models
    import omegaconf

    model = mbrl.models.GaussianMLP(
        size.obs_size + size.action_size, size.obs_size, device, num_layers=size.hidden_layers,
        ensemble_size=size.ensemble_size, hid_size=size.hidden_size, propagation_method='random_model', learn_logvar_bounds=False,
        activation_fn_cfg=omegaconf.OmegaConf.create({'_target_': 'torch.nn.SiLU'}))
    ours = random_parameters(size, _SEED).ensemble()
    theirs = [*(layer[0] for layer in model.hidden_layers), model.mean_and_logvar]
    with torch.no_grad():
        for layer, weight, bias in zip(theirs, ours.weights, ours.biases):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        model.min_logvar.copy_(ours.min_logvar[0])
        model.max_logvar.copy_(ours.max_logvar[0])
    # An identity until it is fitted, and then no slower than a fitted one.
    return mbrl.models.OneDTransitionRewardModel(model, target_is_delta=True, normalize=True, learned_rewards=False)


def _mbrl_agent(setup: PlannerSetup, optimizer: dict) -> Counted:
    import gymnasium
    import mbrl.models
    import mbrl.planning
    import omegaconf

    size = setup.network
    counter = types.SimpleNamespace(rows=0)

    def reward(action: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
        counter.rows += len(obs)
        return quadratic_reward(obs, action).unsqueeze(1)

    def never(action: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(obs), 1, dtype=torch.bool, device=obs.device)

    spaces = types.SimpleNamespace(observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (size.obs_size,)),
                                   action_space=gymnasium.spaces.Box(-1.0, 1.0, (size.action_size,)))
    environment = mbrl.models.ModelEnv(spaces, mbrl_model(size, resolve_device(setup.device)), never, reward)
    agent = mbrl.planning.create_trajectory_optim_agent_for_model(environment, omegaconf.OmegaConf.create({
        '_target_': 'mbrl.planning.TrajectoryOptimizerAgent', '_recursive_': False, 'action_lb': '???', 'action_ub': '???',
        'planning_horizon': setup.horizon, 'optimizer_cfg': optimizer, 'replan_freq': 1, 'verbose': False}),
        num_particles=setup.particles)
    return Counted(agent.act, lambda: counter.rows)


def pytorch_icem(setup: PlannerSetup) -> Counted:
    """pytorch_icem with as many evaluations: its state is all particles of a candidate side by side."""
    from pytorch_icem import iCEM

    size, particles, device = setup.network, setup.particles, resolve_device(setup.device)
    ensemble = PlainEnsemble(random_parameters(size, _SEED), device)

    def dynamics(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        rows = state.reshape(-1, size.obs_size)
        return ensemble.sample(rows, action.repeat_interleave(particles, dim=0)).view(state.shape)

    def cost(states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        obs = states.view(*states.shape[:-1], particles, size.obs_size)  # (N, H, P, O)
        return -quadratic_reward(obs, actions.unsqueeze(-2)).mean(dim=-1).sum(dim=-1)

    # Its constructor refuses a deviation for more than one action, so it is made for one and told the rest.
    planner = iCEM(dynamics, cost, nx=particles * size.obs_size, nu=1, sigma=torch.full((1,), _INIT_STD, device=device),
                   num_samples=setup.population, num_elites=setup.config.num_elites, horizon=setup.horizon, noise_beta=2.0,
                   warmup_iters=setup.iterations, online_iters=setup.iterations, device=device)
    planner.nu, planner.sigma = size.action_size, torch.full((size.action_size,), _INIT_STD, device=device)
    planner.reset()
    return Counted(lambda obs: planner.command(np.tile(obs, particles)).cpu().numpy(), lambda: ensemble.rows)


def pytorch_mppi(setup: PlannerSetup) -> Counted:
    """pytorch_mppi, as many refinements as the others have iterations, one rollout sample a particle."""
    planner, ensemble = _mppi(setup)

    def plan(obs: np.ndarray) -> np.ndarray:
        state = torch.as_tensor(obs, dtype=torch.float32)
        action = planner.command(state)
        for _ in range(setup.iterations - 1):
            action = planner.command(state, shift_nominal_trajectory=False)
        return action.cpu().numpy()

    return Counted(plan, lambda: ensemble.rows)


def pytorch_mppi_once(setup: PlannerSetup) -> Counted:
    """pytorch_mppi as it is called in its examples: one refinement."""
    planner, ensemble = _mppi(setup)
    return Counted(lambda obs: planner.command(torch.as_tensor(obs, dtype=torch.float32)).cpu().numpy(), lambda: ensemble.rows)


def _mppi(setup: PlannerSetup):
    from pytorch_mppi import MPPI

    size, device = setup.network, resolve_device(setup.device)
    ensemble = PlainEnsemble(random_parameters(size, _SEED), device)
    bound = torch.ones(size.action_size, device=device)
    planner = MPPI(ensemble.sample, lambda obs, action: -quadratic_reward(obs, action), nx=size.obs_size,
                   noise_sigma=torch.diag(_INIT_STD**2 * bound), num_samples=setup.population, horizon=setup.horizon,
                   u_min=-bound, u_max=bound, rollout_samples=setup.particles, device=device)
    return planner, ensemble


def bare_cem(setup: PlannerSetup, dtype: torch.dtype) -> Counted:
    """Plain torch and nothing else."""
    ensemble = PlainEnsemble(random_parameters(setup.network, _SEED), resolve_device(setup.device), dtype)
    planner = BareCem(ensemble, quadratic_reward, horizon=setup.horizon, population=setup.population,
                      particles=setup.particles, iterations=setup.iterations, elites=setup.config.num_elites)
    return Counted(planner, lambda: ensemble.rows, str(dtype).removeprefix('torch.'))


def ours(setup: PlannerSetup) -> Counted:
    """This project's."""
    planner = MeasuredPlanner(setup, _SEED)
    evaluations = sum(rollouts.evaluations for rollouts in planner.scored_in_a_plan())
    made = types.SimpleNamespace(plans=0)

    def plan(obs: np.ndarray) -> np.ndarray:
        made.plans += 1
        return planner.plan(obs)

    return Counted(plan, lambda: made.plans * evaluations, planner.precision)


def check_same_work(size: NetworkSize) -> None:
    """Raise unless mbrl-lib's model, the plain one and this project's predict the same.

    Raises:
        RuntimeError: They differ.
    """
    from mbrl_ros.models.ensemble.predictor import Predictor

    parameters = random_parameters(size, _SEED)
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(size.ensemble_size, 40, size.obs_size, generator=generator)
    action = torch.rand(size.ensemble_size, 40, size.action_size, generator=generator) * 2.0 - 1.0
    mean, logvar = PlainEnsemble(parameters).moments(obs, action)
    answers = {'this project': Predictor(parameters).predict(obs, action)}
    try:
        model = mbrl_model(size)
        with torch.no_grad(), warnings.catch_warnings():
            delta, theirs = model.model(model.input_normalizer.normalize(torch.cat([obs, action], dim=-1)), use_propagation=False)
        answers['mbrl-lib'] = (obs + delta, torch.exp(0.5 * theirs))
    except ImportError:
        pass  # It is missed, with the reason, when its planners are built.
    for name, answer in answers.items():
        for value, expected in zip(answer, (mean, torch.exp(0.5 * logvar))):
            if not torch.allclose(value, expected, rtol=1e-4, atol=1e-5):
                raise RuntimeError(f'the model of {name} does not predict what the others do; there is nothing to compare')
