"""Any environment becomes vectors, what does not fit is refused, and reward and end are learned beside the observation."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from mbrl_ros.environments.actions import BoxActions
from mbrl_ros.environments.adapter import FlatEnvironment, file_name
from mbrl_ros.environments.rewards import KNOWN, load_reward
from mbrl_ros.errors import ConfigError
from mbrl_ros.spaces.outcome import OVER, GivenReward, OutcomeFrame, learned_reward

OBS_SIZE = 3
FRAME = OutcomeFrame(OBS_SIZE)


def paid_for_nothing(obs, action):
    return obs[..., 0] + 10.0 * action[..., 0]


def paid_as_a_column(obs, action):
    return obs[..., :1]


def observations(count, ended=0.0, seed=0):
    """(o, reward, ended), shape (count, 5)."""
    values = torch.randn(count, OBS_SIZE + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([values, torch.full((count, 1), ended, dtype=torch.float64)], dim=-1)


@pytest.fixture
def slider():
    env = FlatEnvironment('tiny_environments:tiny/Slider-v0')
    yield env
    env.close()


@pytest.fixture
def parts():
    env = FlatEnvironment('tiny_environments:tiny/Parts-v0')
    yield env
    env.close()


def test_actions_are_mapped_onto_the_bounds(slider):
    start = slider.reset(0)
    moved = [slider.step(np.array([action]))[0] for action in (-1.0, 0.0, 1.0, 7.0)]
    np.testing.assert_allclose(np.diff([start, *moved], axis=0).ravel(), [-0.5, 0.0, 0.5, 0.5], atol=1e-6)
    assert (slider.max_steps, slider.period_s, slider.tells_success) == (12, 0.1, True)


def test_actions_have_the_shape_and_type_of_the_space(parts):
    parts.reset(0)
    parts.step(np.array([-1.0, 0.5]))
    told = parts._env._env.unwrapped.told
    assert (told.shape, told.dtype, told.tolist()) == ((1, 2), np.float64, [[-1.0, 7.5]])


def test_observations_in_parts_are_one_vector_whose_entries_are_named_in_order(parts):
    assert parts.obs_names == ('obs.about.mark[0]', 'obs.where[0]', 'obs.where[1]')
    obs = parts.reset(0)
    assert (obs.shape, obs.dtype) == ((3,), np.float64)
    np.testing.assert_allclose([obs[0], obs[2]], [0.6, 2.0 * obs[1]], rtol=1e-6)


def test_the_same_seed_begins_the_same_episode(slider):
    first, other, again = (slider.reset(seed) for seed in (1, 2, 1))
    assert first == again != other


@pytest.mark.parametrize(('env_id', 'text'), [
    ('Pendulm-v1', 'Did you mean: `Pendulum`'),
    ('Pendulum-v77', 'v77'),
    ('tiny_environments:tiny/Textual-v0', r'has actions Text.*; what can be planned is Box of float32 or float64, Disc'),
    ('tiny_environments:tiny/Unbounded-v0', 'not all of them bounded; what can be planned has finite bounds'),
    ('tiny_environments:tiny/Pixels-v0', 'has observations .*uint8.*; what can be learned is Box of float32 or float64'),
    ('no_such_module:Some-v0', 'no_such_module'),
])
def test_what_cannot_be_learned_is_refused_by_name(env_id, text):
    with pytest.raises(ConfigError, match=text) as refusal:
        FlatEnvironment(env_id)
    assert '\n' not in str(refusal.value)


def test_what_is_not_installed_is_said_to_be_missing(monkeypatch):
    def make(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled('MuJoCo is not installed, run `pip install "gymnasium[mujoco]"`')

    gymnasium.register('tiny/Missing-v0', make)
    try:
        with pytest.raises(ConfigError, match='tiny/Missing-v0 needs what is not installed: MuJoCo is not installed, run'):
            FlatEnvironment('tiny/Missing-v0')
    finally:
        del gymnasium.registry['tiny/Missing-v0']


def test_a_reward_that_is_not_finite_is_an_error_that_names_the_environment():
    with pytest.raises(ConfigError, match='tiny/Broken-v0 gave the reward nan, which is not finite'):
        FlatEnvironment('tiny_environments:tiny/Broken-v0')


def test_an_environment_without_pictures_says_so(parts):
    parts.reset(0)
    with pytest.raises(ConfigError, match='cannot be pictured'):
        parts.picture()


@pytest.mark.parametrize(('env_id', 'name'), [('Pendulum-v1', 'Pendulum-v1'), ('mbrl_sim:sim/Reach-v0', 'sim-Reach-v0')])
def test_names_of_environments_are_names_of_files(env_id, name):
    assert file_name(env_id) == name


def test_outcomes_are_hidden_from_the_inputs():
    obs, action = observations(4), torch.ones(4, 2)
    features, inner_action = FRAME.encode(obs, action)
    assert torch.equal(features[:, :OBS_SIZE], obs[:, :OBS_SIZE])
    assert not features[:, OBS_SIZE:].any()
    assert inner_action is action


def test_outcomes_are_predicted_themselves_and_observations_by_their_change():
    obs, next_obs = observations(4), observations(4, ended=1.0, seed=1)
    change = FRAME.change(obs, next_obs)
    assert torch.equal(change[:, :OBS_SIZE], next_obs[:, :OBS_SIZE] - obs[:, :OBS_SIZE])
    assert torch.equal(change[:, OBS_SIZE:], next_obs[:, OBS_SIZE:])


@pytest.mark.parametrize('ended', [0.0, 1.0])
def test_moved_is_the_inverse_of_change(ended):
    obs, next_obs = observations(6), observations(6, ended, seed=1)
    torch.testing.assert_close(FRAME.moved(obs, FRAME.change(obs, next_obs)), next_obs)
    change = FRAME.change(obs, next_obs)
    torch.testing.assert_close(FRAME.change(obs, FRAME.moved(obs, change)), change)


def test_nothing_is_earned_after_an_end():
    ends, goes_on = observations(2, ended=1.0), observations(2)
    change = torch.tensor([0.0, 0.0, 0.0, 5.0, 0.0], dtype=torch.float64).expand(2, -1)
    assert learned_reward(FRAME.moved(goes_on, change), None).tolist() == [5.0, 5.0]
    after = FRAME.moved(ends, change)
    assert after[:, -1].tolist() == [OVER, OVER]
    assert learned_reward(after, None).tolist() == [0.0, 0.0]
    assert FRAME.moved(after, change)[:, -1].tolist() == [OVER, OVER]
    given = GivenReward(paid_for_nothing, lambda action: 0.5 * (action + 1.0))
    assert given(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, OVER]]), torch.zeros(3, 1)).tolist() == [6.0, 6.0, 0.0]


def test_a_given_reward_sees_actions_in_the_environments_units_and_in_the_shape_of_observations():
    def of_both(obs, action):
        return torch.cat([obs, action], dim=-1).sum(dim=-1)

    given = GivenReward(of_both, BoxActions(Box(-1.0, 3.0, (1,))).units)
    reward = given(torch.zeros(7, 5, 2, 4), torch.ones(7, 1, 2, 1))
    assert reward.shape == (7, 5, 2)
    assert (reward == 3.0).all()


@pytest.mark.parametrize(('env_id', 'tolerance'), [('Pendulum-v1', 2e-5), ('Pusher-v5', 1e-6), ('Reacher-v5', 1e-6)])
def test_a_built_in_reward_is_the_environments_own(env_id, tolerance):
    rewards, predicted, obs = played(env_id)
    # Where the speed limit cut in, the state before the step is unknown.
    exact = np.abs(obs[:, 2]) < 8.0 if env_id == 'Pendulum-v1' else np.ones(len(obs), dtype=bool)
    assert exact.sum() > 200
    np.testing.assert_allclose(predicted[exact], rewards[exact], atol=tolerance)


def test_the_built_in_reward_of_the_cheetah_is_near_the_environments_own():
    rewards, predicted, _ = played('HalfCheetah-v5')
    assert np.corrcoef(rewards, predicted)[0, 1] > 0.8


def played(env_id, steps=300):
    """Rewards, those that are built in, and next observations of random transitions."""
    if env_id != 'Pendulum-v1':
        pytest.importorskip('mujoco', reason='MuJoCo is not installed')
    env, rng = FlatEnvironment(env_id), np.random.default_rng(0)
    rewards, actions, observations = [], [], []
    env.reset(0)
    for step in range(steps):
        actions.append(rng.uniform(-1.0, 1.0, env.actions.size))
        obs, reward, _, truncated, _ = env.step(actions[-1])
        rewards.append(reward)
        observations.append(obs)
        if truncated:
            env.reset(step)
    env.close()
    obs, action = np.array(observations), env.actions.units(torch.from_numpy(np.array(actions)))
    return np.array(rewards), KNOWN[env_id](torch.from_numpy(obs), action).numpy(), obs


def test_a_reward_is_found_by_module_and_function():
    assert load_reward(f'{__name__}:paid_for_nothing', 3, 1) is paid_for_nothing


def test_environments_and_rewards_of_the_working_directory_are_found(tmp_path, monkeypatch):
    (tmp_path / 'lying_here.py').write_text(
        'import gymnasium\nimport tiny_environments\n'
        'gymnasium.register("tiny/Here-v0", tiny_environments.Slider, max_episode_steps=3)\n'
        'def reward(obs, action):\n    return obs[..., 0]\n')
    monkeypatch.chdir(tmp_path)
    assert load_reward('lying_here:reward', 1, 1)
    FlatEnvironment('lying_here:tiny/Here-v0').close()


def test_a_reward_whose_module_breaks_is_one_line(tmp_path, monkeypatch):
    (tmp_path / 'breaking_here.py').write_text('raise RuntimeError("no display\\nat all")\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^reward 'breaking_here:reward' cannot be had \(RuntimeError: no display\)$"):
        load_reward('breaking_here:reward', 1, 1)


@pytest.mark.parametrize(('name', 'text'), [
    ('paid', 'a reward needs the form module:function'), ('no_such_module:f', "reward 'no_such_module:f' cannot be had"),
    (f'{__name__}:no_such_function', 'cannot be had'),
    (f'{__name__}:paid_as_a_column', r'needs to return a float tensor of shape \(2,\).*, got torch.float32 of shape \(2, 1\)'),
    (f'{__name__}:observations', 'fails on observations'),
])
def test_what_is_no_reward_is_refused(name, text):
    with pytest.raises(ConfigError, match=text):
        load_reward(name, 3, 1)
