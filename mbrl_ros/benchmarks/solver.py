"""`mbrl-ros bench solver`: reaching among boxes with the agent solver_mpc, and what learning its cost is worth."""

import dataclasses
import functools
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from mbrl_ros.agents.agent import Agent, Decision
from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.benchmarks.budget import learn_model
from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.benchmarks.machine import machine_figures, machine_line
from mbrl_ros.planning.solver.clearance import Clearance
from mbrl_ros.planning.solver.cost import CostWeights
from mbrl_ros.robots.profile import RobotProfile
from mbrl_ros.runs.outputs import require_writable
from mbrl_ros.runs.playing import EVALUATION, Episode
from mbrl_ros.runs.task_loop import TaskLoop
from mbrl_ros.task_settings import TaskLoopConfig
from mbrl_sim.scene import WorldConfig
from mbrl_sim.tabletop import TabletopWorld, make_task_world

_TASK, _AGENT = 'reach', 'solver_mpc'
#: A wall at the left of the arm's home, a pillar at its right, and a block beside that.
BOXES_M = (0.35, 0.12, 0.0, 0.75, 0.16, 0.5, 0.5, -0.3, 0.0, 0.6, -0.2, 0.5, 0.3, -0.45, 0.0, 0.4, -0.35, 0.3)
#: What a person might try: two weights that matter, each over two to three powers of ten.
HAND_SET = [CostWeights(terminal=terminal, change=change)
            for terminal, change in itertools.product((0.3, 1.0, 3.0, 10.0, 30.0), (0.001, 0.01, 0.1, 1.0))]
#: Longer than any episode: the comparison of returns has no end by success, so that being slow earns nothing.
_NEVER_S = 1e6
#: Distance from boxes and limits at which a goal counts as reachable, m and rad.
_ROOM_M, _ROOM_RAD = 0.035, 0.05
#: Points of each step of a plan that are checked.
_POINTS = 5
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class SolverBenchmark:
    """What to measure.

    Attributes:
        goals: Goals among the boxes.
        cost_goals: Goals of the comparison of costs.
        seed: Seed of goals and of learning.
        episodes: Episodes that a model and a cost are learned from.
        model_path: Bundle to use instead of learning one.
        robot: Robot profile.
    """

    goals: int = 100
    cost_goals: int = 20
    seed: int = 0
    episodes: int = 12
    model_path: Path | None = None
    robot: str = 'panda'


def run_solver_benchmark(benchmark: SolverBenchmark, *, json_path: Path | None = None) -> None:
    """Measure, print, and write all figures; see `mbrl-ros bench solver --help`.

    Raises:
        ConfigError: CasADi is not installed, or the file cannot be written.
        ModelError: The bundle cannot be used, or the learning episodes made none.
    """
    require_writable(json_path)
    torch.set_num_threads(1)
    console = Console()
    config = TaskLoopConfig.of_task(_TASK, agent=_AGENT)
    free = TaskLoop(_TASK, config, make_task_world, benchmark.robot)
    try:
        if benchmark.model_path is None:
            free.prepare()
            model, _ = learn_model(free, benchmark.seed, benchmark.episodes)
        else:
            model = AgentBundle.load(benchmark.model_path)
        console.print(f'model of {model.card.real_steps} real control steps', highlight=False)
        result = {'machine': machine_figures(1), 'seed': benchmark.seed, 'real_steps': model.card.real_steps}
        for name, measure, in_words in (('boxes', functools.partial(_among_boxes, benchmark, config), _boxes_in_words),
                                        ('costs', functools.partial(_costs, benchmark, free), _costs_in_words)):
            result[name] = measure(model, console)
            for line in in_words(result[name]):
                console.print(line, highlight=False, soft_wrap=True)
    finally:
        free.close()
    console.print(machine_line(result['machine']), highlight=False, soft_wrap=True)
    if json_path is not None:
        write_figures(json_path, result)


class WatchedAgent:
    """An agent whose decisions are kept.

    Attributes:
        decisions: Previous action and decision of each control step.
        cpu_s: Processor time of each.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.decisions: list[tuple[np.ndarray, Decision]] = []
        self.cpu_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def act(self, *args: Any, **named: Any) -> Decision:
        """See `Agent.act`."""
        begun_s = time.thread_time()
        decision = self._agent.act(*args, **named)
        self.cpu_s.append(time.thread_time() - begun_s)
        self.decisions.append((named['previous_action'], decision))
        return decision


def reachable_goal(robot: RobotProfile, clearance: Clearance, rng: np.random.Generator) -> np.ndarray:
    """Goal in the workspace at which some arm posture is clear of the boxes, shape (3,), m.

    Postures are found by damped least squares from random ones; whether a way leads there is not asked.
    """
    lower, upper = np.array(robot.position_lower_rad) + _ROOM_RAD, np.array(robot.position_upper_rad) - _ROOM_RAD
    while True:
        goal = robot.workspace.sample(rng)
        q = np.clip(robot.home_rad + rng.uniform(-0.8, 0.8, (48, len(robot.joints))), lower, upper)
        for _ in range(40):
            seen = clearance.look(q)
            jacobian = clearance.tool_jacobian(seen)
            square = jacobian @ np.swapaxes(jacobian, 1, 2) + 1e-3 * np.eye(3)
            step = np.swapaxes(jacobian, 1, 2) @ np.linalg.solve(square, (goal - seen.tool)[..., None])
            q = np.clip(q + step[..., 0], lower, upper)
        seen = clearance.look(q)
        if ((np.linalg.norm(seen.tool - goal, axis=-1) < 0.005) & (seen.values.min(axis=1) > _ROOM_M)).any():
            return goal


def excess(robot: RobotProfile, clearance: Clearance, obs: np.ndarray, actions: np.ndarray, period_s: float) -> dict[str, float]:
    """How far a motion is beyond each limit, 0 within: observations (T + 1, O), actions (T + 2, A) with the two before them."""
    size = len(robot.joints)
    q, velocity, commands = obs[:, :size], obs[:, size:], actions * robot.max_velocity_rad_s
    acceleration = np.diff(commands, axis=0) / period_s
    share = np.linspace(0.0, 1.0, _POINTS)[:, None, None]
    between = (q[:-1] + share * np.diff(q, axis=0)).reshape(-1, size)
    beyond = {
        'position_rad': np.maximum(robot.position_lower_rad - q, q - robot.position_upper_rad),
        'speed_rad_s': np.abs(velocity) - robot.max_velocity_rad_s,
        'acceleration_rad_s2': np.abs(acceleration[1:]) - robot.max_acceleration_rad_s2,
        'jerk_rad_s3': np.abs(np.diff(acceleration, axis=0)) / period_s - (robot.max_jerk_rad_s3 or np.inf),
        'box_or_floor_m': -clearance.look(between).values,
    }
    return {name: max(0.0, float(values.max())) for name, values in beyond.items()}


def _among_boxes(benchmark: SolverBenchmark, config: TaskLoopConfig, model: AgentBundle, console: Console) -> dict[str, Any]:
    """Figures of all episodes among the boxes."""
    worlds: list[TabletopWorld] = []

    def make_world(*args: Any, **named: Any) -> TabletopWorld:
        worlds.append(make_task_world(*args, **named, config=WorldConfig(cube=False, boxes_m=BOXES_M)))
        return worlds[-1]

    config = dataclasses.replace(config, solver=dataclasses.replace(config.solver, boxes_m=BOXES_M))
    loop = TaskLoop(_TASK, config, make_world, benchmark.robot)
    clearance, rng = Clearance(loop.robot, BOXES_M), np.random.default_rng(benchmark.seed)
    loop.task.sample_goal = lambda _rng, _state: reachable_goal(loop.robot, clearance, rng)
    check = functools.partial(excess, loop.robot, clearance, period_s=loop.period_s)
    agent, episodes, contacts, motions, plans = WatchedAgent(loop.agent.with_bundle(model)), [], 0, [], []
    try:
        loop.prepare()
        for index in track(range(benchmark.goals), description='among boxes', console=console, transient=True):
            episode = loop.play(agent, seed=benchmark.seed, episode=index, stream=EVALUATION)
            episodes.append(episode)
            contacts += worlds[-1].box_contact_steps
            motions.append(check(episode.obs, np.concatenate([np.zeros((2, loop.contract.action_size)), episode.action])))
            plans += _plan_excesses(agent, episode, check)
    finally:
        loop.close()
    notes = [decision.note for _, decision in agent.decisions if decision.note]
    wall_ms = 1e3 * np.concatenate([episode.plan_s for episode in episodes])
    return {'goals': len(episodes), 'successes': sum(bool(episode.success) for episode in episodes), 'contact_steps': contacts,
            'steps_median': float(np.median([episode.steps for episode in episodes])),
            'failed_goals': [episode.goal[-1].tolist() for episode in episodes if not episode.success],
            'plan_excess': _largest(plans), 'motion_excess': _largest(motions), 'decisions': len(agent.decisions),
            'fallbacks': len(notes), 'braked': sum('braking' in note for note in notes),
            'wall_ms': _percentiles(wall_ms), 'cpu_ms': _percentiles(1e3 * np.array(agent.cpu_s))}


def _plan_excesses(agent: WatchedAgent, episode: Episode, check: functools.partial) -> list[dict[str, float]]:
    """Excess of each plan of the newest episode."""
    newest = agent.decisions[-len(episode.plan_s):]
    before = [np.zeros_like(newest[0][0]), *(previous for previous, _ in newest[:-1])]
    return [check(decision.plan.mean_obs, np.concatenate([[earlier], [previous], decision.plan.actions]))
            for earlier, (previous, decision) in zip(before, newest)]


def _costs(benchmark: SolverBenchmark, loop: TaskLoop, model: AgentBundle, console: Console) -> dict[str, Any]:
    """Returns of the learned cost and of those set by hand, over the same goals in a world without boxes."""
    agent = loop.agent.with_bundle(model)
    loop.task.settle_s = _NEVER_S

    def returns(weights: CostWeights) -> np.ndarray:
        tried = agent.with_weights(weights)
        return np.array([loop.play(tried, seed=benchmark.seed, episode=index, stream=EVALUATION).episode_return
                         for index in range(benchmark.cost_goals)])

    learned = returns(agent.weights)
    by_hand = [returns(weights) for weights in track(HAND_SET, description='costs set by hand', console=console, transient=True)]
    best = int(np.argmax([values.mean() for values in by_hand]))
    gain = learned - by_hand[best]
    return {'goals': benchmark.cost_goals, 'learned': vars(agent.weights), 'return_learned': float(learned.mean()),
            'best_by_hand': vars(HAND_SET[best]), 'return_best_by_hand': float(by_hand[best].mean()),
            'returns_by_hand': [float(values.mean()) for values in by_hand], 'gain': float(gain.mean()),
            'gain_error': float(gain.std(ddof=1) / np.sqrt(len(gain))), 'goals_won': int((gain > 0.0).sum())}


def _largest(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: max(values[name] for values in found) for name in found[0]}


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f'p{share}': float(np.percentile(values, share)) for share in (50, 99)}


def _boxes_in_words(boxes: dict[str, Any]) -> list[str]:
    beyond = {kind: ', '.join(f'{name} by {value:.2g}' for name, value in boxes[f'{kind}_excess'].items() if value > _ROUNDING)
              for kind in ('plan', 'motion')}
    return [f'among boxes: {boxes["successes"]} of {boxes["goals"]} goals reached, median {boxes["steps_median"]:.0f} steps, '
            f'{boxes["contact_steps"]} physics steps in contact',
            *(f'limits exceeded in {kind}: {beyond[kind] or "none"}' for kind in beyond),
            f'{boxes["fallbacks"]} of {boxes["decisions"]} decisions fell back, {boxes["braked"]} of them on braking',
            'a decision: ' + ', '.join(f'{boxes[f"{kind}_ms"][share]:.1f} ms {kind} {share}'
                                       for kind in ('wall', 'cpu') for share in ('p50', 'p99'))]


def _costs_in_words(costs: dict[str, Any]) -> list[str]:
    return [f'return of the learned cost {costs["return_learned"]:.2f}, of the best of {len(HAND_SET)} set by hand '
            f'{costs["return_best_by_hand"]:.2f}: {costs["gain"]:+.2f} ± {costs["gain_error"]:.2f}, better at '
            f'{costs["goals_won"]} of {costs["goals"]} goals']
