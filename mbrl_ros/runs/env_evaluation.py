"""How well a learned model does in a Gymnasium environment; `evaluation.evaluate` plays the episodes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.environments.adapter import FlatEnvironment
from mbrl_ros.runs.env_loop import BUILT_IN, LEARNED, EnvLoop
from mbrl_ros.runs.env_settings import EnvLoopConfig
from mbrl_ros.runs.evaluation import Outcome, common_figures, wilson_interval
from mbrl_ros.spaces.outcome import features_name


@dataclasses.dataclass(frozen=True)
class EnvEvaluation:
    """Evaluation of a model in an environment; implements `evaluation.AnyEvaluation`.

    Attributes:
        env_id: As for `gymnasium.make`.
        config: Settings of environment and agent.
        model: File of the model.
        seed: Seed of the environment's chance and of the plans.
        reward: `module:function` that the model was learned with; None for a learned or built-in reward.
        pictures: Whether pictures will be drawn.
    """

    env_id: str
    config: EnvLoopConfig
    model: Path
    seed: int = 0
    reward: str | None = None
    pictures: bool = False

    def loop(self) -> EnvLoop:
        """The runner that plays the episodes; the model says which features it takes, and whether its reward is learned.

        Raises:
            ConfigError: As for `FlatEnvironment` and `EnvLoop`.
            BundleError: The model cannot be read.
        """
        contract = AgentBundle.load(self.model).card.contract
        reward = self.reward or (LEARNED if 'reward' in contract.state_names else BUILT_IN)
        return EnvLoop(FlatEnvironment(self.env_id, render=self.pictures), self.config.evaluated(), reward=reward,
                       features=features_name(contract.space))

    def summary(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Figures over all episodes, with Student's 95 % interval of the mean return; NaN for a single episode.

        The interval of the success rate is Wilson's. Figures of success are None if no episode tells it; if only some do, the
        others count as failures. `of_a_way` are those of the episodes that did not begin at the goal; None if none did, or that
        is not known.
        """
        from scipy.stats import sem, t

        returns = np.array([outcome.episode_return for outcome in outcomes])
        half = sem(returns) * t.ppf(0.975, len(returns) - 1) if len(returns) > 1 else float('nan')
        is_told = any(outcome.success is not None for outcome in outcomes)
        ways = [outcome for outcome in outcomes if not outcome.began_at_goal]
        return {
            'env': self.env_id, 'episodes': len(outcomes), 'mean_return': float(returns.mean()),
            'ci95': [float(returns.mean() - half), float(returns.mean() + half)], 'min_return': float(returns.min()),
            'max_return': float(returns.max()), 'median_return': float(np.median(returns)),
            'mean_steps': float(np.mean([outcome.steps for outcome in outcomes])),
            **(_successes(outcomes) if is_told else dict.fromkeys(('successes', 'success_rate', 'success_ci95'))),
            'of_a_way': {'episodes': len(ways), **_successes(ways)} if is_told and 0 < len(ways) < len(outcomes) else None,
            **common_figures(self, outcomes),
        }

    def in_words(self, figures: Mapping[str, Any]) -> list[str]:
        """See `AnyEvaluation.in_words`."""
        low, high = figures['ci95']
        over = 'over one episode' if figures['episodes'] == 1 else (
            f'over {figures["episodes"]} episodes (95 % interval {low:.1f} to {high:.1f}; '
            f'{figures["min_return"]:.1f} to {figures["max_return"]:.1f})')
        lines = [f'{self.env_id}: mean return {figures["mean_return"]:.1f} {over}', f'mean steps {figures["mean_steps"]:.0f}']
        if figures['successes'] is not None:
            lines.insert(1, f'{figures["successes"]} of {figures["episodes"]} episodes succeeded ({_rate_in_words(figures)})')
        if way := figures['of_a_way']:
            lines.insert(2, f'of the {way["episodes"]} that did not begin at the goal {way["successes"]} ({_rate_in_words(way)})')
        return lines


def _successes(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Number and rate of successes, with Wilson's 95 % interval, of at least one outcome."""
    successes = sum(bool(outcome.success) for outcome in outcomes)
    return {'successes': successes, 'success_rate': successes / len(outcomes),
            'success_ci95': list(wilson_interval(successes, len(outcomes)))}


def _rate_in_words(figures: Mapping[str, Any]) -> str:
    rate, least, most = (100 * share for share in (figures['success_rate'], *figures['success_ci95']))
    return f'{rate:.0f} %, 95 % interval {least:.0f} to {most:.0f} %'
