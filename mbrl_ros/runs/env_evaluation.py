"""How well a learned model does in a Gymnasium environment; `evaluation.evaluate` plays the episodes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_ros.agents.bundle import AgentBundle
from mbrl_ros.runs.env_loop import BUILT_IN, LEARNED, EnvLoop, EnvLoopConfig
from mbrl_ros.runs.evaluation import Outcome, common_figures
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
            ConfigError: As for `EnvLoop`.
            BundleError: The model cannot be read.
        """
        contract = AgentBundle.load(self.model).card.contract
        reward = self.reward or (LEARNED if 'reward' in contract.state_names else BUILT_IN)
        return EnvLoop(self.env_id, self.config.evaluated(), reward=reward, features=features_name(contract.space),
                       render=self.pictures)

    def summary(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """Figures over all episodes, with Student's 95 % interval of the mean return; NaN for a single episode."""
        from scipy.stats import sem, t

        returns = np.array([outcome.episode_return for outcome in outcomes])
        half = sem(returns) * t.ppf(0.975, len(returns) - 1) if len(returns) > 1 else float('nan')
        told = [outcome.success for outcome in outcomes if outcome.success is not None]
        return {
            'env': self.env_id, 'episodes': len(outcomes), 'mean_return': float(returns.mean()),
            'ci95': [float(returns.mean() - half), float(returns.mean() + half)], 'min_return': float(returns.min()),
            'max_return': float(returns.max()), 'median_return': float(np.median(returns)),
            'mean_steps': float(np.mean([outcome.steps for outcome in outcomes])),
            'success_rate': sum(told) / len(told) if told else None,
            **common_figures(self, outcomes),
        }

    def in_words(self, figures: Mapping[str, Any]) -> list[str]:
        """See `AnyEvaluation.in_words`."""
        (low, high), rate = figures['ci95'], figures['success_rate']
        over = 'over one episode' if figures['episodes'] == 1 else (
            f'over {figures["episodes"]} episodes (95 % interval {low:.1f} to {high:.1f}; '
            f'{figures["min_return"]:.1f} to {figures["max_return"]:.1f})')
        told = [] if rate is None else [f'{100 * rate:.0f} % of them succeeded, by the environment\'s word']
        return [f'{self.env_id}: mean return {figures["mean_return"]:.1f} {over}', *told,
                f'mean steps {figures["mean_steps"]:.0f}']
