"""Plans of a few steps that improve on a policy, with the value of its critics at their end.

Value expansion (Feinberg et al. 2018, arXiv:1803.00101) in a planner, as in POLO (Lowrey et al. 2019, arXiv:1811.01848) and LOOP
(Sikchi et al. 2021, arXiv:2008.10066): candidates follow the policy with a deviation for a few steps and are worth the rewards on
the way and the critics' value after it.

Note:
    The best of many candidates is what model and critics overrate. So a candidate is compared with the policy itself, by each
    member of the ensemble and each critic, and counts for the mean advantage less some deviations of it; without one that is
    above 0, the policy acts.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from mbrl_ros.config import Config, setting
from mbrl_ros.errors import ConfigError, PlanningError
from mbrl_ros.planning.deadline import Deadline
from mbrl_ros.planning.optimisers.base import limit_changes
from mbrl_ros.planning.planner import Objective
from mbrl_ros.planning.propagation import disagreement
from mbrl_ros.types import DynamicsModel, Plan


class Guide(Protocol):
    """A policy and its critics, for one goal.

    Attributes:
        discount: Factor by which a reward shrinks with each step.
    """

    discount: float

    def action(self, obs: torch.Tensor) -> torch.Tensor:
        """The policy's action, shape (B, A), within [-1, 1], for observations of shape (B, O)."""

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """Expected discounted return of the policy by each critic, shape (C, B), for observations of shape (B, O)."""


@dataclasses.dataclass(frozen=True)
class ExpansionConfig(Config):
    """How plans improve on a policy."""

    horizon: int = setting(3, 'Control steps looked ahead (H).', low=1, high=50)
    num_candidates: int = setting(32, 'Candidates of an iteration (N), the policy itself among them.', low=3, high=10_000)
    num_elites: int = setting(6, 'Best candidates whose mean the next iteration searches around (K).', low=1, high=1000)
    num_iterations: int = setting(2, 'Iterations of a plan; fewer when a deadline comes first.', low=1, high=20)
    noise_std: float = setting(0.3, 'Standard deviation of deviations in the first iteration, normalised action; half of it in '
                                    'each next one.', low=1e-3, high=2.0)
    caution: float = setting(1.0, 'Standard deviations, over members and critics, that an advantage over the policy has to '
                                  'exceed.', low=0.0, high=100.0)

    def check(self) -> None:
        """Raise ConfigError when there are more elites than candidates."""
        if self.num_elites > self.num_candidates:
            raise ConfigError(f'ExpansionConfig.num_elites needs at most num_candidates {self.num_candidates}, '
                              f'got {self.num_elites}')


class ValueExpansion:
    """Looks for a deviation from a policy that is surely better.

    Args:
        config: Settings.
        max_change: Largest change of an action within one step, shape (A,); None for no limit.
        clock: Seconds, monotonic; read only to honour deadlines and to report the planning time.
    """

    def __init__(self, config: ExpansionConfig, max_change: np.ndarray | None = None, *,
                 clock: Callable[[], float] = time.perf_counter) -> None:
        self._config, self._clock = config, clock
        self._max_change = None if max_change is None else torch.as_tensor(max_change, dtype=torch.float32)
        self._generator = torch.Generator()

    def reset(self, seed: int) -> None:
        """Seed all randomness anew."""
        self._generator.manual_seed(seed)

    @torch.inference_mode()
    def plan(self, model: DynamicsModel, guide: Guide, obs: np.ndarray, objective: Objective, previous_action: np.ndarray,
             deadline_s: float | None = None) -> Plan:
        """Plan one control tick.

        Args:
            model: Ensemble of E members; never modified.
            guide: The policy and its critics.
            obs: Observation at the moment the first action takes effect, shape (O,).
            objective: Reward of a step.
            previous_action: Action in effect until then, shape (A,).
            deadline_s: Planning time allowed from the call on; None plans all iterations, which is repeatable.

        Raises:
            PlanningError: The policy's own path, reward or value is not finite.
        """
        config, deadline = self._config, Deadline(deadline_s, 0.0, self._clock)
        start, previous = (torch.as_tensor(values, dtype=torch.float32) for values in (obs, previous_action))
        around, std, best, best_score = torch.zeros(config.horizon, len(previous)), config.noise_std, None, -torch.inf
        done = num_nonfinite = 0
        while done < config.num_iterations and (not done or deadline.leaves(1)):
            deviations = self._deviations(around, std)
            actions, path, returns = self._rolled_out(model, guide, start, objective, previous, deviations)
            score = self._score(returns)
            if score[0] == -torch.inf:
                raise PlanningError("the policy's own path has no finite return; the model, the reward or the critics are not "
                                    'finite around the present state')
            num_nonfinite += int((score == -torch.inf).sum())
            order = score.argsort(descending=True, stable=True)
            chosen = order[0]
            if score[chosen] > best_score:
                best_score = float(score[chosen])
                best = actions[:, :, chosen].mean(dim=1), path[:, :, chosen].mean(dim=1), returns[:, chosen]
            elites = order[:config.num_elites]
            around, std = deviations[elites].mean(dim=0), 0.5 * std
            done += 1
            deadline.end_part()
        sequence, reached, values = best
        mean_obs = torch.cat([start[None], reached])
        return Plan(_array(sequence), float(values.mean()), float(values.std(correction=0)), _array(mean_obs),
                    float(disagreement(model, mean_obs[:-1], sequence)), _array(sequence[None]), _array(values.mean()[None]),
                    done, num_nonfinite, self._clock() - deadline.begin)

    def _deviations(self, around: torch.Tensor, std: float) -> torch.Tensor:
        """Deviations from the policy, shape (N, H, A): none, `around`, and samples around it that stay for the plan."""
        shape = self._config.num_candidates, 1, around.shape[1]
        deviations = around + std * torch.randn(shape, generator=self._generator)
        deviations[0], deviations[1] = 0.0, around
        return deviations

    def _rolled_out(self, model: DynamicsModel, guide: Guide, start: torch.Tensor, objective: Objective, previous: torch.Tensor,
                    deviations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Actions (H, E, N, A), the paths that each member predicts (H, E, N, O), and returns by member and critic (E C, N)."""
        members, count = model.ensemble_size, len(deviations)
        obs = start.expand(members * count, -1)
        before, total, weight, actions, path = previous, 0.0, 1.0, [], []
        for step in range(self._config.horizon):
            wanted = guide.action(obs).view(members, count, -1) + deviations[:, step]
            before = limit_changes(wanted.flatten(0, 1).unsqueeze(1), before, self._max_change).squeeze(1)
            action = before.view(members, count, -1)
            mean, _ = model.predict(obs.reshape(members, count, -1), action)
            actions.append(action)
            path.append(mean)
            total = total + weight * objective(mean, action)
            obs, weight = mean.flatten(0, 1), weight * guide.discount
        after = guide.value(obs).view(-1, members, count)
        return torch.stack(actions), torch.stack(path), (total + weight * after).flatten(0, 1)

    def _score(self, returns: torch.Tensor) -> torch.Tensor:
        """Advantage over candidate 0 less deviations, shape (N,), of returns (M, N); minus infinity where one is not finite."""
        advantage = returns - returns[:, :1]
        score = advantage.mean(dim=0) - self._config.caution * advantage.std(dim=0, correction=0)
        return torch.where(returns.isfinite().all(dim=0), score, -torch.inf)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()
