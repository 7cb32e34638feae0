"""Dynamics models with known answers, for planning without a learned model and for tests of planners."""

import dataclasses

import numpy as np
import torch


@dataclasses.dataclass(frozen=True)
class VelocityArm:
    """An arm that reaches any commanded velocity at once: q' = q + dt v u, qd' = v u, without uncertainty.

    Attributes:
        max_velocity: Shape (J,), rad/s; the scale v of the normalised action u.
        period_s: Control period dt.
        ensemble_size: E, number of equal members.
    """

    max_velocity: torch.Tensor
    period_s: float
    ensemble_size: int = 1

    @classmethod
    def of_robot(cls, robot, period_s: float, ensemble_size: int = 1) -> 'VelocityArm':
        """Ideal arm of a `RobotProfile`."""
        return cls(torch.tensor(robot.max_velocity_rad_s), period_s, ensemble_size)

    @property
    def obs_size(self) -> int:
        """O = 2 J."""
        return 2 * len(self.max_velocity)

    @property
    def action_size(self) -> int:
        """A = J."""
        return len(self.max_velocity)

    @property
    def output_scale(self) -> torch.Tensor:
        """Largest change of each entry in one period, shape (O,)."""
        return torch.cat([self.period_s * self.max_velocity, self.max_velocity])

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Next observation, exactly; see `DynamicsModel.predict`."""
        velocity = action * self.max_velocity
        position = obs[..., :self.action_size] + self.period_s * velocity
        return torch.cat([position, velocity], dim=-1), torch.zeros_like(obs)

    def step(self, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Next observation of one arm, shapes (O,), (A,) -> (O,), float64."""
        velocity = np.asarray(action) * self.max_velocity.double().cpu().numpy()
        return np.concatenate([obs[:self.action_size] + self.period_s * velocity, velocity])


@dataclasses.dataclass(frozen=True)
class LinearModel:
    """obs' = A obs + B action, with a constant standard deviation.

    Attributes:
        transition: A, shape (O, O).
        control: B, shape (O, A).
        std: Standard deviation of each prediction.
        ensemble_size: E, number of equal members.
    """

    transition: torch.Tensor
    control: torch.Tensor
    std: float = 0.0
    ensemble_size: int = 1

    @property
    def obs_size(self) -> int:
        """O."""
        return self.transition.shape[0]

    @property
    def action_size(self) -> int:
        """A."""
        return self.control.shape[1]

    @property
    def output_scale(self) -> torch.Tensor:
        """Ones, shape (O,)."""
        return torch.ones(self.obs_size, device=self.transition.device)

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Next observation; see `DynamicsModel.predict`."""
        mean = obs @ self.transition.T + action @ self.control.T
        return mean, torch.full_like(mean, self.std)


@dataclasses.dataclass(frozen=True)
class NamingModel:
    """A model whose prediction names the member: obs' = 10 obs + member index + 1, so the digits list the members in order.

    Attributes:
        ensemble_size: E, at most 9.
        obs_size: O.
        action_size: A.
        device: Device of the predictions.
    """

    ensemble_size: int
    obs_size: int = 1
    action_size: int = 1
    device: torch.device | str = 'cpu'

    @property
    def output_scale(self) -> torch.Tensor:
        """One, shape (1,)."""
        return torch.ones(1, device=self.device)

    def predict(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Next observation; see `DynamicsModel.predict`."""
        members = torch.arange(1.0, self.ensemble_size + 1.0, device=obs.device).view(-1, 1, 1)
        return 10.0 * obs + members, torch.zeros_like(obs)
