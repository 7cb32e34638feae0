"""The same ensemble without any of this project's planning: what a peer is given as its dynamics, and a bare CEM loop.

Plain batched torch, as short as it gets, so that a peer's time is its own and the network's.
"""

import numpy as np
import torch
from torch.nn import functional

from mbrl_ros.models.ensemble.parameters import DynamicsParameters


class PlainEnsemble:
    """Samples next observations, each row from a member drawn at random in equal shares (TS1).

    Args:
        parameters: Weights; their normalisers and linear part are taken to be identities and zero.
        device: Where it samples.
        dtype: Of the network's products and activations.
    """

    def __init__(self, parameters: DynamicsParameters, device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float32,
                 ) -> None:
        network = parameters.ensemble().to(device)
        self._layers = [(bias.detach().to(dtype), weight.detach().to(dtype))
                        for bias, weight in zip(network.biases, network.weights)]
        self._max_logvar, self._min_logvar = network.max_logvar.detach(), network.min_logvar.detach()
        self.device, self._dtype = torch.device(device), dtype
        self.members, self.obs_size, self.action_size = parameters.sizes
        self.rows = 0

    def moments(self, obs: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the next observation, each (E, B, O), of obs (E, B, O) and action (E, B, A)."""
        hidden = torch.cat([obs, action], dim=-1).to(self._dtype)
        for bias, weight in self._layers[:-1]:
            hidden = functional.silu(torch.baddbmm(bias, hidden, weight), inplace=True)
        bias, weight = self._layers[-1]
        mean, logvar = torch.baddbmm(bias, hidden, weight).float().split(self.obs_size, dim=-1)
        logvar = self._max_logvar - functional.softplus(self._max_logvar - logvar)
        return obs + mean, self._min_logvar + functional.softplus(logvar - self._min_logvar)

    @torch.no_grad()
    def sample(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Next observations, shapes (B, O) and (B, A) to (B, O); B is a multiple of E."""
        self.rows += len(obs)
        order = torch.randperm(len(obs), device=self.device)
        shape = (self.members, len(obs) // self.members, -1)
        mean, logvar = self.moments(obs[order].view(shape), action[order].view(shape))
        sampled = torch.addcmul(mean, torch.exp(0.5 * logvar), torch.randn_like(mean))
        following = torch.empty_like(obs)
        following[order] = sampled.view(obs.shape)
        return following


class BareCem:
    """CEM in a dozen lines: no warm start, no bounds but clipping, nothing reported.

    Args:
        ensemble: Samples next observations.
        reward: Of steps.
        horizon: H.
        population: N.
        particles: P.
        iterations: Iterations of a plan.
        elites: K.
    """

    def __init__(self, ensemble: PlainEnsemble, reward, *, horizon: int, population: int, particles: int, iterations: int,
                 elites: int) -> None:
        self._ensemble, self._reward = ensemble, reward
        self._horizon, self._population, self._particles = horizon, population, particles
        self._iterations, self._elites = iterations, elites

    @torch.no_grad()
    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """First action for an observation (O,), shape (A,)."""
        device = self._ensemble.device
        mean = torch.zeros(self._horizon, self._ensemble.action_size, device=device)
        std = torch.full_like(mean, 0.5)
        start = torch.as_tensor(obs, dtype=torch.float32, device=device).expand(self._population * self._particles, -1)
        for _ in range(self._iterations):
            actions = torch.addcmul(mean, std, torch.randn(self._population, *mean.shape, device=device)).clamp_(-1.0, 1.0)
            current, returns = start.contiguous(), torch.zeros(len(start), device=device)
            for step in range(self._horizon):
                action = actions[:, step].repeat_interleave(self._particles, dim=0)
                current = self._ensemble.sample(current, action)
                returns += self._reward(current, action)
            best = actions[returns.view(self._population, self._particles).mean(dim=1).topk(self._elites).indices]
            mean, std = best.mean(dim=0), best.std(dim=0)
        return mean[0].cpu().numpy()
