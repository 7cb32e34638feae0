"""How fast agents with tables learn: what their greedy ways are worth after so many episodes, over many seeds."""

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from mbrl_ros.agents.agent import Agent
from mbrl_ros.benchmarks.figures import write_figures
from mbrl_ros.config import suggestion
from mbrl_ros.environments.actions import Choices
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.environments.mazes import Maze
from mbrl_ros.errors import ConfigError
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun
from mbrl_ros.runs.outputs import require_writable
from mbrl_sim.reach_grid import distances

#: Begins an episode somewhere and returns the first observation, and the most steps that the way from there may have.
Start = tuple[Callable[[gymnasium.Env], Any], int]
_ENDLESS = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class Study:
    """Learning in an environment that stays as it is.

    Attributes:
        env_id: As for `gymnasium.make`.
        planning_steps: Those of Dyna-Q that are compared.
        episodes: Numbers of episodes after which greedy ways are looked at.
        starts: All starts of the environment.
        asked: What is asked of ways, in words.
        changes: Changes of single settings, as `--set` takes them.
    """

    env_id: str
    planning_steps: Sequence[int]
    episodes: Sequence[int]
    starts: Callable[[gymnasium.Env], list[Start]]
    asked: str
    changes: tuple[str, ...] = ()

    def run(self, seed: int) -> Iterator[dict[str, Any]]:
        """Figures of each number of planning steps."""
        with contextlib.closing(gymnasium.make(self.env_id, disable_env_checker=True)) as env:
            starts = self.starts(env)
            for planning_steps in self.planning_steps:
                changes, steps, shares = (*self.changes, f'learner.planning_steps={planning_steps}'), [], []
                made = learned(self.env_id, 'dyna_q', changes, seed)
                for number, (count, agent) in enumerate(itertools.islice(made, max(self.episodes)), 1):
                    steps.append(count)
                    shares += [greedy_share(agent, env, starts)] if number in self.episodes else []
                made.close()
                yield {'of': f'{planning_steps} planning steps', 'shares': shares, 'steps': steps}

    def in_words(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Lines on the figures of all seeds."""
        yield f'share of starts with {self.asked}'
        for name, of in _grouped(rows):
            shares, steps = np.array([row['shares'] for row in of]), np.mean([row['steps'] for row in of], axis=0)
            for at, episode in enumerate(self.episodes):
                yield (f'  {name}, episode {episode}: mean {shares[:, at].mean():.3f}, lowest {shares[:, at].min():.3f}; '
                       f'steps of this episode {steps[episode - 1]:.1f}')


@dataclasses.dataclass(frozen=True)
class ChangeStudy:
    """Learning in a maze that changes.

    Attributes:
        env_id: As for `gymnasium.make`.
        steps: Steps of a run.
        maze: Name in `MAPS` of what the maze becomes.
        shortest: Steps of the shortest way through it.
    """

    env_id: str
    steps: int
    maze: str
    shortest: int

    def run(self, seed: int) -> Iterator[dict[str, Any]]:
        """Figures of Dyna-Q and Dyna-Q+."""
        for name in ('dyna_q', 'dyna_q_plus'):
            total, rewards, agent = 0, 0, None
            made = learned(self.env_id, name, (f'max_episode_steps={self.steps}',), seed)
            for count, newest in made:
                total += count
                if total > self.steps:
                    break
                rewards, agent = rewards + 1, newest
            made.close()
            share = greedy_share(agent, Maze(self.maze), [(_reset, self.shortest)])
            yield {'of': name, 'rewards': rewards, 'finds': share}

    def in_words(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Lines on the figures of all seeds."""
        for name, of in _grouped(rows):
            rewards = [row['rewards'] for row in of]
            yield (f'  {name}: {np.mean(rewards):.1f} rewards in {self.steps} steps ({min(rewards)} to {max(rewards)}); '
                   f'{sum(row["finds"] for row in of):.0f} of {len(of)} go the shortest way in the end, {self.shortest} steps')


def run_tabular_benchmark(names: Sequence[str], *, seeds: Sequence[int], json_path: Path | None) -> None:
    """Run studies with some seeds, print their figures, and write all of them as JSON if a path is given.

    Raises:
        ConfigError: There is no such study, or the file cannot be written.
    """
    if unknown := [name for name in names if name not in STUDIES]:
        raise ConfigError(f'there is no study {unknown[0]!r}{suggestion(unknown[0], STUDIES)}')
    require_writable(json_path)
    figures = {}
    for name in names or STUDIES:
        study = STUDIES[name]
        figures[name] = [{'seed': seed, **row} for seed in seeds for row in study.run(seed)]
        print(f'{name} ({study.env_id}), seeds {seeds[0]} to {seeds[-1]}', *study.in_words(figures[name]), sep='\n', flush=True)
    if json_path is not None:
        write_figures(json_path, figures)


def learned(env_id: str, agent: str, changes: Sequence[str], seed: int) -> Iterator[tuple[int, Agent]]:
    """Steps of each learning episode, and the agent with what was learned so far, without exploration."""
    config = EnvLoopConfig.of_env(env_id, changes=changes, agent=agent, has_goals=False)
    with contextlib.closing(EnvLoop(FlatEnvironment(env_id), config)) as loop, tempfile.TemporaryDirectory() as folder:
        run = LearningRun(loop, seed=seed, folder=Path(folder))
        greedy = config.kind.make_agent(loop.contract, loop.space, config.agent_config.evaluated().acting())
        for done in run.episodes(_ENDLESS):
            yield done.episode.steps, greedy.with_bundle(run.rounds.current)


def greedy_share(agent: Agent, env: gymnasium.Env, starts: Sequence[Start]) -> float:
    """Share of starts from which an agent ends the episode within the steps that the way may have."""
    return float(np.mean([_is_within(agent, env, *start) for start in starts]))


def _is_within(agent: Agent, env: gymnasium.Env, begin: Callable[[gymnasium.Env], Any], most: int) -> bool:
    obs, actions, memory = begin(env), Choices(env.action_space), agent.reset(0)
    for _ in range(most):
        decision = agent.act(np.ravel(obs), None, memory, objective=None, previous_action=np.zeros(actions.size))
        obs, _, terminated, _, _ = env.step(actions.of_agent(decision.action))
        if terminated:
            return True
    return False


def _grouped(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Rows by what they are of, in order."""
    for name in dict.fromkeys(row['of'] for row in rows):
        yield name, [row for row in rows if row['of'] == name]


def _reset(env: gymnasium.Env) -> Any:
    return env.reset(seed=0)[0]


def _of_taxi(env: gymnasium.Env) -> list[Start]:
    """Every place of taxi and passenger, and every destination, that an episode may begin with."""
    def at(state: int) -> Callable[[gymnasium.Env], int]:
        def begin(env: gymnasium.Env) -> int:
            env.reset(seed=0)
            env.unwrapped.s = state
            return state
        return begin
    return [(at(int(state)), env.spec.max_episode_steps) for state in np.flatnonzero(env.unwrapped.initial_state_distrib)]


def _of_grid(env: gymnasium.Env) -> list[Start]:
    """Every cell with every goal; a way may have no more steps than the shortest one."""
    def at(tool: tuple[int, int], goal: tuple[int, int]) -> Callable[[gymnasium.Env], np.ndarray]:
        return lambda env: env.reset(seed=0, options={'tool': tool, 'goal': goal})[0]
    steps_to = {goal: distances(env.unwrapped.free, goal) for goal in env.unwrapped.goals}
    return [(at(cell, goal), int(steps[cell])) for goal, steps in steps_to.items()
            for cell in map(tuple, np.argwhere(steps > 0).tolist())]


_MAZE = 'at most 16 steps, two above the shortest way'
#: By name; `book` has the settings of figure 8.2 of Sutton and Barto (2018).
STUDIES: dict[str, Study | ChangeStudy] = {
    'maze': Study('mbrl_ros/DynaMaze-v0', (50,), (1, 2, 3), lambda _: [(_reset, 16)], _MAZE),
    'book': Study('mbrl_ros/DynaMaze-v0', (0, 5, 50), (1, 2, 3, 5, 10, 20, 50), lambda _: [(_reset, 16)], _MAZE,
                  ('learner.learning_rate=0.1', 'learner.initial_value=0.0')),
    'cliff': Study('CliffWalking-v1', (5, 50), (1, 2, 3, 4, 5, 10, 15, 20), lambda _: [(_reset, 13)],
                   '13 steps, the shortest way'),
    'taxi': Study('Taxi-v4', (5, 50), range(10, 71, 10), _of_taxi, 'the passenger delivered within 200 steps'),
    'grid': Study('mbrl_sim:mbrl_sim/ReachGrid-v0', (5, 50), range(10, 61, 10), _of_grid, 'the shortest way'),
    'blocking': ChangeStudy('mbrl_ros/BlockingMaze-v0', 3000, 'left_open', 16),
    'shortcut': ChangeStudy('mbrl_ros/ShortcutMaze-v0', 6000, 'both_open', 10),
}
