"""Reward functions of Gymnasium environments, to give a reward instead of learning it.

Each takes next observations, shape (..., O), and actions in the environment's units, shape (..., A), and returns rewards (...).
"""

import torch

from mbrl_ros.environments.functions import imported, tried
from mbrl_ros.spaces.outcome import RewardFunction

_TURN = 2.0 * torch.pi


def pendulum(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """`Pendulum-v1`, which rewards the state before the step; the function computes this state from the next one.

    Note:
        Exact unless the step reached the speed limit of 8 rad/s.
    """
    period, gravity, torque = 0.05, 15.0, action[..., 0].clamp(-2.0, 2.0)
    angle = torch.atan2(obs[..., 1], obs[..., 0]) - period * obs[..., 2]
    speed = obs[..., 2] - period * (gravity * torch.sin(angle) + 3.0 * torque)
    angle = torch.remainder(angle + torch.pi, _TURN) - torch.pi
    return -(angle.square() + 0.1 * speed.square() + 0.001 * torque.square())


def pusher(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """`Pusher-v5`, exact: the object's distance from the goal, half its distance from the arm's tip, and control."""
    tip, thing, goal = obs[..., 14:17], obs[..., 17:20], obs[..., 20:23]
    near, far = torch.linalg.vector_norm(thing - tip, dim=-1), torch.linalg.vector_norm(thing - goal, dim=-1)
    return -far - 0.5 * near - 0.1 * action.square().sum(dim=-1)


def reacher(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """`Reacher-v5`, exact: the fingertip's distance from the target, and control."""
    return -torch.linalg.vector_norm(obs[..., 8:10], dim=-1) - action.square().sum(dim=-1)


def half_cheetah(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """`HalfCheetah-v5`: forward speed, and control.

    Note:
        Not exact: the environment rewards the mean speed over the step, but the observation has the speed at its end.
    """
    return obs[..., 8] - 0.1 * action.square().sum(dim=-1)


#: Reward functions by environment.
KNOWN: dict[str, RewardFunction] = {
    'Pendulum-v1': pendulum, 'Pusher-v5': pusher, 'Reacher-v5': reacher, 'HalfCheetah-v5': half_cheetah,
}


def load_reward(name: str, obs_size: int, action_size: int) -> RewardFunction:
    """Import the reward that `name`, a `module:function`, names, also from the working directory, and try it.

    Raises:
        ConfigError: There is no such function, or it does not return rewards (B,) for observations (B, O) and actions (B, A).
    """
    function = imported('reward', name)
    tried(f'reward {name!r}', lambda: function(torch.zeros(2, obs_size), torch.zeros(2, action_size)), (2,),
          f'observations (2, {obs_size}) and actions (2, {action_size})')
    return function
