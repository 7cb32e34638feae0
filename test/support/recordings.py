"""Policies of small environments, and recordings of them, as anybody would make who calls an environment."""

import gymnasium
import numpy as np

from support.asserts import some


def to_goal(obs):
    """Of a point, to its goal."""
    return np.clip(5.0 * (obs['desired_goal'] - obs['achieved_goal']), -1.0, 1.0).astype(np.float32)


def to_mark(obs):
    """Of a slider, to its mark."""
    return np.clip(1.0 + 4.0 * (0.6 - obs), -1.0, 3.0).astype(np.float32)


def recorded(env_id, act, seeds=range(3)):
    """Arrays, with a row for each step, of one episode a seed; `act` is given the environment's observation."""
    env, rows = gymnasium.make(env_id, disable_env_checker=True), []
    for seed in seeds:
        obs, ended = env.reset(seed=seed)[0], False
        while not ended:
            action = act(obs)
            next_obs, reward, terminated, truncated, info = env.step(action)
            rows.append({**_parts('observations', obs), 'actions': action, 'rewards': reward,
                         **_parts('next_observations', next_obs), 'terminations': terminated, 'truncations': truncated, **info})
            obs, ended = next_obs, terminated or truncated
    env.close()
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _parts(name, obs):
    """An observation, or its parts by name."""
    if not isinstance(obs, dict):
        return {name: obs}
    return {part: value for key, inner in obs.items() for part, value in _parts(f'{name}/{key}', inner).items()}


def saved(path, arrays, **changes):
    """A file of arrays, some of them changed, or left out where the change is None."""
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return path


def columns(episodes):
    """What is learned from: all columns of the transitions but times and numbers."""
    return [{name: values for name, values in one.transitions.columns().items() if name not in ('stamp_ns', 'episode')}
            for one in some(episodes)]
