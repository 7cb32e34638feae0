"""Trajectory sampling: possible futures of action sequences under an uncertain model, the same for all optimisers.

Implements the four ways of Chua et al. 2018 (arXiv:1805.12114, section 5): TS1, TS-infinity, expectation and moment matching.
"""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import torch

from mbrl_ros.errors import ShapeError
from mbrl_ros.types import DynamicsModel

PROPAGATIONS = ('ts1', 'tsinf', 'expectation', 'moment_matching')


@runtime_checkable
class TrajectoryModel(Protocol):
    """A `DynamicsModel` that can sample whole trajectories at once, faster than step by step."""

    def roll_out(self, obs: torch.Tensor, actions: torch.Tensor, members: torch.Tensor,
                 noise: torch.Tensor) -> torch.Tensor | None:
        """As `Predictor.roll_out`: NaN or infinity stays to the last step. None where single steps are needed."""


@dataclasses.dataclass(frozen=True)
class ParticleDraws:
    """All random numbers of a rollout, drawn beforehand and common to all candidates.

    With common random numbers two candidates differ by their actions only, so fewer particles rank them correctly, and returns
    of different iterations can be compared.

    Attributes:
        propagation: One of `PROPAGATIONS`.
        order: Row h lists the particles that members 0, 0, …, 1, 1, … predict at step h, shape (H, P).
        members: The member that predicts each particle at each step, shape (H, P), int32; the inverse of `order`.
        noise: Standard normal, for each particle at each step, shape (H, P, 1, O).
        recast: Noise that moment matching redraws the particles with, shape (H, P, 1, O); standard normal, then normalised over
            the particles to mean 0 and variance 1, so that the moments match exactly. None for other propagations.
        turns: Members 0, 0, …, 1, 1, … in the sequence that `order` uses, shape (H, P), int32; only for `draw`.
    """

    propagation: str
    order: torch.Tensor
    members: torch.Tensor
    noise: torch.Tensor
    recast: torch.Tensor | None = None
    turns: torch.Tensor | None = None

    @classmethod
    def undrawn(cls, model: DynamicsModel, horizon: int, num_particles: int, propagation: str,
                device: torch.device | str = 'cpu') -> 'ParticleDraws':
        """Buffers for the draws, with zeros for noise.

        Args:
            model: Its E and O are used.
            horizon: H.
            num_particles: P, rounded up to a multiple of E; ignored by expectation, which has one particle.
            propagation: `ts1` draws each particle's member anew at each step, `tsinf` once for all steps; `expectation` follows
                the ensemble's mean; `moment_matching` redraws all particles at each step, from the Gaussian with their moments.
            device: Device of the rollout.

        Note:
            Each member predicts exactly P / E particles at every step, in TS1 by a random permutation. The paper draws each
            particle's member independently, which has the same expectation and a higher variance.
        """
        members = model.ensemble_size
        count = 1 if propagation == 'expectation' else members * math.ceil(num_particles / members)
        order = torch.arange(count, device=device).repeat(horizon, 1)
        turns = (order * members // count).to(torch.int32)
        noise = torch.zeros((horizon, count, 1, model.obs_size), device=device)
        recast = torch.zeros_like(noise) if propagation == 'moment_matching' else None
        return cls(propagation, order, turns.clone(), noise, recast, turns)

    def draw(self, generator: torch.Generator) -> 'ParticleDraws':
        """Draw everything anew into the same tensors; returns itself."""
        if self.propagation == 'expectation':
            return self
        if self.propagation == 'ts1':
            keys = torch.rand(self.order.shape, generator=generator, device=generator.device)
            torch.sort(keys, dim=1, out=(torch.empty_like(keys), self.order))
            self.members.scatter_(1, self.order, self.turns)
        torch.randn(self.noise.shape, generator=generator, out=self.noise)
        if self.recast is not None:
            torch.randn(self.recast.shape, generator=generator, out=self.recast)
            self.recast.sub_(self.recast.mean(dim=1, keepdim=True))
            spread = self.recast.std(dim=1, correction=0, keepdim=True)
            self.recast.div_(spread.clamp_(min=torch.finfo(spread.dtype).tiny))
        return self


def rollout(model: DynamicsModel, obs: torch.Tensor, actions: torch.Tensor, draws: ParticleDraws) -> torch.Tensor:
    """Predict P futures of each action sequence.

    All particles start from the same state, so the first step takes one prediction by each member.

    Args:
        model: Dynamics snapshot; never modified.
        obs: Start, shape (O,).
        actions: Sequences, shape (N, H, A), normalised to [-1, 1].
        draws: Assignment of particles to members, and noise.

    Returns:
        Observations after each action, shape (H, P, N, O). Where a rollout diverged, its last observation is not finite.

    Raises:
        ShapeError: `actions` is not (N, H, A) for the H of `draws` and the A of the model, or the model does not predict
            (E, N, O).
    """
    horizon, particles = draws.order.shape
    if actions.ndim != 3 or actions.shape[1:] != (horizon, model.action_size):
        raise ShapeError(f'actions need shape (N, {horizon}, {model.action_size}), got {tuple(actions.shape)}')
    count = actions.shape[0]
    goes_alone = draws.recast is None and draws.propagation != 'expectation'
    if goes_alone and isinstance(model, TrajectoryModel):
        path = model.roll_out(obs, actions, draws.members, draws.noise.squeeze(2))
        if path is not None:
            return path
    path = torch.empty((horizon, particles, count, model.obs_size), dtype=obs.dtype, device=obs.device)
    _step_by_step(model, obs, actions, draws, path)
    # Carry NaN or infinity of any step into the last one; checking the last step is then enough.
    path[-1].add_(path.sum(dim=(0, 3)).unsqueeze(-1), alpha=0.0)
    return path


def _step_by_step(model: DynamicsModel, obs: torch.Tensor, actions: torch.Tensor, draws: ParticleDraws,
                  path: torch.Tensor) -> None:
    """Fill the path, shape (H, P, N, O), with one prediction a step.

    Raises:
        ShapeError: The first prediction has another shape.
    """
    horizon, particles, count, _ = path.shape
    mean, std = model.predict(obs.expand(model.ensemble_size, count, -1), actions[:, 0].expand(model.ensemble_size, count, -1))
    if mean.shape != (model.ensemble_size, count, model.obs_size) or std.shape != mean.shape:
        raise ShapeError('the model needs to predict mean and deviation of shape '
                         f'{(model.ensemble_size, count, model.obs_size)}, got {tuple(mean.shape)} and {tuple(std.shape)}')
    if draws.propagation == 'expectation':
        path[0, 0] = mean.mean(dim=0)
        for step in range(1, horizon):
            mean, _ = model.predict(path[step - 1].expand(model.ensemble_size, count, -1),
                                    actions[:, step].expand(model.ensemble_size, count, -1))
            path[step, 0] = mean.mean(dim=0)
        return
    torch.addcmul(mean[draws.members[0]], std[draws.members[0]], draws.noise[0], out=path[0])
    batch = (model.ensemble_size, particles // model.ensemble_size * count)
    for step in range(horizon):
        if step:
            order = draws.order[step]
            current = path[step - 1] if draws.propagation == 'tsinf' else path[step - 1, order]
            action = actions[:, step].expand(particles, count, -1).reshape(*batch, -1)
            mean, std = model.predict(current.reshape(*batch, -1), action)
            path[step, order] = torch.addcmul(mean.view(current.shape), std.view(current.shape), draws.noise[step, order])
        if draws.recast is not None:
            spread = path[step].std(dim=0, correction=0)
            path[step] = torch.addcmul(path[step].mean(dim=0), spread, draws.recast[step])


def disagreement(model: DynamicsModel, path: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Disagreement of the members along one path, shape (); 0 for a single member.

    It is the standard deviation over members of the mean prediction, in units of the model's output scale: root mean square over
    the entries of the observation, then the maximum over steps. The path (H, O) has the observation before each action (H, A).
    """
    members = model.ensemble_size
    mean, _ = model.predict(path.expand(members, -1, -1), actions.expand(members, -1, -1))
    spread = mean.std(dim=0, correction=0) / model.output_scale  # (H, O)
    return torch.linalg.vector_norm(spread, dim=1).max() / spread.shape[1]**0.5
