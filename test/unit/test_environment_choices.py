"""Observations that are choices: their numbers, demonstrations of them, and what is said of those that do not fit."""

import contextlib
import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from typer.testing import CliRunner

from mbrl_ros.cli.main import app
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.errors import ConfigError, DemonstrationError, MeasurementError
from mbrl_ros.runs.env_demonstrations import load_env_demonstrations
from mbrl_ros.runs.env_loop import EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.learning_run import LearningRun

CLIFF, HERE = 'CliffWalking-v1', 'test_environment_choices'


class Door(gymnasium.Env):
    """Shows what it is told to; a step to the right, action 2, opens it and earns 1."""

    def __init__(self, space, shown, actions=None):
        self.observation_space, self.action_space, self.shown = space, actions or Discrete(2, start=1), iter(shown)

    def reset(self, *, seed=None, options=None):
        return next(self.shown), {}

    def step(self, action):
        is_open = bool(np.all(action == 2))
        return next(self.shown), float(is_open), is_open, False, {}


LEVERS = itertools.repeat(np.array([[0, 2], [1, 1]]))
for name, arguments in (
        ('Numbered', (Discrete(3, start=-1), itertools.repeat(-1))), ('Beyond', (Discrete(3), [0, 1, 7, 0])),
        ('Half', (Discrete(3), itertools.repeat(0.5))), ('Levers', (MultiDiscrete([[2, 3], [2, 2]]), LEVERS)),
        ('Switches', (MultiBinary(2), itertools.repeat(np.array([0, 1], dtype=np.int8)))),
        ('Pushed', (Discrete(3), itertools.repeat(0), Box(-1.0, 1.0, (1,))))):
    gymnasium.register(f'door/{name}-v0', Door, max_episode_steps=3, kwargs=dict(zip(('space', 'shown', 'actions'), arguments)))


@pytest.mark.parametrize(('name', 'obs', 'num_states', 'state'), [
    ('Numbered', [-1.0], 3, 0), ('Levers', [0.0, 2.0, 1.0, 1.0], 24, 11), ('Switches', [0.0, 1.0], 4, 1)])
def test_observations_are_their_chosen_options_and_have_numbers(name, obs, num_states, state):
    with contextlib.closing(FlatEnvironment(f'{HERE}:door/{name}-v0')) as env:
        assert env.reset(0).tolist() == obs and len(env.obs_names) == len(obs)
        assert (env.numbering.num_states, env.numbering.num_actions) == (num_states, 2)
        assert env.numbering.states(np.array([[*obs, 9.0]])).tolist() == [state]
        assert env.step(env.numbering.action(1)).terminated and not env.is_goal.any()


def test_choices_with_real_actions_have_no_numbers():
    with contextlib.closing(FlatEnvironment(f'{HERE}:door/Pushed-v0')) as env:
        assert env.numbering is None
    with pytest.raises(ConfigError, match="agent 'dyna_q' has a table .* those of .*Pushed-v0 are not"):
        EnvLoop(FlatEnvironment(f'{HERE}:door/Pushed-v0'),
                EnvLoopConfig.of_env('door/Pushed-v0', agent='dyna_q', has_goals=False))


def test_an_observation_that_is_no_option_is_named():
    with pytest.raises(ConfigError, match=r'Half-v0 gave an observation that does not fit .*obs.0. is 0.5, which is no whole'):
        FlatEnvironment(f'{HERE}:door/Half-v0')
    with contextlib.closing(FlatEnvironment(f'{HERE}:door/Beyond-v0')) as env, \
            pytest.raises(MeasurementError, match=r'does not fit its space Discrete\(3\): obs.0. is 7, 5 beyond the bound 2'):
        env.reset(0)


def shown_way(path, *, last_state=47):
    """Two episodes along the edge of the cliff."""
    states = [36, *range(24, 36), last_state]
    rows = {'observations': states[:-1], 'next_observations': states[1:], 'actions': [0, *11 * [1], 2], 'rewards': 13 * [-1.0],
            'terminations': [*12 * [False], True], 'truncations': 13 * [False]}
    np.savez(path, **{name: np.array(2 * values) for name, values in rows.items()})
    return str(path)


@contextlib.contextmanager
def cliff():
    config = EnvLoopConfig.of_env(CLIFF, changes=['epsilon=0.0'], agent='dyna_q', has_goals=False)
    with contextlib.closing(EnvLoop(FlatEnvironment(CLIFF), config)) as loop:
        yield loop


def test_what_was_shown_is_known_before_the_first_step(tmp_path):
    with cliff() as loop:
        shown = load_env_demonstrations([shown_way(tmp_path / 'way.npz')], loop, seed=0)
        run = LearningRun(loop, seed=0, folder=tmp_path / 'run', shown=shown)
        [done] = itertools.islice(run.episodes(10**6), 1)
    assert run.board.scores[1].total_steps == 26
    # Planning has brought the last reward back to the start; untried actions still look better than a way of 13 steps.
    states = [int(state) for state in done.episode.obs[:, 0]]
    assert 36 in states and run.rounds.version == 1 + done.episode.steps


def test_a_recorded_observation_that_is_no_option_is_refused(tmp_path):
    with cliff() as loop, pytest.raises(DemonstrationError, match=r'in next_observations at step 12 obs.0. is 48, 1 beyond'):
        load_env_demonstrations([shown_way(tmp_path / 'way.npz', last_state=48)], loop, seed=0)


def test_a_table_is_learned_and_evaluated_by_commands(tmp_path):
    run = CliRunner()
    learned = run.invoke(app, ['learn', '--env', CLIFF, '--agent', 'dyna_q', '--steps', '600', '--out', str(tmp_path / 'run')])
    assert learned.exit_code == 0, learned.output
    evaluated = run.invoke(app, ['evaluate', '--model', str(tmp_path / 'run' / 'model.safetensors'), '--episodes', '3',
                                 '--workers', '1'])
    assert evaluated.exit_code == 0 and f'{CLIFF}: mean return -13.0 over 3 episodes' in evaluated.output
