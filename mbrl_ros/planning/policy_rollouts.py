"""Plans that are chosen among rollouts of a policy, instead of being searched for.

A search finds what the model is wrong about, such as objects that move to the goal by themselves. Where a policy imitates
demonstrations, all candidates resemble what was shown, and the model only has to tell them apart; the best of them goes on where
the policy's mean would stall. Wang and Ba 2020 (POPLIN, arXiv:1906.08649) let a policy propose to a search.

Note:
    POPLIN goes on searching from the proposals; here they are the only candidates.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import PlanningError
from mbrl_ros.planning.deadline import Deadline
from mbrl_ros.planning.optimisers.base import limit_changes
from mbrl_ros.planning.planner import Objective
from mbrl_ros.planning.propagation import disagreement
from mbrl_ros.planning.returns import particle_returns
from mbrl_ros.types import DynamicsModel, Plan


class ProposingPolicy(Protocol):
    """What can propose."""

    def actions(self, obs: torch.Tensor) -> torch.Tensor:
        """Action of each of E members, shape (E, B, A), in [-1, 1], for observations of shape (B, O)."""


@dataclasses.dataclass(frozen=True)
class PolicyRolloutsConfig(Config):
    """How an agent plans that has a policy."""

    num_rollouts: int = setting(32, 'Rollouts to choose among: of the members\' mean, of each member, and of members with noise.',
                                low=1, high=10_000)
    horizon: int = setting(12, 'Control steps looked ahead (H); fewer when a deadline comes first.', low=1, high=200)
    noise_std: float = setting(0.15, 'Standard deviation of the noise, normalised action.', low=0.0, high=2.0)
    noise_steps: int = setting(2, 'Steps for which noise stays the same.', low=1, high=200)


class PolicyRollouts:
    """Chooses the best of a policy's rollouts through the ensemble's mean.

    Args:
        config: Settings.
        device: Device of models and policies.
        max_change: Largest change of an action within one step, shape (A,); None for no limit.
        clock: Seconds, monotonic; read only to honour deadlines and to report the planning time.
    """

    def __init__(self, config: PolicyRolloutsConfig, device: torch.device | str = 'cpu', max_change: np.ndarray | None = None, *,
                 clock: Callable[[], float] = time.perf_counter) -> None:
        self._config, self._clock = config, clock
        self._max_change = None if max_change is None else torch.as_tensor(max_change, dtype=torch.float32, device=device)
        self._generator, self._finish_s = torch.Generator(device), 0.0

    def reset(self, seed: int) -> None:
        """Seed all randomness anew."""
        self._generator.manual_seed(seed)

    @torch.inference_mode()
    def plan(self, model: DynamicsModel, policy: ProposingPolicy, obs: np.ndarray, objective: Objective,
             previous_action: np.ndarray, deadline_s: float | None = None) -> Plan:
        """Plan one control tick; of equal rollouts the mean's is taken.

        All rollouts advance together, and are compared as far as they have come. The first step is always made, whatever the
        deadline. Another one is made only if there is time left for the slowest step so far and for the end of the last plan.

        Args:
            model: Dynamics snapshot; never modified.
            policy: Proposes.
            obs: Observation at the moment the first action takes effect, shape (O,).
            objective: Reward of a step; its sum over the horizon is maximised.
            previous_action: Action in effect until then, shape (A,).
            deadline_s: Planning time allowed from the call on. None looks ahead as far as configured, which is repeatable.

        Raises:
            PlanningError: No rollout has a finite return, or the deadline is NaN.
            ShapeError: The objective's rewards do not fit.
        """
        device = self._generator.device
        deadline = Deadline(deadline_s, self._finish_s, self._clock, device)
        start, previous = (torch.as_tensor(values, dtype=torch.float32, device=device) for values in (obs, previous_action))
        actions, path = self._rollouts(model, policy, start, previous, deadline)
        returns = particle_returns(objective, path, actions, start, model)[0]
        values = torch.where(torch.isfinite(returns), returns, -torch.inf)
        order = torch.sort(values, descending=True, stable=True).indices
        num_nonfinite = int((values == -torch.inf).sum())
        if num_nonfinite == len(values):
            raise PlanningError(f'none of {num_nonfinite} rollouts of the policy has a finite return; '
                                'the model or the reward is not finite around the present state')
        best = order[0]
        mean_obs = torch.cat([start.unsqueeze(0), path[:, 0, best]])
        kept = order[:len(order) - num_nonfinite]
        spread = disagreement(model, mean_obs[:-1], actions[best])
        plan = Plan(_array(actions[best]), float(values[best]), 0.0, _array(mean_obs), float(spread),
                    _array(actions[kept]), _array(values[kept]), 1, num_nonfinite, self._clock() - deadline.begin)
        self._finish_s = plan.elapsed_s - (deadline.ended - deadline.begin)
        return plan

    def _rollouts(self, model: DynamicsModel, policy: ProposingPolicy, start: torch.Tensor,
                  previous: torch.Tensor, deadline: Deadline) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions, shape (N, h, A), of h steps in time, and the path that they lead along, shape (h, 1, N, O)."""
        config, count = self._config, self._config.num_rollouts
        obs, actions, path, index = start.expand(count, -1), [], [], torch.arange(count, device=start.device)
        for step in range(config.horizon):
            if step and not deadline.leaves(1):
                break
            proposed = policy.actions(obs)  # (E, N, A)
            members = len(proposed)
            # Rollout 0 is of the mean, then members take turns; noise begins with the second turn.
            own = proposed[(index - 1) % members, index]
            if step % config.noise_steps == 0:
                noise = config.noise_std * torch.randn(own.shape, generator=self._generator, device=own.device)
                noise[:members + 1] = 0.0
            own = torch.where(index.unsqueeze(1) == 0, proposed.mean(dim=0), own) + noise
            previous = limit_changes(own.unsqueeze(1), previous, self._max_change).squeeze(1)
            actions.append(previous)
            copies = (part.expand(model.ensemble_size, -1, -1).contiguous() for part in (obs, previous))
            obs = model.predict(*copies)[0].mean(dim=0)
            path.append(obs)
            deadline.end_part()
        path = torch.stack(path).unsqueeze(1)
        # Carry NaN or infinity of any step into the last one.
        path[-1].add_(path.sum(dim=(0, 3)).unsqueeze(-1), alpha=0.0)
        return torch.stack(actions, dim=1), path


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().double().numpy()
