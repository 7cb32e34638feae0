"""A cart-pole that hangs and has to be swung up, as a Gymnasium environment: `gymnasium.make('swing_up:bench/SwingUp-v0')`."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

_PERIOD_S, _SUBSTEPS = 0.05, 5
_CART_KG, _POLE_KG, _LENGTH_M, _FRICTION, _GRAVITY = 0.5, 0.5, 0.6, 0.1, 9.82
_FORCE_N = 10.0


class SwingUp(gymnasium.Env):
    """The cart-pole of Deisenroth and Rasmussen (PILCO, 2011): a cart, a thin rod of 0.6 m that hangs, a force of up to 10 N.

    The observation is (position, velocity, cosine, sine, angular velocity), the angle being 0 where the rod stands, shape (5,).
    The action is the force in units of 10 N, shape (1,). There is no end but the time limit of 100 steps of 0.05 s.
    """

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (5,), np.float64)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.dt = _PERIOD_S

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """The rod hangs, about still."""
        super().reset(seed=seed)
        self._state = np.array([0.0, 0.0, np.pi, 0.0]) + self.np_random.normal(0.0, 0.05, 4)
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Push for one period."""
        force = _FORCE_N * float(np.clip(action[0], -1.0, 1.0))
        for _ in range(_SUBSTEPS):
            self._state = _runge_kutta(self._state, force, _PERIOD_S / _SUBSTEPS)
        obs = self._obs()
        paid = reward(torch.from_numpy(obs), torch.as_tensor(action, dtype=torch.float64))
        return obs, float(paid), False, False, {}

    def _obs(self) -> np.ndarray:
        x, v, angle, turning = self._state
        return np.array([x, v, np.cos(angle), np.sin(angle), turning])


def reward(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """1 where the rod's tip is straight above the origin, falling off over a rod's length, less 0.01 of the action squared."""
    tip_x, tip_y = obs[..., 0] - _LENGTH_M * obs[..., 3], _LENGTH_M * obs[..., 2]
    squared = tip_x.square() + (tip_y - _LENGTH_M).square()
    return torch.exp(-squared / _LENGTH_M**2) - 0.01 * action.square().sum(dim=-1)


def _runge_kutta(state: np.ndarray, force: float, period_s: float) -> np.ndarray:
    """One step of the classical method of fourth order."""
    first = _change(state, force)
    second = _change(state + 0.5 * period_s * first, force)
    third = _change(state + 0.5 * period_s * second, force)
    fourth = _change(state + period_s * third, force)
    return state + period_s / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)


def _change(state: np.ndarray, force: float) -> np.ndarray:
    """Time derivative of (position, velocity, angle from upright, angular velocity)."""
    _, v, angle, turning = state
    sin, cos = np.sin(angle), np.cos(angle)
    # A rod's moment about its pivot is m l² / 3; with q = (x, angle) these are the two equations of motion, solved.
    pushed = force - _FRICTION * v
    mass = np.array([[_CART_KG + _POLE_KG, -0.5 * _POLE_KG * _LENGTH_M * cos],
                     [-0.5 * _POLE_KG * _LENGTH_M * cos, _POLE_KG * _LENGTH_M**2 / 3.0]])
    forces = np.array([pushed - 0.5 * _POLE_KG * _LENGTH_M * turning**2 * sin, 0.5 * _POLE_KG * _GRAVITY * _LENGTH_M * sin])
    acceleration, angular = np.linalg.solve(mass, forces)
    return np.array([v, acceleration, turning, angular])


gymnasium.register('bench/SwingUp-v0', SwingUp, max_episode_steps=100)
